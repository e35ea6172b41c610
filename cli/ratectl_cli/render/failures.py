"""Errors as text and as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratectl_cli.errors import BUG
from ratectl_cli.framework.text import bold, dim

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl_cli.errors import Failure
    from ratectl_cli.framework.terminal import Stream
    from ratectl_cli.framework.text import Block

__all__ = ["failure_blocks", "failure_data"]


def failure_blocks(failure: Failure, stream: Stream, *, unfold: bool = False) -> Iterator[Block]:
    """What a person reads on standard error."""
    if failure.diagnostics:
        from ratectl_cli.render.diagnostics import diagnostic_blocks

        yield from diagnostic_blocks(failure.diagnostics, stream, unfold=unfold)
    word = "internal error: " if failure.exit_code == BUG else "error: "
    yield [bold(word, "red"), failure.message]
    if failure.hint:
        yield [dim("  hint: "), failure.hint]


def failure_data(failure: Failure) -> dict[str, Any]:
    """What a program reads."""
    diagnostics = []
    if failure.diagnostics:
        from ratectl_cli.render.diagnostics import diagnostic_data

        diagnostics = [diagnostic_data(found) for found in failure.diagnostics]
    return {
        "code": failure.code,
        "message": failure.message,
        "hint": failure.hint,
        "exit_code": failure.exit_code,
        "diagnostics": diagnostics,
    }
