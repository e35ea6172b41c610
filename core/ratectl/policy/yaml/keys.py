"""Keys of mappings: only text that every YAML reader takes for the same text."""

from __future__ import annotations

from typing import NamedTuple

from ratectl.policy import codes
from ratectl.policy.yaml.scalars import Surprise, read_plain
from ratectl.policy.yaml.slips import colon_missing
from ratectl.policy.yaml.text import FORBIDDEN_IN_KEYS, cut, named

__all__ = ["KeyProblem", "key_problem"]

_QUOTE = "quote it if you mean the text"


class KeyProblem(NamedTuple):
    """Reason why a key is refused."""

    code: str
    message: str
    hint: str


def key_problem(text: str, *, plain: bool) -> KeyProblem | None:
    """Return why a key is refused, or None. ``plain``: it is written without quotes."""
    if not plain or "\t" in text:
        match = FORBIDDEN_IN_KEYS.search(text)
        if match is None:
            return None
        message = f"the character {named(match[0])} is not allowed in a key"
        return KeyProblem(codes.CHARACTER, message, "delete it")
    if text == "<<":
        hint = "copy the fields of the alias here"
        return KeyProblem(codes.MERGE_KEY, "'<<' is not allowed", hint)
    value = read_plain(text)
    if isinstance(value, str):
        slip = colon_missing(text, flow=False)
        return KeyProblem(codes.SYNTAX, *slip) if slip else None
    if not text:
        return KeyProblem(codes.KEY, "the key is missing", "write a name before the colon")
    if isinstance(value, Surprise) and value.code != codes.NULL:
        return KeyProblem(value.code, f"as a key, {value.message}", _QUOTE)
    kind = {Surprise: "null", bool: "a boolean"}.get(type(value), "a number")
    return KeyProblem(codes.KEY, f"the key {cut(text)} is {kind}, not text", _QUOTE)
