"""A policy tree as YAML that says the same when it is read again.

Written by hand rather than by a YAML library: those quote for other readers' rules, and ours is
strict about words and numbers that YAML readers disagree on.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.policy.model import PolicyTree

__all__ = ["policy_lines"]

_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_/-]*(?:\.[A-Za-z0-9_/-]+)*|/[A-Za-z0-9._/-]*")
_RATE: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?/[0-9]*[a-z]+")
_WORDS: Final = frozenset(
    ("y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf")
)


def policy_lines(tree: PolicyTree) -> Iterator[str]:
    """The lines of one document for each scope, by scope."""
    for number, scope in enumerate(sorted(tree.policies)):
        if number:
            yield "---"
        policy = tree.policies[scope]
        said: dict[str, Any] = policy.model_dump(
            mode="json", exclude_none=True, exclude_defaults=True
        )
        yield "apiVersion: ratectl/v1"
        yield "kind: Policy"
        for name, value in said.items():
            if name in ("limits", "caps", "budgets"):
                yield f"{name}:"
                for limit, fields in value.items():
                    yield f"  {_string(limit)}: {_flow(fields)}"
            else:
                yield f"{name}: {_flow(value)}"


def _flow(value: object) -> str:
    if isinstance(value, dict):
        items = (f"{_string(key)}: {_flow(item)}" for key, item in value.items())
        return "{" + ", ".join(items) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
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
