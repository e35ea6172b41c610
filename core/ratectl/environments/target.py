"""Values that the whole package shares: protection, and the store that a command uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ratectl.runtime.urls import shown
from ratectl.stores import open_store
from ratectl.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path

    from ratectl.stores.base import Store

__all__ = ["UNPROTECTED", "Protection", "Target", "named"]


@dataclass(frozen=True, slots=True)
class Protection:
    """Conditions that a change of an environment has to meet."""

    confirm: bool = False
    """True if whoever changes it has to write its name."""
    sign: bool = False
    """True if every generation, kill switch and reset has to be signed."""

    def __or__(self, other: Protection) -> Protection:
        return Protection(self.confirm or other.confirm, self.sign or other.sign)

    def __bool__(self) -> bool:
        return self.confirm or self.sign

    def __str__(self) -> str:
        """Return text as in ``ratectl.yaml``."""
        parts = [text for text, on in zip(_FIELDS, (self.confirm, self.sign), strict=True) if on]
        return ", ".join(parts) or "none"

    def without(self, other: Protection) -> Protection:
        """Return the conditions that ``other`` lacks."""
        return Protection(self.confirm and not other.confirm, self.sign and not other.sign)

    def data(self) -> dict[str, Any]:
        """Return the protection for programs."""
        return {"confirm": self.confirm, "sign_required": self.sign}


_FIELDS: Final = ("confirm: true", "sign: required")
UNPROTECTED: Final = Protection()

_SQLITE: Final = "sqlite:///"


@dataclass(frozen=True, slots=True)
class Target:
    """The store that a command uses."""

    url: str
    environment: str | None = None
    """Name in ``ratectl.yaml``; None for a store that was named by its URL."""
    protection: Protection = UNPROTECTED
    """Protection that ``ratectl.yaml`` declares."""
    chosen_by: str = "the caller"
    """What chose it, such as ``-e``, for people."""
    makes_folder: bool = False
    """True for the SQLite file in the state directory, which the first write creates."""

    def __str__(self) -> str:
        return named(self.environment, self.url)

    def open(self, seconds: float) -> Store:
        """Open the store. ``seconds`` bounds each call.

        :raises UsageError: the URL names no store.
        """
        if self.makes_folder:
            return SqliteStore(self.url.removeprefix(_SQLITE), timeout=seconds, makes_folder=True)
        return open_store(self.url, timeout=seconds)

    @classmethod
    def file(cls, path: Path) -> Target:
        """Return the SQLite file that is used if nothing names a store."""
        return cls(f"{_SQLITE}{path}", chosen_by="default", makes_folder=True)


def named(environment: str | None, url: str) -> str:
    """Return ``production (etcd://…)``, or the URL alone; without secrets."""
    return shown(url) if environment is None else f"{environment} ({shown(url)})"
