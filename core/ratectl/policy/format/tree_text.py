"""A policy tree as YAML that says the same when it is read again.

Written by hand rather than by a YAML library: those quote for other readers' rules, and ours is
strict about words and numbers that YAML readers disagree on.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.policy.language.model import Exemption, Policy, PolicyTree

__all__ = ["document_data", "flow_text", "policy_lines"]

_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_/-]*(?:\.[A-Za-z0-9_/-]+)*|/[A-Za-z0-9._/-]*")
_RATE: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?/[0-9]*[a-z]+")
_WORDS: Final = frozenset(
    ("y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf")
)


def policy_lines(tree: PolicyTree) -> Iterator[str]:
    """The lines of one document for each scope, by scope, then of each exception."""
    documents: list[tuple[str, Policy | Exemption]] = [
        ("Policy", policy) for _, policy in sorted(tree.policies.items())
    ]
    documents += (("Exception", exception) for exception in tree.exceptions)
    for number, (kind, document) in enumerate(documents):
        if number:
            yield "---"
        yield "apiVersion: ratectl/v1"
        yield f"kind: {kind}"
        for name, value in document_data(document).items():
            if name in ("limits", "caps", "budgets"):
                yield f"{name}:"
                yield from _named(value, "  ")
            elif name == "overrides":
                yield "overrides:"
                for override in value:
                    yield from _override(override)
            else:
                yield f"{name}: {flow_text(value)}"


def document_data(document: Policy | Exemption) -> dict[str, Any]:
    """Return a document as JSON data."""
    return document.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)


def _override(override: dict[str, Any]) -> Iterator[str]:
    for number, (name, value) in enumerate(override.items()):
        start = "    " if number else "  - "
        if name == "limits":
            yield f"{start}limits:"
            yield from _named(value, "      ")
        else:
            yield f"{start}{name}: {flow_text(value)}"


def _named(limits: dict[str, Any], indent: str) -> Iterator[str]:
    for name, fields in limits.items():
        yield f"{indent}{_string(name)}: {flow_text(fields)}"


def flow_text(value: object) -> str:
    """Return a value in one line of YAML."""
    if isinstance(value, dict):
        items = (f"{_string(key)}: {flow_text(item)}" for key, item in value.items())
        return "{" + ", ".join(items) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(flow_text(item) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else _string(str(value))


def _string(text: str) -> str:
    """Plain where every reader takes it for text, in double quotes otherwise."""
    if (_PLAIN.fullmatch(text) and text.lower() not in _WORDS) or _RATE.fullmatch(text):
        return text
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    return f"\\U{ord(character):08x}"
