"""Networks such as ``10.0.0.0/8``, as policies write them."""

from __future__ import annotations

import ipaddress

__all__ = ["Network", "parsed_network"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parsed_network(text: str) -> Network:
    """Return the network that a text denotes.

    :raises ValueError: it denotes none; the message says what to write.
    """
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    shown = repr(text[:60])
    try:
        around = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{shown} is not a network: write one, like 10.0.0.0/8") from None
    host = f"{text.partition('/')[0]}/{around.max_prefixlen}"
    raise ValueError(
        f"{shown} names a host, but has the size of a network: write {around} for the network, or "
        f"{host} for the host"
    )
