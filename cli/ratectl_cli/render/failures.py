"""Errors as text and as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratectl_cli.errors import BUG, MORE
from ratectl_cli.framework.text import bold, dim
from ratectl_cli.render.diagnostics import diagnostic_blocks, diagnostic_data

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl_cli.errors import Failure
    from ratectl_cli.framework.terminal import Stream
    from ratectl_cli.framework.text import Block

__all__ = ["failure_blocks", "failure_data"]


def failure_blocks(failure: Failure, stream: Stream, *, unfold: bool = False) -> Iterator[Block]:
    """Yield an error for people, on standard error."""
    if failure.diagnostics:
        yield from diagnostic_blocks(failure.diagnostics, stream, unfold=unfold)
    if failure.unread:
        return  # the findings say all
    word = "internal error: " if failure.exit_code == BUG else "error: "
    yield [bold(word, "red"), failure.message]
    if failure.hint:
        yield [dim("  hint: "), failure.hint.removesuffix(MORE) if unfold else failure.hint]
    if unfold and failure.detail:
        yield [dim("  detail: "), failure.detail]


def failure_data(failure: Failure) -> dict[str, Any]:
    """Return an error for programs."""
    return {
        "code": failure.code,
        "message": failure.message,
        "hint": failure.hint,
        "exit_code": failure.exit_code,
        "diagnostics": [diagnostic_data(finding) for finding in failure.diagnostics],
    }
