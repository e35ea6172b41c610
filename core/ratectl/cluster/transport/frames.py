"""Frames: each has the length of its body in 4 bytes (big-endian), then the body."""

from __future__ import annotations

from typing import Final

__all__ = ["HEADER", "MOST_BYTES", "FrameError", "Frames", "framed"]

HEADER: Final = 4
"""Bytes before the body."""
MOST_BYTES: Final = 1 << 20
"""Most bytes of a body."""


class FrameError(ValueError):
    """Raised for bytes of a peer that are no frame or no message, and for messages too large."""


def framed(body: bytes) -> bytes:
    """Return a frame.

    :raises FrameError: the body is too large.
    """
    if len(body) > MOST_BYTES:
        raise FrameError(f"a message of {len(body)} bytes: at most {MOST_BYTES} are possible")
    return len(body).to_bytes(HEADER, "big") + body


class Frames:
    """Bodies of frames in a stream that arrives in chunks of any size.

    It keeps what it was fed until :meth:`take` has taken it: at most one frame and one chunk, if
    the caller takes frames until there is none before it feeds the next chunk.

    :param most: most bytes of a body. The caller may change it between two frames.
    """

    __slots__ = ("_at", "_data", "most")

    def __init__(self, most: int = MOST_BYTES) -> None:
        self.most = most
        self._data: bytes | bytearray = b""
        self._at = 0
        """Where the next frame begins."""

    def feed(self, chunk: bytes) -> None:
        """Take over the next bytes of the stream."""
        if self._at == len(self._data):
            self._data, self._at = chunk, 0
            return
        if not isinstance(self._data, bytearray):
            self._data = bytearray(self._data)
        del self._data[: self._at]
        self._at = 0
        self._data += chunk

    def take(self) -> bytes | None:
        """Return the body of the next frame; None if it is not complete.

        :raises FrameError: the frame is empty or too large.
        """
        begin = self._at + HEADER
        if len(self._data) < begin:
            return None
        size = int.from_bytes(self._data[self._at : begin], "big")
        if not 0 < size <= self.most:
            raise FrameError(f"a frame of {size} bytes: 1 to {self.most} are possible")
        end = begin + size
        if len(self._data) < end:
            return None
        self._at = end
        return bytes(self._data[begin:end])
