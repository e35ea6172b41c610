"""Codes of findings and their pages, as text and as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratectl.policy.codes import CODES
from ratectl.policy.rules import family, page
from ratectl_cli.framework.text import bold, dim

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl_cli.framework.text import Block

__all__ = ["rule_blocks", "rule_data", "rules_blocks", "rules_data"]


def rules_data() -> dict[str, Any]:
    """Return all codes for programs."""
    return {"rules": [_line_data(code) for code in sorted(CODES)]}


def rules_blocks() -> Iterator[Block]:
    """Yield a line for each code."""
    for code in sorted(CODES):
        yield [bold(code), f"  {CODES[code]}"]
    yield ""
    yield dim("ratectl rule CODE explains one")


def rule_data(code: str) -> dict[str, Any]:
    """Return the page of a code for programs."""
    known = page(code)
    names = ("meaning", "why", "bad", "good")
    return {**_line_data(code), **{name: getattr(known, name, None) for name in names}}


def rule_blocks(code: str) -> Iterator[Block]:
    """Yield the page of a code for people."""
    known = page(code)
    yield [bold(f"{code}: {CODES[code]}"), dim(f"  ({family(code)})")]
    yield ""
    for text in known.text.splitlines() if known else ("This code has no page yet.",):
        yield bold(text) if text in ("Wrong:", "Right:") else text


def _line_data(code: str) -> dict[str, Any]:
    return {"code": code, "title": CODES[code], "family": family(code)}
