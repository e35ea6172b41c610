"""Lines of a log, read in blocks from any stream of bytes, gzipped or not."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["MAX_LINE", "Readable", "read_lines"]

MAX_LINE: Final = 1 << 16
"""Maximum length of a line, in characters."""

_BLOCK: Final = 1 << 18
_MAGIC: Final = b"\x1f\x8b"


class Readable(Protocol):
    """Source of bytes, such as an open file; it returns no bytes at its end."""

    def read(self, size: int, /) -> bytes: ...


def read_lines(
    file: Readable, damaged: Callable[[str], None], passed: Callable[[int], None]
) -> Iterator[list[str]]:
    """Yield lists of lines without line breaks.

    ``damaged`` is called with the reason if reading ends early, ``passed`` with the number of bytes
    after each block. Only the start of a line that is too long is kept.
    """
    rest = b""
    for block in _plain(file, damaged, passed):
        whole, line_break, last = (rest + block).rpartition(b"\n")
        if line_break:
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
    """Yield the contents of a gzip file; zeros after a member are padding."""
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
