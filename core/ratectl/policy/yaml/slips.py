"""Slips of the hand that other readers take for something else: a missing colon or separator."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ratectl.policy.language.model import API_VERSION
from ratectl.policy.yaml.text import cut, quoted, shown

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

__all__ = [
    "NO_SPACE_AFTER_COLON",
    "Slip",
    "colon_missing",
    "copied",
    "curly_quotes",
    "document_begins",
    "has_version",
    "no_value",
    "separator_missing",
    "value_missing",
    "written_short",
]

NO_SPACE_AFTER_COLON: Final = re.compile(r"(?P<key>[A-Za-z][\w.-]*):(?!//)(?P<value>[^\s:,}\]]+)")
"""Field without a space after its colon; does not match URLs."""

_PARTS: Final = ("limits", "budgets", "caps", "overrides")
_ENTRY: Final = re.compile(r"(?P<name>[A-Za-z0-9][\w-]*):(?: *| +\{.*)", re.ASCII)
"""Line that begins a limit."""

_CURLY: Final = re.compile(r"(?P<open>[“”„‘’])(?P<text>[^\"\\]+)(?P<close>[“”‘’])")

_VERSION_LINE: Final = f"apiVersion: {API_VERSION}"
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


def has_version(key: str, lines: Sequence[str]) -> bool:
    """Return True if a document that begins with this key, and these lines, has a version."""
    return key == "apiVersion" or _VERSION_LINE in lines


def separator_missing(*, versioned: bool) -> Slip:
    """Return the slip of a document that begins in another one."""
    between = "" if versioned else f", and {_VERSION_LINE} between them"
    return Slip(
        "another document begins here, and no --- separates it from the one above",
        f"write --- on a line of its own above this one{between}",
    )


def no_value(key: str, lines: Sequence[str], line: int, column: int, *, flow: bool) -> Slip:
    """Return the slip of a key without a value; ``line`` and ``column`` count from 1."""
    message = f"{quoted(key)} has no value"
    below = next((text for text in lines[line:] if text.strip()), "") if not flow else ""
    indent = len(below) - len(below.lstrip(" "))
    if below and indent == column - 1 and not below.startswith(("---", "...")):
        entry = _ENTRY.fullmatch(below.strip())
        if key in _PARTS and entry is not None and entry["name"] not in _PARTS:
            name = cut(entry["name"])
            hint = f"put two spaces before {name}, and before the other lines that belong to {key}"
            return Slip(f"{message}: the line below it is not indented", hint)
        hint = f"write a value after {shown(key)}:, or indent the lines below if they belong to it"
        return Slip(message, hint)
    return value_missing(key)


def value_missing(key: str) -> Slip:
    """Return the slip of a key with nothing after its colon."""
    name = shown(key)
    like = ", like per: client" if key == "per" else ""
    return Slip(
        f"{quoted(key)} has no value", f"write a value after {name}:{like}, or delete {name}"
    )


def curly_quotes(value: object) -> Slip | None:
    """Return the slip of a text in curly quotes; None for other values."""
    match = _CURLY.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    text = shown(match["text"])
    return Slip(
        f"the quotes {match['open']} {match['close']} are not YAML quotes",
        f'write {text}, or "{text}" with straight quotes',
    )


def copied(fields: Any) -> str | None:
    """Return the hint to copy these fields; None if they are not all short."""
    if not isinstance(fields, dict):
        return None
    short = {shown(key): written_short(value) for key, value in fields.items()}
    if not short or None in short.values():
        return None
    return f"copy the fields here: {', '.join(f'{key}: {text}' for key, text in short.items())}"


def written_short(value: Any) -> str | None:
    """Return a value as it may be written; None for mappings and other long ones."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return f"[{shown(', '.join(value))}]"
    return shown(str(value)) if isinstance(value, str | int | float) else None
