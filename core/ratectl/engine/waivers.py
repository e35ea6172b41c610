"""Waivers: scopes at and below which the kill switch makes an engine refuse nothing."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from ratectl.engine.scopes import lineage

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NO_WAIVERS", "Waiver", "Waivers"]

Waiver = Literal["open", "shadow"]
"""``open``: no limit is evaluated or counts. ``shadow``: all limits are evaluated and charged, and
refusals are only counted."""


class Waivers:
    """Waivers by scope. Immutable; False in a condition if there is none."""

    __slots__ = ("by_scope",)

    def __init__(self, by_scope: Mapping[str, Waiver]) -> None:
        self.by_scope: Mapping[str, Waiver] = MappingProxyType(dict(by_scope))

    def __bool__(self) -> bool:
        return bool(self.by_scope)

    def at(self, scope: object) -> Waiver | None:
        """Return the waiver at ``scope``; ``open`` beats ``shadow`` at or above it; None for none.

        A value that is no text is taken as ``/``.
        """
        if not self.by_scope:
            return None
        waiver: Waiver | None = None
        for at in lineage(scope if isinstance(scope, str) else "/"):
            here = self.by_scope.get(at)
            if here == "open":
                return here
            waiver = waiver or here
        return waiver


NO_WAIVERS: Final = Waivers({})
