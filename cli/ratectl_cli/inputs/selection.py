"""Which findings are shown and count: ``--select`` and ``--ignore``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ratectl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ratectl.diagnostics import Diagnostic

__all__ = ["Selected", "Selection"]


@dataclass(frozen=True, slots=True)
class Selected:
    """Findings, sorted into those that count and the others."""

    shown: tuple[Diagnostic, ...]
    hidden: tuple[Diagnostic, ...]
    insisted: int
    """How many are shown although they were not wanted: errors of RC1xx."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Codes and beginnings of codes, such as ``RC301`` and ``RC3``."""

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()

    @classmethod
    def of(cls, select: Sequence[str], ignore: Sequence[str]) -> Selection:
        """What the options say; each may hold several, with commas between.

        :raises UsageError: one names no code.
        """
        return cls(_prefixes("--select", select), _prefixes("--ignore", ignore))

    def wants(self, code: str) -> bool:
        """Whether findings of this code are wanted."""
        return (not self.select or code.startswith(self.select)) and not (
            self.ignore and code.startswith(self.ignore)
        )

    def apply(self, found: Iterable[Diagnostic]) -> Selected:
        """Keep what is wanted, and errors of RC1xx: what cannot be read cannot be judged."""
        shown, hidden, insisted = [], [], 0
        for each in found:
            if self.wants(each.code):
                shown.append(each)
            elif each.severity == "error" and each.code.startswith("RC1"):
                shown.append(each)
                insisted += 1
            else:
                hidden.append(each)
        return Selected(tuple(shown), tuple(hidden), insisted)


def _prefixes(option: str, given: Sequence[str]) -> tuple[str, ...]:
    from ratectl.policy.codes import CODES

    found = []
    for text in given:
        for word in text.split(","):
            prefix = word.strip().upper()
            if not prefix or not any(code.startswith(prefix) for code in CODES):
                raise UsageError(
                    f"{option} {word.strip()!r} is no code and no beginning of one; "
                    "`ratectl rule` lists them"
                )
            found.append(prefix)
    return tuple(found)
