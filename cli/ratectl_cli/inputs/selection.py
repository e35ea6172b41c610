"""Selection of findings by ``--select`` and ``--ignore``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ratectl.errors import UsageError
from ratectl.policy.codes import CODES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ratectl.diagnostics import Diagnostic

__all__ = ["Selected", "Selection"]


@dataclass(frozen=True, slots=True)
class Selected:
    """Findings that are shown, and findings that are hidden."""

    shown: tuple[Diagnostic, ...]
    hidden: tuple[Diagnostic, ...]
    insisted: int
    """Number of findings that cannot be hidden: errors of RC1xx."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Codes and prefixes of codes, such as ``RC301`` and ``RC3``."""

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()

    @classmethod
    def of(cls, select: Sequence[str], ignore: Sequence[str]) -> Selection:
        """Return the selection of the options; each value may contain several codes, with commas.

        :raises UsageError: a value is no prefix of a code.
        """
        return cls(_prefixes("--select", select), _prefixes("--ignore", ignore))

    def wants(self, code: str) -> bool:
        """Return True if findings with this code are selected."""
        return (not self.select or code.startswith(self.select)) and not (
            self.ignore and code.startswith(self.ignore)
        )

    def apply(self, findings: Iterable[Diagnostic]) -> Selected:
        """Keep selected findings, and errors of RC1xx: such a file cannot be checked further."""
        shown, hidden, insisted = [], [], 0
        for finding in findings:
            if self.wants(finding.code):
                shown.append(finding)
            elif finding.severity == "error" and finding.code.startswith("RC1"):
                shown.append(finding)
                insisted += 1
            else:
                hidden.append(finding)
        return Selected(tuple(shown), tuple(hidden), insisted)


def _prefixes(option: str, given: Sequence[str]) -> tuple[str, ...]:
    prefixes = []
    for text in given:
        for word in text.split(","):
            prefix = word.strip().upper()
            if not prefix or not any(code.startswith(prefix) for code in CODES):
                raise UsageError(
                    f"{option} {word.strip()!r} is no code and no prefix of a code; "
                    "`ratectl rule` lists them"
                )
            prefixes.append(prefix)
    return tuple(prefixes)
