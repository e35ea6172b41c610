"""Scopes at and below which an engine is to refuse nothing for a while: the kill switch's work."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NO_WAIVERS", "Waiver", "Waivers"]

Waiver = Literal["open", "shadow"]
"""``open``: no limit is asked, and none counts. ``shadow``: all are, and those that would refuse
say so in their counts."""


class Waivers:
    """What is waived, by scope. Never changes once made; false where nothing is."""

    __slots__ = ("by_scope",)

    def __init__(self, by_scope: Mapping[str, Waiver]) -> None:
        self.by_scope: Mapping[str, Waiver] = MappingProxyType(dict(by_scope))

    def __bool__(self) -> bool:
        return bool(self.by_scope)

    def at(self, scope: object) -> Waiver | None:
        """What holds at ``scope``: of all at or above it, ``open`` if any is; None for nothing.

        What is no text is no scope, and below ``/`` all the same.
        """
        if not self.by_scope:
            return None
        at = scope if isinstance(scope, str) else "/"
        found: Waiver | None = None
        while True:
            here = self.by_scope.get(at)
            if here == "open":
                return here
            found = found or here
            if at in ("/", ""):
                return found
            at = at.rpartition("/")[0] or "/"


NO_WAIVERS: Final = Waivers({})
