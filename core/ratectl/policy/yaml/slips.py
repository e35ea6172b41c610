"""Slips of the hand that other readers take for something else: a missing colon or separator."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.policy.yaml.text import cut, quoted, shown

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

__all__ = [
    "NO_SPACE_AFTER_COLON",
    "Slip",
    "colon_missing",
    "document_begins",
    "no_value_hint",
    "separator_missing",
]

NO_SPACE_AFTER_COLON: Final = re.compile(r"(?P<key>[A-Za-z][\w.-]*):(?!//)(?P<value>[^\s:,}\]]+)")
"""Field without a space after its colon; does not match URLs."""

_HEADER: Final = ("apiVersion", "kind", "scope")
_DESCRIPTIVE: Final = frozenset({*_HEADER, "description", "owner"})

_KEY: Final = r"(?P<key>[A-Za-z_][\w.-]*)"
_BEFORE_BRACKET: Final = re.compile(rf"{_KEY} *(?P<value>[{{\[].*)")
_BEFORE_VALUE: Final = re.compile(rf"{_KEY}(?: *= *| +)(?P<value>\S.*)")


class Slip(NamedTuple):
    """Message and hint about a slip."""

    message: str
    hint: str


def colon_missing(key: str, *, flow: bool) -> Slip | None:
    """Return the slip of a key that contains its value, like ``spike {rate`` or ``rate:10/s``.

    ``flow``: the key is in braces, and has no value.
    """
    if flow and NO_SPACE_AFTER_COLON.fullmatch(key):
        name = key.partition(":")[0]
        return Slip(f"no space after the colon of {quoted(name)}", f"write '{cut(name)}: …'")
    match = _BEFORE_BRACKET.fullmatch(key) or (_BEFORE_VALUE.fullmatch(key) if flow else None)
    if match is None:
        return None
    name, value = cut(match["key"]), match["value"]
    rest = f"{value[0]}…" if value[0] in "{[" else shown(value)
    return Slip(f"no colon after {quoted(name)}", f"write '{name}: {rest}'")


def document_begins(key: str, keys: Collection[str]) -> bool:
    """Return True if a key that a document already has is probably the start of the next one."""
    if key == "apiVersion":
        return "scope" in keys
    return key in _HEADER and not _DESCRIPTIVE.issuperset(keys)


def separator_missing(first_line: str) -> Slip:
    """Return the slip of a document that begins in another one; ``first_line``: what it lacks."""
    between = f", and {first_line} between them" if first_line else ""
    return Slip(
        "another document begins here, and no --- separates it from the one above",
        f"write --- on a line of its own above this one{between}",
    )


def no_value_hint(lines: Sequence[str], line: int, column: int, *, flow: bool) -> str:
    """Return what to do about a key without a value; ``line`` and ``column`` count from 1."""
    below = next((text for text in lines[line:] if text.strip()), "") if not flow else ""
    indent = len(below) - len(below.lstrip(" "))
    if below and indent == column - 1 and not below.startswith(("---", "...")):
        return "write a value after the colon, or indent the lines below if they belong to it"
    return "write a value after the colon, or delete it"
