"""Where the documents stand in the bytes of a bundle, without reading them.

Only bytes of the form that ``encode_policies`` writes are taken apart. That is sound whatever is in
them: where each piece is a JSON value, all of them with what lies between are one, and it holds
just these values. Whether each is a JSON value is for its reader to find out.
"""

from __future__ import annotations

import re
from array import array
from typing import Final, NamedTuple

from ratectl.runtime.cooperative import breathe

__all__ = ["Pieces", "split"]

_DEPTH: Final = 8
"""Objects in objects: a valid document has five levels."""


def _object(depth: int) -> bytes:
    """A pattern of objects so deep, by their braces and strings: it never goes back."""
    inner = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
    if depth > 1:
        inner += rb"|" + _object(depth - 1)
    return rb'\{[^{}"]*+(?:(?:%s)[^{}"]*+)*+\}' % inner


_ITEM: Final = re.compile(rb"%s([,\]])" % _object(_DEPTH), re.DOTALL)
_EXCEPTIONS: Final = b'{"exceptions":['
_FIRST, _FURTHER = (
    re.compile(rb'%s"format":(0|[1-9][0-9]{0,8}),"policies":\[' % before)
    for before in (rb"\{", rb",")
)


class Pieces(NamedTuple):
    """The parts of a bundle. Of each list the places around its items: bracket, commas, bracket."""

    format: int
    policies: array[int]
    exceptions: array[int]


def split(data: bytes) -> Pieces | None:
    """Take a bundle apart; None where it is not written in the canonical form."""
    at, exceptions, policies = 0, array("q"), array("q")
    if data.startswith(_EXCEPTIONS):
        at = _items(data, len(_EXCEPTIONS), exceptions)
    head = (_FURTHER if at else _FIRST).match(data, at)
    if head is None:
        return None
    at = _items(data, head.end(), policies)
    if not data.startswith(b"}", at) or at + 1 != len(data):
        return None
    return Pieces(int(head[1]), policies, exceptions)


def _items(data: bytes, at: int, found: array[int]) -> int:
    """Find the objects of a list; returns what comes behind it, or the end where it is no list."""
    found.append(at - 1)
    if data.startswith(b"]", at):
        return at + 1
    while (item := _ITEM.match(data, at)) is not None:
        at = item.end()
        found.append(at - 1)
        if item[1] == b"]":
            return at
        breathe()
    return len(data)
