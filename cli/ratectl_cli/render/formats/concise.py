"""One line for each finding, as editors and ``grep`` read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl_cli.framework.terminal import safe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ratectl.diagnostics import Diagnostic

__all__ = ["concise"]


def concise(found: Iterable[Diagnostic]) -> str:
    """``file:line:column: error[RC201]: message (hint)``."""
    return "".join(f"{safe(str(each))}\n" for each in found)
