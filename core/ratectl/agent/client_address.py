"""Address of a client, from the peer of a connection and the header that trusted proxies add to.

Each proxy appends the address that its request came from, so a header is read from the right. An
entry counts only if the address after it belongs to a trusted proxy. Whatever a client has written
stands further left, and is not read.
"""

from __future__ import annotations

import ipaddress
import re
from bisect import bisect_right
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from ratectl.engine.scopes import lineage
from ratectl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ratectl.policy.language.model import PolicyTree

__all__ = ["Header", "TrustedProxies", "proxies_by_scope", "proxies_of"]

Header: TypeAlias = Literal["X-Forwarded-For", "Forwarded"]

_MAX_HEADER: Final = 8_192
"""Characters of a header that are read, from its right end: longer ones are not from proxies."""

_MAX_ADDRESS: Final = 80
"""Longest text of an address, with its zone and port."""

_NODE: Final = re.compile(
    r"(?:\[(?P<bracketed>[^\[\]]+)\]|(?P<plain>[^\[\]:]+))(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?"
)
"""Address with an optional port; an IPv6 address without brackets has no port."""

_PAIR: Final = re.compile(
    r"[ \t]*([A-Za-z0-9!#$%&'*+.^_`|~-]+)=(?:\"((?:[^\"\\]|\\.)*)\"|([^\s\",;]*))[ \t]*(?:;|$)"
)
"""Parameter of an entry of ``Forwarded``."""

_QUOTE_OR_COMMA: Final = re.compile(r"[\",]")

_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class _Address(NamedTuple):
    """Address of a peer or a client: its IP version, its number, and its canonical text."""

    version: int
    number: int
    text: str


class _Ranges(NamedTuple):
    """Ranges of addresses of one version, sorted and disjoint."""

    starts: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()

    def hold(self, address: int) -> bool:
        at = bisect_right(self.starts, address) - 1
        return at >= 0 and address <= self.ends[at]

    @classmethod
    def of(cls, networks: Iterable[_Network], version: int) -> _Ranges:
        """Return the ranges of those networks that have this version."""
        starts: list[int] = []
        ends: list[int] = []
        spans = ((int(net[0]), int(net[-1])) for net in networks if net.version == version)
        for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
            if not ends or end > ends[-1]:  # a network inside another one adds nothing
                starts.append(start)
                ends.append(end)
        return cls(tuple(starts), tuple(ends))


class TrustedProxies:
    """Networks of the proxies that are trusted to report the address of a client.

    >>> TrustedProxies(["10.0.0.0/8"]).client_ip("10.0.0.7", "6.6.6.6, 203.0.113.9, 10.0.0.3")
    '203.0.113.9'
    """

    __slots__ = ("_ranges",)

    def __init__(self, networks: Iterable[str] = ()) -> None:
        """``networks``: as in ``trusted_proxies``, like ``10.0.0.0/8`` or ``::1``.

        :raises UsageError: one of them is no network.
        """
        try:
            parsed = [_unmapped_network(ipaddress.ip_network(text)) for text in networks]
        except ValueError as error:
            raise UsageError(f"{error}: write networks like 10.0.0.0/8") from None
        self._ranges = {version: _Ranges.of(parsed, version) for version in (4, 6)}

    def client_ip(
        self,
        peer: str | None,
        forwarded_for: str | Iterable[str] = (),
        *,
        header: Header = "X-Forwarded-For",
    ) -> str | None:
        """Return the address of the client in canonical form; None if the peer has no address.

        ``peer``: the address that the connection came from. ``forwarded_for``: the value of the
        header that the proxies add to, or its values in their order. ``header``: which header that
        is. Pass the header that your proxies write: a client can write the other one.

        The entries are read from the right while the address after them is trusted. If an entry is
        not an address (``unknown``, ``_hidden``), the trusted proxy that reported it counts.

        :raises UsageError: ``header`` is another one, or a value is not text.
        """
        entries_of = _ENTRIES.get(header)
        if entries_of is None:
            raise UsageError(f"header is X-Forwarded-For or Forwarded, not {header!r}")
        client = _address_of(peer or "")
        if client is None:
            return None
        if self._trusts(client):
            for entry in entries_of(_tail(forwarded_for)):
                reported = None if entry is None else _address_of(entry)
                if reported is None:
                    break
                client = reported
                if not self._trusts(client):
                    break
        return client.text

    def _trusts(self, address: _Address) -> bool:
        return self._ranges[address.version].hold(address.number)


def proxies_by_scope(tree: PolicyTree) -> Mapping[str, TrustedProxies]:
    """Return the trusted proxies of each scope that declares some, or declares that none exist."""
    return {
        scope: TrustedProxies(policy.trusted_proxies)
        for scope, policy in tree.policies.items()
        if policy.trusted_proxies is not None
    }


def proxies_of(declared: Mapping[str, TrustedProxies], scope: str) -> TrustedProxies:
    """Return the trusted proxies of a scope: those that it, or its nearest ancestor, declares."""
    if not declared:
        return _NO_PROXIES
    return next((declared[at] for at in lineage(scope) if at in declared), _NO_PROXIES)


def _unmapped_network(network: _Network) -> _Network:
    """Return the IPv4 network of a network of IPv4-mapped addresses, and others as they are."""
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None or network.prefixlen < 96:
        return network
    return ipaddress.IPv4Network((mapped, network.prefixlen - 96))


def _address_of(node: str) -> _Address | None:
    """Return the address in a text such as ``[::1]:8080``, without zone and port, or None."""
    if len(node) > _MAX_ADDRESS:
        node = node.strip(" \t")
    return _parsed(node) if len(node) <= _MAX_ADDRESS else None


@lru_cache(maxsize=4_096)
def _parsed(node: str) -> _Address | None:
    node = node.strip(" \t")
    match = _NODE.fullmatch(node)
    text = node if match is None else match["bracketed"] or match["plain"]
    address_text, zone, _ = text.partition("%")
    only_version_6 = bool(zone or (match is not None and match["bracketed"]))
    try:
        address = ipaddress.ip_address(address_text)
    except ValueError:
        return None
    if only_version_6 and address.version == 4:
        return None
    # An IPv4 client seen through an IPv6 socket is the same client.
    address = getattr(address, "ipv4_mapped", None) or address
    return _Address(address.version, int(address), str(address))


def _tail(values: str | Iterable[str]) -> str:
    """Return the right end of a header's values, joined: at most ``_MAX_HEADER`` characters."""
    given = (values,) if isinstance(values, str) else tuple(values)
    parts: list[str] = []
    size = -1
    for value in reversed(given):
        if not isinstance(value, str):
            raise UsageError(f"a header's value is text, not {type(value).__name__}: decode it")
        parts.append(value[-_MAX_HEADER - 1 :])
        size += len(parts[-1]) + 1
        if size > _MAX_HEADER:
            # The first entry is cut: it counts as one that is no address.
            return f"?{','.join(reversed(parts))[-_MAX_HEADER:]}"
    return ",".join(reversed(parts))


def _entries(header: str) -> Iterator[str]:
    """Yield the entries of ``X-Forwarded-For``, from the right."""
    end = len(header)
    while end >= 0:
        start = header.rfind(",", 0, end)
        yield header[start + 1 : end]
        end = start


def _forwarded_entries(header: str) -> Iterator[str | None]:
    """Yield the ``for`` of each entry of ``Forwarded``, from the right; None where there is none.

    A quote that a client has left open stands further left, so it cannot hide a proxy's entry.
    """
    end, quoted = len(header), False
    for mark in reversed([match.start() for match in _QUOTE_OR_COMMA.finditer(header)]):
        if header[mark] == '"':
            escapes = mark - len(header[:mark].rstrip("\\"))
            quoted ^= escapes % 2 == 0
        elif not quoted:
            yield _for_of(header[mark + 1 : end])
            end = mark
    yield _for_of(header[:end])


def _for_of(entry: str) -> str | None:
    """Return the ``for`` of an entry of ``Forwarded``; None if it has not exactly one."""
    found, at = [], 0
    while at < len(entry):
        pair = _PAIR.match(entry, at)
        if pair is None:
            return None
        if pair[1].lower() == "for":
            found.append(pair[2] if pair[3] is None else pair[3])
        at = pair.end()
    return found[0] if len(found) == 1 else None


_ENTRIES: Final[dict[str, Callable[[str], Iterator[str | None]]]] = {
    "X-Forwarded-For": _entries,
    "Forwarded": _forwarded_entries,
}

_NO_PROXIES: Final = TrustedProxies()
