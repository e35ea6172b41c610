"""Counts of the requests of one identity, and the stored and shown forms of keys."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Final

from ratectl.engine.buckets.traffic import Traffic

__all__ = ["TOP", "Counters", "Key", "Show", "plain", "shown"]

Key = object
"""A value (str), None for an absent attribute, a tuple of these, or the digest of a long value."""

_LONG_KEY: Final = 256
TOP: Final = 32
"""Refused keys that are counted."""

Show = Callable[[Key], str]
"""Returns the text of a key for people; an empty one for a key that is not shown."""


class Counters:
    """Counts of the requests of one identity, across changes of its parameters."""

    __slots__ = (
        "absent",
        "allowed",
        "lowest",
        "never",
        "refused",
        "refused_keys",
        "shadow_refused",
        "traffic",
        "waited",
    )

    def __init__(self) -> None:
        self.allowed = 0
        self.refused = 0
        self.never = 0
        self.shadow_refused = 0
        self.waited = 0
        self.absent = 0
        self.lowest: int | None = None
        self.refused_keys: dict[Key, int] = {}
        self.traffic = Traffic()

    @property
    def busiest(self) -> list[tuple[Key, int, int, Key]]:
        """Busiest keys: as they are shown, count, error, and as they are stored."""
        return [(key, count, error, key) for key, (count, error) in self.traffic.snapshot()]

    @property
    def sampled(self) -> int:
        """See ``Traffic.sampled``."""
        return self.traffic.sampled

    @property
    def skipped(self) -> int:
        """See ``Traffic.skipped``."""
        return self.traffic.skipped

    def halve(self) -> None:
        """Halve the counts of the busiest keys."""
        self.traffic.halve()

    def refuse(self, key: Key, *, never: bool) -> None:
        if never:
            self.never += 1
        else:
            self.refused += 1
        # Space-saving (Metwally et al. 2005): a new key takes over the least count.
        counts = self.refused_keys
        if key not in counts and len(counts) >= TOP:
            rarest = min(counts, key=counts.__getitem__)
            counts[key] = counts.pop(rarest, 0) + 1  # another thread may have removed it
        else:
            counts[key] = counts.get(key, 0) + 1


def plain(key: Key) -> Key:
    """Return a key as it is stored: text, with a digest in place of a long value.

    Values that are not texts run their own code.
    """
    if type(key) is str:
        text: str = key
    elif type(key) is tuple:
        return tuple([plain(part) for part in key])
    elif key is None:
        return key
    else:
        text = exact_text(key)
    if len(text) <= _LONG_KEY:
        return text
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def exact_text(value: object) -> str:
    """Return the text of a value as an exact ``str``, whose comparison runs no foreign code."""
    # Not `isinstance`: it trusts `__class__`, which an object may fake.
    text = value if issubclass(type(value), str) else str(value)
    return text if type(text) is str else str.__str__(text)


def shown(key: Key) -> str:
    """Return a key as readable Unicode, with escapes for lone surrogates (``\\udcff``)."""
    if isinstance(key, tuple):
        return ", ".join(shown(part) for part in key) or "(all)"
    if isinstance(key, bytes):
        return f"(long: {key.hex()[:16]})"
    if key is None:
        return "(absent)"
    return str(key).encode("utf-8", "backslashreplace").decode()
