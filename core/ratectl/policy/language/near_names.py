"""Near names: two names of which one is probably a misspelling of the other.

The measure counts edits: a letter too many, a letter missing, two letters swapped, and a vowel
replaced by another vowel are one edit each; any other replaced letter is two. A word of fewer than
eight letters may have one edit, a longer one two. Two names with one difference that people make on
purpose are never near: other digits (``tier2``), another ending of one word (``hourly``,
``uploads``), another first letter (``read``, ``lead``), or another short word (``read-eu``,
``read-us``).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["NearNames", "misspelt", "same_word"]

_SHORTEST: Final = 4
"""Letters of the shortest word that counts as misspelt."""

_LONG: Final = 8
"""Letters of a word that may have two edits."""

_MAX_LETTERS: Final = 64

_MAX_COMPARED: Final = 100_000
"""Maximum pairs that are compared in one tree: each takes microseconds."""

_MAX_LOOKS: Final = 2_000_000
"""Maximum pairs that are looked at in one tree: most differ in their first letters."""

_VOWELS: Final = frozenset("aeiouy")
_DIGITS: Final = re.compile(r"[0-9]+")
_SEPARATORS: Final = re.compile(r"[-_.]+")
_ENDING: Final = re.compile(r"(?:ing|ies|l?y|e?[drn]|(?:e|er|r)?s|e)$")


def misspelt(name: str, other: str) -> bool:
    """Return True if one of two different names is probably a misspelling of the other."""
    if max(len(name), len(other)) > _MAX_LETTERS or name == other:
        return False
    words, others = _words(name), _words(other)
    if "".join(words) == "".join(others):
        return True  # they differ only in case, or in '-' and '_'
    if len(words) != len(others):
        return False
    differing = [pair for pair in zip(words, others, strict=True) if pair[0] != pair[1]]
    return len(differing) == 1 and _misspelt_word(*differing[0])


def same_word(name: str, other: str) -> bool:
    """Return True if a name is a known word with at most one edit: for words of a closed list."""
    if len(name) > _MAX_LETTERS:
        return False
    return _within("".join(_words(name)), "".join(_words(other)), 1)


def _words(name: str) -> list[str]:
    return _SEPARATORS.split(name.lower())


def _misspelt_word(word: str, other: str) -> bool:
    short, long = sorted((word, other), key=len)
    if len(short) < _SHORTEST or _DIGITS.findall(short) != _DIGITS.findall(long):
        return False
    if short[0] != long[0] and short[:2] != long[1::-1]:
        return False
    if long != f"{short}e" and _stems(short) & _stems(long):
        return False  # two forms of one word
    return _within(short, long, 1 if len(short) < _LONG else 2)


def _stems(word: str) -> set[str]:
    return {word, _ENDING.sub("", word)}


def _within(word: str, other: str, edits: int) -> bool:
    """Return True if so many edits, or fewer, turn one word into the other."""
    at = 0
    while at < min(len(word), len(other)) and word[at] == other[at]:
        at += 1
    word, other = word[at:], other[at:]
    if not word or not other or edits <= 0:
        return len(word) + len(other) <= edits
    if abs(len(word) - len(other)) > edits:
        return False
    replaced = 1 if word[0] in _VOWELS and other[0] in _VOWELS else 2
    return (
        _within(word[1:], other, edits - 1)
        or _within(word, other[1:], edits - 1)
        or (word[:2] == other[1::-1] and _within(word[2:], other[2:], edits - 1))
        or (replaced <= edits and _within(word[1:], other[1:], edits - replaced))
    )


class NearNames:
    """Search for near names in one tree; its work is bounded."""

    def __init__(self) -> None:
        self._looks = _MAX_LOOKS
        self._compared: dict[tuple[str, str], bool] = {}

    def nearest(self, name: str, known: Iterable[str]) -> str | None:
        """Return the known name that ``name`` is probably a misspelling of; None if there is none.

        Of several, the one of the most similar length, then the first in the alphabet.
        """
        near: list[str] = []
        start = _start(name)[:1]
        for other in known:
            if self._looks <= 0 or len(self._compared) >= _MAX_COMPARED:
                return None
            self._looks -= 1
            if start in _start(other) and self._misspelt(name, other):
                near.append(other)
        return min(near, key=lambda other: (abs(len(name) - len(other)), other), default=None)

    def _misspelt(self, name: str, other: str) -> bool:
        pair = (name, other)
        if pair not in self._compared:
            self._compared[pair] = misspelt(*pair)
        return self._compared[pair]


def _start(name: str) -> str:
    """Return the first two letters: near names differ in the first one only if they are swapped."""
    return name[:4].lower().lstrip("-_.")[:2]
