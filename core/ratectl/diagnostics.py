"""Findings about policy files: a place, a message and a hint for the repair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Diagnostic", "Severity", "Span"]

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A place in a file. Lines and columns count from 1; columns count characters.

    ``end_column`` is one past the last character on the same line.
    """

    file: str
    line: int = 0
    column: int = 0
    end_column: int = 0

    @property
    def begin(self) -> tuple[int, int]:
        """Line and column of the first character."""
        return self.line, self.column

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """Finding with a stable ``code`` (``RC1xx`` syntax, ``RC2xx`` semantics, ``RC3xx`` lint)."""

    code: str
    message: str
    span: Span
    severity: Severity = "error"
    hint: str | None = None
    """What to write instead: a short imperative sentence."""
    notes: tuple[str, ...] = ()
    """Related places and facts, one sentence each."""
    source_line: str | None = None
    """The text of the line that ``span`` points into, without its line end."""

    def __str__(self) -> str:
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.span}: {self.severity}[{self.code}]: {self.message}{hint}"

    @property
    def sort_key(self) -> tuple[Span, str, str]:
        """Key that sorts findings by file, line, column and then code."""
        return (self.span, self.code, self.message)
