"""A JSON array from an untrusted peer, parsed in bounded time and memory."""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn

from ratectl.cluster.transport.frames import MOST_BYTES, FrameError

__all__ = ["parse_array"]

_MOST_ARRAYS: Final = 64
"""Most arrays and objects in a message, nested or not: the known messages have 5."""
_MOST_DIGITS: Final = 64
_ZEROS: Final = b"0" * (_MOST_DIGITS + 1)
_DIGITS: Final = bytes(ord("0") if chr(byte).isdigit() and byte < 128 else 1 for byte in range(256))
"""Table that makes all digits equal, and all other bytes no digit."""


def parse_array(body: bytes) -> list[Any]:
    """Return the array in a text of JSON (UTF-8). It has an element at least.

    :raises FrameError: it is something else, or too large.
    """
    if len(body) > MOST_BYTES:
        raise FrameError(f"a message of {len(body)} bytes: at most {MOST_BYTES} are possible")
    try:
        text = body.decode("utf-8", "surrogatepass")
        # The time to read a number grows with the square of its digits.
        has_long_run = _ZEROS in body.translate(_DIGITS)
        if text.count("[") + text.count("{") > _MOST_ARRAYS:
            _check_arrays(text)
        value = (_slow if has_long_run else _fast).decode(text)
    except FrameError:
        raise
    except (ValueError, RecursionError) as error:
        raise FrameError(f"the message is no JSON: {error}") from None
    if type(value) is not list or not value:
        raise FrameError("the message is no array, or an empty one")
    return value


def _check_arrays(text: str) -> None:
    """Refuse many arrays: nested deeply, they would exhaust the stack."""
    outside = text.replace("\\\\", "").replace('\\"', "").split('"')[::2]
    if sum(part.count("[") + part.count("{") for part in outside) > _MOST_ARRAYS:
        raise FrameError(f"more than {_MOST_ARRAYS} arrays in a message")


def _no_constant(name: str) -> NoReturn:
    raise FrameError(f"{name} is no number of JSON")


def _short_number(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise FrameError(f"a number of {len(digits)} digits: at most {_MOST_DIGITS} are possible")
    return int(digits)


_fast: Final = json.JSONDecoder(parse_constant=_no_constant)
_slow: Final = json.JSONDecoder(parse_constant=_no_constant, parse_int=_short_number)
