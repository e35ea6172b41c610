"""Unquoted YAML scalars: text, a number, a boolean, or a form that is refused.

YAML 1.1 and 1.2 readers disagree on many unquoted scalars: ``no`` is false, ``1:30`` is 90 and
``010`` is 8 to some of them. Such scalars are refused, so that the reader does not matter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from ratectl.policy import codes

__all__ = ["MAX_INTEGER_DIGITS", "Surprise", "in_field", "read_plain"]

MAX_INTEGER_DIGITS: Final = 18
"""Maximum digits of a whole number: every such number fits into 64 bits."""

_MAX_NUMBER_CHARS: Final = 40  # also bounds the texts that the patterns below are matched with

_BOOLEANS: Final = {"true": True, "false": False}
_YAML_11_BOOLEANS: Final = {
    "yes": "true", "on": "true", "y": "true",
    "no": "false", "off": "false", "n": "false",
}  # fmt: skip

_DIGITS = r"(?:0|[1-9][0-9]*(?:_[0-9]+)*)"
_LOOSE = r"[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)"
_INTEGER = re.compile(rf"[-+]?{_DIGITS}")
_FLOAT = re.compile(rf"[-+]?{_DIGITS}\.[0-9]+")
_LONG_NUMBER = re.compile(r"[-+]?(?:0x[0-9a-f_]+|[0-9_.:]+(?:e[-+]?[0-9]+)?)", re.IGNORECASE)
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|nan)", re.IGNORECASE)
_RADIX = re.compile(r"[-+]?0(?:x[0-9a-f_]+|o[0-7_]+|b[01_]+)", re.IGNORECASE)
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+(?:\.[0-9_]*)?")
_EXPONENT = re.compile(rf"{_LOOSE}e[-+]?[0-9]+", re.IGNORECASE)
_SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?")
_ODD_NUMBER = re.compile(_LOOSE)

_QUOTE: Final = "quote it if you mean the text, or write "


@dataclass(frozen=True, slots=True)
class Surprise:
    """Reason why a scalar is refused."""

    code: str
    message: str
    hint: str
    boolean: str = ""
    """``true`` or ``false``, for a word that some readers take for it."""


def read_plain(text: str) -> str | int | float | bool | Surprise:
    """Return the value of an unquoted scalar.

    Dates and times such as ``2026-01-01`` stay text: every field with a date takes text.
    """
    if text[:1] in "0123456789+-.~":  # true for empty text too
        return _read_number(text)
    return _read_word(text) if len(text) <= 5 else text


def in_field(key: str | None, text: str, surprise: Surprise) -> str | Surprise:
    """Return the value of a refused word in the field ``key``, or what that field takes."""
    if surprise.code == codes.WORD and key == "mode":
        if text == "off":  # a valid mode, and a boolean is not
            return text
        hint = "write off (or enforce, or shadow)"
        if surprise.boolean == "true":
            hint = "write enforce (or shadow, or off)"
        return Surprise(codes.WORD, f"mode cannot be '{text}'", hint)
    if surprise.code == codes.WORD and key in ("protected", "exists"):
        return Surprise(codes.WORD, f"{key} must be true or false", f"write {surprise.boolean}")
    return surprise


def _read_word(text: str) -> str | bool | Surprise:
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    lower = text.lower()
    if lower == "null":
        return _null(text)
    if lower in _BOOLEANS:
        message = f"only some readers read {text} as {lower}"
        return Surprise(codes.WORD, message, f"{_QUOTE}{lower}", lower)
    if lower in _YAML_11_BOOLEANS:
        return Surprise(
            codes.WORD,
            f"YAML 1.1 reads {text} as {_YAML_11_BOOLEANS[lower]}, and YAML 1.2 as text",
            f"{_QUOTE}{_YAML_11_BOOLEANS[lower]}",
            _YAML_11_BOOLEANS[lower],
        )
    return text


def _null(text: str) -> Surprise:
    return Surprise(
        codes.NULL,
        f"{text} is not a value" if text else "the value is missing",
        "write a value, or delete the line: null does not delete what is inherited",
    )


def _read_number(text: str) -> str | int | float | Surprise:
    if text in ("", "~"):
        return _null(text)
    if len(text) > _MAX_NUMBER_CHARS:
        return _too_long(text) if _LONG_NUMBER.fullmatch(text) else text
    if _INTEGER.fullmatch(text):
        digits = text.replace("_", "")
        return _too_long(text) if len(digits.lstrip("+-")) > MAX_INTEGER_DIGITS else int(digits)
    if _FLOAT.fullmatch(text):
        return float(text)
    return _surprising_number(text) or text


def _too_long(text: str) -> Surprise:
    message = f"the number {_shown(text)} has too many digits"
    hint = f"{_QUOTE}at most {MAX_INTEGER_DIGITS} digits"
    return Surprise(codes.NUMBER_SIZE, message, hint)


def _surprising_number(text: str) -> Surprise | None:
    """Return the reason to refuse a scalar that is a number to some readers only, or None."""
    if _NOT_FINITE.fullmatch(text):
        return Surprise(codes.NOT_FINITE, f"{text} is not a finite number", f"{_QUOTE}a number")
    if _RADIX.fullmatch(text) or _EXPONENT.fullmatch(text) or _ODD_NUMBER.fullmatch(text):
        why = "a number to some readers only"
        if _LEADING_ZERO.fullmatch(text):
            why = "octal to YAML 1.1 and decimal to YAML 1.2"
    elif _SEXAGESIMAL.fullmatch(text):
        message = f"YAML 1.1 reads {_shown(text)} as a number in base 60, and YAML 1.2 as text"
        return Surprise(codes.NUMBER_FORM, message, f'write "{_shown(text)}", in quotes')
    else:
        return None
    instead = _in_decimal(text) or "it in plain digits"
    return Surprise(codes.NUMBER_FORM, f"{_shown(text)} is {why}", f"{_QUOTE}{instead}")


def _in_decimal(text: str) -> str | None:
    """Return the probable number in a form that every reader understands, or None."""
    if len(text) > 20:
        return None
    digits = text.replace("_", "").lower()
    if ":" in digits:
        return None
    if _RADIX.fullmatch(digits):
        return str(int(digits, 0))
    number = Decimal(digits)
    if number and not -6 < number.adjusted() < MAX_INTEGER_DIGITS:
        return None
    return format(number.normalize(), "f")


def _shown(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "…"
