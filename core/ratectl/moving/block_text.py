"""YAML in blocks, as people write it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.policy.format.tree_text import flow_text

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["block_text"]


def block_text(value: object) -> str:
    """Return a mapping as YAML: one line for each value."""
    return "".join(f"{line}\n" for line in _lines(value))


def _lines(value: object) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _field(flow_text(str(key)), inner)
    elif isinstance(value, list) and value:
        for item in value:
            for number, line in enumerate(_lines(item)):
                yield f"{'  ' if number else '- '}{line}"
    else:
        yield flow_text(value)


def _field(key: str, value: object) -> Iterator[str]:
    if isinstance(value, dict | list) and value:
        yield f"{key}:"
        yield from (f"  {line}" for line in _lines(value))
    else:
        yield f"{key}: {flow_text(value)}"
