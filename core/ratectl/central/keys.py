"""Names of counts on the server: two different keys never share a count.

A name begins with ``ratectl:{PREFIX}:``. The part in braces is the *hash tag* of the server's
cluster mode: all counts of a prefix lie in one slot, so that one script can decide by all of them.
The rest is the identity of the bucket as JSON, or its digest if that is long.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.engine.limit_plan import GroupName

__all__ = ["PREFIX", "alive_name", "count_name"]

PREFIX: Final = re.compile(r"[A-Za-z0-9._:/-]{1,100}")
"""Prefixes that an address may name. No braces: these begin and end the hash tag."""

_LONGEST: Final = 200
"""Longest value, and longest identity, that is readable in a name. Of others, it has a digest."""


def count_name(prefix: str, algorithm: str, group: GroupName, key: Sequence[str | None]) -> str:
    """Return the name of the count of one key of a limit.

    ``key``: values of the attributes that the limit counts per; None for an absent one, which is
    another key than an empty text. Any text has its own name: JSON escapes what is not ASCII.
    """
    values = [value if value is None or len(value) <= _LONGEST else _digest(value) for value in key]
    identity = f"{_group_text(algorithm, group)},{_json(values)}]"
    if len(identity) > _LONGEST:
        (identity,) = _digest(identity)
    return f"ratectl:{{{prefix}}}:{identity}"


def alive_name(prefix: str) -> str:
    """Return the name of the set of live processes. No count has this name."""
    return f"ratectl:{{{prefix}}}:alive"


@lru_cache(maxsize=65_536)
def _group_text(algorithm: str, group: GroupName) -> str:
    scope, name, budget, overrides, per, unit = group
    return _json([algorithm, scope, name, budget, overrides, per, unit])[:-1]


def _digest(text: str) -> list[str]:
    """Return the digest of a text, as a list: no text has the same JSON."""
    return [blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()]


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
