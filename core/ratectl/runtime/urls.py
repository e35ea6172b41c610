"""URLs without secrets, for messages, logs, JSON and records.

A wrong URL may hold a password in any place. A message never prints an unchecked URL, but the text
that ``shown`` returns.
"""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from ratectl.runtime.wording import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["holds_password", "looks_like_url", "scrubbed", "shown"]

_HIDDEN: Final = "…"
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/*")
_LAST_AT: Final = re.compile(r".*(?:@|%40)", re.DOTALL | re.IGNORECASE)
_PASSWORD: Final = re.compile(r"[^/]*:[^/]*(?:@|%40)", re.IGNORECASE)
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]*\]|[A-Za-z0-9._-]*)(?::(\d*))?")
_HOST_ONLY: Final = re.compile(r"[A-Za-z0-9._-]*(?=:)")
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,30}")
_PATTERN: Final = re.compile(r"etcds?://host:port(?:\[|/)")
"""The form of URLs that messages recommend."""
_SECRET: Final = re.compile(r".*://|.*:.*(?:@|%40)", re.DOTALL | re.IGNORECASE)
"""Text that contains a URL, or a password before an ``@``."""
_BEGINS_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|etcds?:/", re.IGNORECASE)
_BEGIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/.*", re.DOTALL)
_IN_TEXT: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/+[^\s'\"`]*[^\s'\"`?).,:;!]")
"""URL in a sentence, without the marks that end the sentence."""


def shown(url: str) -> str:
    """Return ``url`` without parts that may be secret.

    Hidden are the part before an ``@``, an invalid host or port, the values (not the names) of a
    query or of parameters after ``;``, and a fragment. A path after ``sqlite:///`` is not changed.
    """
    match = _SCHEME.match(url)
    scheme = match[0] if match else ""
    rest = url[len(scheme) :]
    if scheme.startswith("sqlite:///") and not holds_password(rest):
        path, mark, query = _parted(rest, "?")
        return f"{scheme}{path}{_query(mark, query)}"
    secret = _LAST_AT.match(rest)
    rest = rest[secret.end() :] if secret else rest
    at = f"{_HIDDEN}@" if secret else ""
    place, mark, query = _parted(rest, "?#;")
    hosts, slash, path = place.partition("/")
    return f"{scheme}{at}{','.join(map(_host, hosts.split(',')))}{slash}{path}{_query(mark, query)}"


def holds_password(path: str) -> bool:
    """Return True for a path that begins as ``user:password@host``."""
    return _PASSWORD.match(path) is not None


def scrubbed(text: str, given: Iterable[str] = ()) -> str:
    """Return a text with every URL as ``shown`` returns it, except the pattern in our messages.

    ``given`` are words that users wrote, such as arguments. They are found in the text as a whole,
    whatever quotes or blanks a password holds, and also without ``://``.
    """
    for word in sorted(map(_value, given), key=len, reverse=True):
        if _SECRET.match(word) and not _PATTERN.match(word):
            for form in (word, repr(word)[1:-1], printable(word), str(PurePath(word))):
                text = text.replace(form, shown(word))
    return _IN_TEXT.sub(
        lambda match: match[0] if _PATTERN.match(match[0]) else shown(match[0]), text
    )


def looks_like_url(path: str) -> bool:
    """Return True for a path that a user may have meant as a URL of a store."""
    return _BEGINS_URL.match(path) is not None or holds_password(path)


def _value(word: str) -> str:
    """Return the URL in an argument (from its scheme on), else an option's value, else the word."""
    url = _BEGIN.search(word)
    if url:
        return url[0]
    return word.partition("=")[2] or word.lstrip("-") if word.startswith("-") else word


def _parted(text: str, marks: str) -> tuple[str, str, str]:
    """Split a text at the first of these characters: before, character, after."""
    end = next((at for at, character in enumerate(text) if character in marks), len(text))
    return text[:end], text[end : end + 1], text[end + 1 :]


def _host(text: str) -> str:
    if _HOST.fullmatch(text):
        return text
    host = _HOST_ONLY.match(text)
    return f"{host[0]}:{_HIDDEN}" if host and text.count(":") == 1 else _HIDDEN


def _query(mark: str, query: str) -> str:
    if mark not in ("?", ";"):
        return f"{mark}{_HIDDEN}" if mark else ""
    return mark + "&".join(map(_parameter, re.split("[&;]", query)))


def _parameter(text: str) -> str:
    name, equals, _ = text.partition("=")
    return f"{name}={_HIDDEN}" if equals and _NAME.fullmatch(name) else _HIDDEN
