"""Concise findings: one line each, as editors and ``grep`` read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.runtime.wording import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ratectl.diagnostics import Diagnostic

__all__ = ["concise"]


def concise(findings: Iterable[Diagnostic]) -> str:
    """Return lines such as ``file:line:column: error[RC201]: message (hint)``."""
    return "".join(f"{printable(str(finding))}\n" for finding in findings)
