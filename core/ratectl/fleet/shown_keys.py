"""Forms in which an agent shows keys: in usage, in reports, and on its admin endpoint."""

from __future__ import annotations

import ipaddress
import re
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, Literal, get_args

from ratectl.engine.buckets.counters import shown
from ratectl.errors import UsageError

if TYPE_CHECKING:
    from ratectl.engine.buckets.counters import Key, Show

__all__ = ["Keys", "keys_shown"]

Keys = Literal["plain", "full", "hashed", "off"]
"""``plain``: as they are, but addresses are cut to their network (/24, or /56 of IPv6).
``full``: as they are. ``hashed``: a number of each key. ``off``: none."""

_ADDRESS: Final = re.compile(r"[0-9a-fA-F]*[.:][0-9a-fA-F.:]*")

_PREFIX: Final = {4: 24, 6: 56}


def keys_shown(keys: Keys, secret: bytes | None = None) -> Show:
    """Return the function that shows keys. ``secret``: hashes keys; without it they can be guessed.

    :raises UsageError: ``keys`` is another word.
    """
    if keys not in get_args(Keys):
        raise UsageError(f"keys is 'plain', 'full', 'hashed' or 'off', not {keys!r}")
    if keys == "off":
        return lambda _: ""
    if keys == "full":
        return shown
    if keys == "plain":
        return _cut

    def hashed(key: Key) -> str:
        text = shown(key).encode()
        return f"#{blake2b(text, key=(secret or b'')[:64], digest_size=8).hexdigest()}"

    return hashed


def _cut(key: Key) -> str:
    """Return a key with networks in place of addresses."""
    if isinstance(key, tuple):
        return shown(tuple([_network_or(part) for part in key]))
    return shown(_network_or(key))


def _network_or(part: Key) -> Key:
    # Cheap first: most keys are no addresses.
    if not isinstance(part, str) or len(part) > 45 or not _ADDRESS.fullmatch(part):
        return part
    try:
        address = ipaddress.ip_address(part)
    except ValueError:
        return part
    return str(ipaddress.ip_network(f"{address}/{_PREFIX[address.version]}", strict=False))
