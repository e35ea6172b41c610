"""Lines of a log from any stream of bytes, gzipped or not, in blocks."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["MAX_LINE", "Readable", "read_lines"]

MAX_LINE: Final = 1 << 16
"""Characters; what is longer is no line of a log."""

_BLOCK: Final = 1 << 18
_MAGIC: Final = b"\x1f\x8b"


class Readable(Protocol):
    """An open file, standard input, or anything that gives bytes; none at its end."""

    def read(self, size: int, /) -> bytes: ...


def read_lines(
    file: Readable, damaged: Callable[[str], None], passed: Callable[[int], None]
) -> Iterator[list[str]]:
    """Lines without their breaks, many at a time.

    ``damaged`` is told why reading ended early, ``passed`` how many bytes were taken in. Of a line
    without end only the beginning is kept.
    """
    rest = b""
    for block in _plain(file, damaged, passed):
        whole, found, last = (rest + block).rpartition(b"\n")
        if found:
            yield whole.decode("utf-8", "replace").split("\n")
        rest = last[: 4 * MAX_LINE + 4]
    if rest:
        yield [rest.decode("utf-8", "replace")]


def _plain(
    file: Readable, damaged: Callable[[str], None], passed: Callable[[int], None]
) -> Iterator[bytes]:
    block = file.read(_BLOCK)
    if block[:1] == _MAGIC[:1] and len(block) == 1:
        block += file.read(_BLOCK)
    if block.startswith(_MAGIC):
        yield from _inflated(file, block, damaged, passed)
        return
    while block:
        passed(len(block))
        yield block
        block = file.read(_BLOCK)


def _inflated(
    file: Readable, block: bytes, damaged: Callable[[str], None], passed: Callable[[int], None]
) -> Iterator[bytes]:
    """The contents of a gzip file of one or more members; zeros after the last are padding."""
    member = zlib.decompressobj(wbits=31)
    try:
        while block:
            passed(len(block))
            while block:
                if member.eof:
                    block = block.lstrip(b"\0")
                    if not block:
                        break
                    member = zlib.decompressobj(wbits=31)
                text = member.decompress(block, _BLOCK)
                block = member.unused_data if member.eof else member.unconsumed_tail
                if text:
                    yield text
            block = file.read(_BLOCK)
    except zlib.error:
        damaged("the gzip data is corrupt")
        return
    if not member.eof:
        damaged("the gzip data ends too early")
