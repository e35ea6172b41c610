"""Decoding of files: bounded UTF-8 text without invisible or misleading characters."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from ratectl.diagnostics import Diagnostic, Span
from ratectl.policy import codes

__all__ = [
    "FORBIDDEN",
    "FORBIDDEN_IN_KEYS",
    "MAX_BYTES",
    "MAX_LINES",
    "MAX_PROBLEMS",
    "cut",
    "decode",
    "named",
    "quoted",
    "shown",
    "too_many",
    "visible",
]

MAX_BYTES: Final = 8 * 1024 * 1024
"""Maximum size of a file, in bytes."""

MAX_LINES: Final = 1_000_000
"""Maximum lines of a file: findings show lines, and a kept line takes far more than its bytes."""

MAX_PROBLEMS: Final = 1_000
"""Maximum problems reported for one file."""

_BREAK = re.compile(r"\r\n|\n|\r")

# Also refused in comments: they can make a review show text other than what is read.
FORBIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
    "\ud800-\udfff\ufeff\ufffe\uffff]"
)
FORBIDDEN_IN_KEYS = re.compile(f"[\t\n\r]|{FORBIDDEN.pattern}")


def decode(data: bytes, file: str) -> tuple[str, tuple[str, ...], tuple[Diagnostic, ...]]:
    """Return the text, its lines, and the findings for which it is refused."""
    if len(data) > MAX_BYTES:
        return "", (), (_too_large(f"is larger than {MAX_BYTES // 1024**2} MiB", file),)
    if data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n") >= MAX_LINES:
        return "", (), (_too_large(f"has more than {MAX_LINES} lines", file),)
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        lines = tuple(_BREAK.split(data.decode("utf-8", "replace")))
        return "", lines, (_not_utf8(data, error.start, file),)
    lines = tuple(_BREAK.split(text))
    return text, lines, _forbidden_characters(text, lines, file)


def _too_large(why: str, file: str) -> Diagnostic:
    hint = "split it into several files"
    return Diagnostic(codes.TOO_LARGE, f"the file {why}", Span(file), hint=hint)


def _not_utf8(data: bytes, at: int, file: str) -> Diagnostic:
    hint = "save the file as UTF-8"
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return Diagnostic(
            codes.ENCODING, "the file is UTF-16 or UTF-32, not UTF-8", Span(file), hint=hint
        )
    before = _BREAK.split(data[:at].decode())
    line, column = len(before), len(before[-1]) + 1
    message = f"byte 0x{data[at]:02X} is not UTF-8"
    return Diagnostic(codes.ENCODING, message, Span(file, line, column, column + 1), hint=hint)


def _forbidden_characters(text: str, lines: tuple[str, ...], file: str) -> tuple[Diagnostic, ...]:
    if not FORBIDDEN.search(text):
        return ()
    if text.count("\0") * 3 > len(text):  # every other byte: Latin letters in UTF-16
        message = "the file is UTF-16 or UTF-32, not UTF-8"
        return (Diagnostic(codes.ENCODING, message, Span(file), hint="save the file as UTF-8"),)
    findings = []
    for number, line in enumerate(lines, start=1):
        for match in FORBIDDEN.finditer(line):
            span = Span(file, number, match.start() + 1, match.start() + 2)
            message = f"the character {named(match[0])} is not allowed"
            findings.append(Diagnostic(codes.CHARACTER, message, span, hint="delete it"))
            if len(findings) == MAX_PROBLEMS:
                return (*findings, too_many(file))
    return tuple(findings)


def named(character: str) -> str:
    """Return the code point and name of a character."""
    name = unicodedata.name(character, "").lower()
    return f"U+{ord(character):04X}" + (f" ({name})" if name else "")


def visible(line: str) -> str:
    """Return a line with every forbidden character replaced by one other; columns stay."""
    return FORBIDDEN.sub("\ufffd", line)


def too_many(file: str) -> Diagnostic:
    message = f"more than {MAX_PROBLEMS} problems in this file; the rest is not shown"
    return Diagnostic(codes.TOO_MANY, message, Span(file), hint="correct these first")


def quoted(text: str) -> str:
    return repr(cut(text))


def shown(text: str) -> str:
    """Return a text for a message as it is, or quoted if it has characters that are not visible."""
    text = cut(text)
    return text if text.isprintable() else repr(text)


def cut(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "…"
