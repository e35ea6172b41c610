"""Addresses of clients: hostile headers, an oracle, and the trusted proxies in force at a scope."""

from __future__ import annotations

import ipaddress
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import ratectl
from ratectl import TrustedProxies, UsageError

if TYPE_CHECKING:
    from pathlib import Path

PROXIES = ["10.0.0.0/8", "2001:db8::/32", "::1"]
PEER = "10.0.0.1"
CLIENT = "203.0.113.9"

X_FORWARDED_FOR = {
    "no header": ("", PEER),
    "one entry": (CLIENT, CLIENT),
    "what a client wrote": (f"6.6.6.6, {CLIENT}", CLIENT),
    "two proxies": (f"6.6.6.6, {CLIENT}, 10.0.0.2", CLIENT),
    "a trusted address left of the client": (f"10.9.9.9,{CLIENT}", CLIENT),
    "only trusted addresses": ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
    "spaces and tabs": (f"6.6.6.6 ,\t {CLIENT}\t", CLIENT),
    "IPv4 with a port": (f"{CLIENT}:80", CLIENT),
    "IPv6": ("2001:DB9:0:0::1", "2001:db9::1"),
    "IPv6 in brackets": ("[2001:db9::1]", "2001:db9::1"),
    "IPv6 with a port": ("[2001:db9::1]:8080", "2001:db9::1"),
    "IPv6 with a zone": ("fe80::1%eth0", "fe80::1"),
    "IPv6 with a zone and a port": ("[fe80::1%25eth0]:443", "fe80::1"),
    "mapped": (f"::ffff:{CLIENT}", CLIENT),
    "mapped, in hexadecimal": ("::ffff:cb00:7109", CLIENT),
    "a mapped proxy": (f"{CLIENT}, ::ffff:10.0.0.2", CLIENT),
    "unknown": (f"{CLIENT}, unknown", PEER),
    "unknown behind a second proxy": (f"{CLIENT}, unknown, 10.0.0.2", "10.0.0.2"),
    "hidden": (f"{CLIENT}, _hidden", PEER),
    "an empty entry": (f"{CLIENT}, ", PEER),
    "a lone comma": (",", PEER),
    "IPv4 in brackets": (f"[{CLIENT}]", PEER),
    "IPv4 with a zone": (f"{CLIENT}%eth0", PEER),
    "a leading zero": ("203.0.113.09", PEER),
    "other digits": ("２０３.0.113.9", PEER),
    "a number": ("3405803785", PEER),
    "a network": ("203.0.113.0/24", PEER),
    "a host name": ("localhost", PEER),
    "a quote": (f'"{CLIENT}"', PEER),
    "the syntax of the other header": (f"for={CLIENT}", PEER),
    "a line end": (f"{CLIENT}\r\n", PEER),
    "a zero byte": (f"{CLIENT}\0", PEER),
    "a surrogate": ("\udc80", PEER),
    "a port that is none": (f"{CLIENT}:http", PEER),
    "an open bracket": ("[::1", PEER),
    "1 MB in one entry": ("1" * 1_000_000, PEER),
    "1 MB on the left": ("6" * 1_000_000 + f",{CLIENT}", CLIENT),
    "1 MB of spaces": (" " * 1_000_000 + CLIENT, PEER),
    "10,000 hops": ("6.6.6.6," * 10_000 + CLIENT, CLIENT),
    "10,000 trusted hops": (f"{CLIENT}," + "10.0.0.2," * 10_000 + "10.0.0.3", "10.0.0.2"),
}

FORWARDED = {
    "IPv4": (f"for={CLIENT}", CLIENT),
    "IPv4 with a port": (f'for="{CLIENT}:4711"', CLIENT),
    "IPv6 with a port": ('for="[2001:db9::1]:4711"', "2001:db9::1"),
    "IPv6 with a hidden port": ('for="[2001:db9::1]:_p"', "2001:db9::1"),
    "other parameters": (f"proto=https; For={CLIENT} ;by=10.0.0.1;host=shop.example", CLIENT),
    "what a client wrote": (f"for=6.6.6.6, for={CLIENT}", CLIENT),
    "two proxies": (f"for={CLIENT}, for=10.0.0.2;proto=http", CLIENT),
    "unknown": (f"for={CLIENT}, for=unknown", PEER),
    "hidden": (f"for={CLIENT}, for=_hidden", PEER),
    "no for": (f"for={CLIENT}, proto=https", PEER),
    "two fors in one entry": ("for=6.6.6.6;for=7.7.7.7", PEER),
    "the syntax of the other header": (CLIENT, PEER),
    "an open quote on the left": (f'for=", for={CLIENT}', CLIENT),
    "an escaped quote on the left": (f'for="\\", for={CLIENT}', CLIENT),
    "a comma in a client's host": (f'for={CLIENT};host="a, for=6.6.6.6"', CLIENT),
    "a for in a client's host": (f'for={CLIENT};host="a;for=6.6.6.6"', CLIENT),
    "quotes in a client's host": (f'for={CLIENT};host="a\\", for=6.6.6.6;x=\\"b"', CLIENT),
    "an open quote on the right": (f'for={CLIENT}, for="', PEER),
    "8,000 quotes": ('"' * 8_000 + f",for={CLIENT}", CLIENT),
    "8,000 quotes on the right": ('"' * 8_001, PEER),
    "10,000 hops": ("for=6.6.6.6," * 10_000 + f"for={CLIENT}", CLIENT),
}


@pytest.mark.parametrize(("value", "expected"), X_FORWARDED_FOR.values(), ids=X_FORWARDED_FOR)
def test_x_forwarded_for(value: str, expected: str) -> None:
    assert TrustedProxies(PROXIES).client_ip(PEER, value) == expected


@pytest.mark.parametrize(("value", "expected"), FORWARDED.values(), ids=FORWARDED)
def test_forwarded(value: str, expected: str) -> None:
    assert TrustedProxies(PROXIES).client_ip(PEER, value, header="Forwarded") == expected


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        (CLIENT, CLIENT), ("::ffff:203.0.113.9", CLIENT), ("2001:DB9::0:1", "2001:db9::1"),
        ("fe80::1%eth0", "fe80::1"), ("203.0.113.9:1234", CLIENT), ("", None), (None, None),
        ("unix:/run/app.sock", None), ("/run/app.sock", None), ("@abstract", None),
    ],
)  # fmt: skip
def test_header_of_an_untrusted_peer_is_not_read(peer: str | None, expected: str | None) -> None:
    for header, value in (("X-Forwarded-For", "6.6.6.6"), ("Forwarded", "for=6.6.6.6")):
        client = TrustedProxies(PROXIES).client_ip(peer, value, header=header)
        assert client == expected


@pytest.mark.parametrize(
    ("network", "peer", "trusted"),
    [
        ("10.0.0.0/8", "::ffff:10.0.0.1", True),
        ("::ffff:10.0.0.0/104", "10.0.0.1", True),
        ("::ffff:0:0/96", "192.0.2.1", True),
        ("::/0", "10.0.0.1", False),
        ("::/0", "::ffff:10.0.0.1", False),
        ("::/0", "2001:db8::1", True),
        ("0.0.0.0/0", "2001:db8::1", False),
        ("0.0.0.0/0", "::a00:1", False),
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
    ],
)
def test_mapped_address_is_trusted_like_its_ipv4_address(
    network: str, peer: str, trusted: bool
) -> None:
    client = TrustedProxies([network]).client_ip(peer, "198.51.100.7")
    assert (client == "198.51.100.7") is trusted


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded"])
def test_several_header_lines_are_one_list(header: str) -> None:
    lines = [f"6.6.6.6, {CLIENT}", "10.0.0.2", "10.0.0.3"]
    if header == "Forwarded":
        lines = ["for=" + line.replace(", ", ", for=") for line in lines]
    proxies = TrustedProxies(PROXIES)
    assert proxies.client_ip(PEER, lines, header=header) == CLIENT
    assert proxies.client_ip(PEER, iter(lines), header=header) == CLIENT
    assert proxies.client_ip(PEER, ["for=7.7.7.7", "7.7.7.7"] * 9_999 + lines, header=header) == (
        CLIENT
    )
    assert proxies.client_ip(PEER, [], header=header) == PEER


def test_mistakes_of_the_caller_are_usage_errors() -> None:
    proxies = TrustedProxies(PROXIES)
    with pytest.raises(UsageError, match="header is X-Forwarded-For or Forwarded"):
        proxies.client_ip(PEER, CLIENT, header="X-Real-IP")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="is text, not bytes"):
        proxies.client_ip(PEER, [b"1.2.3.4"])  # type: ignore[list-item]
    with pytest.raises(UsageError, match="has host bits set"):
        TrustedProxies(["10.0.0.1/8"])


def oracle(networks: list[str], peer: str, entries: list[str]) -> str | None:
    """Return the client's address, by the definition; ``entries`` from left to right."""

    def address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        try:
            found = ipaddress.ip_address(text)
        except ValueError:
            return None
        return getattr(found, "ipv4_mapped", None) or found

    def trusted(found: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        return any(found in ipaddress.ip_network(network) for network in networks)

    client = address(peer)
    if client is None:
        return None
    for entry in reversed(entries):
        reported = address(entry)
        if not trusted(client) or reported is None:
            break
        client = reported
    return str(client)


NEAR = st.integers(0, 2**8 - 1).map(lambda host: f"10.0.{host % 3}.{host}")
NEAR_6 = st.integers(0, 2**8 - 1).map(lambda host: f"2001:db8:{host % 3}::{host:x}")
ADDRESS = st.one_of(
    NEAR, NEAR_6, NEAR.map("::ffff:{}".format), st.ip_addresses().map(str), st.just("unknown")
)
NETWORK = st.one_of(
    st.sampled_from(["10.0.0.0/16", "10.0.1.0/24", "10.0.2.128/25", "0.0.0.0/0", "::/0"]),
    NEAR,
    NEAR_6.map(lambda text: f"{text.rpartition('::')[0]}::/48"),
)


@given(st.lists(NETWORK, max_size=5), ADDRESS, st.lists(ADDRESS, max_size=6), st.data())
def test_both_headers_agree_with_the_oracle(
    networks: list[str], peer: str, entries: list[str], data: st.DataObject
) -> None:
    proxies = TrustedProxies(networks)
    expected = oracle(networks, peer, entries)
    cut = data.draw(st.integers(0, len(entries)))
    lines = [",".join(part) for part in (entries[:cut], entries[cut:]) if part]
    assert proxies.client_ip(peer, lines) == expected
    quoted = [f'for="[{text}]"' if ":" in text else f"for={text}" for text in entries]
    host = data.draw(st.text('ab",;= \\for=6.', max_size=12))
    host = host.replace("\\", "\\\\").replace('"', '\\"')
    assert proxies.client_ip(peer, ", ".join(quoted), header="Forwarded") == expected
    hosts = ", ".join(f'host="{host}";{entry}' for entry in quoted)
    assert proxies.client_ip(peer, hosts, header="Forwarded") == expected


@given(st.text(), st.one_of(st.text(), st.text('for=",;[]:%\\ 10.', max_size=60)), ADDRESS)
@example('"', 'for="', "unknown")
def test_what_a_client_writes_changes_nothing(client: str, more: str, address: str) -> None:
    """The text stands left of the entry that the proxy appends, whatever it is."""
    proxies = TrustedProxies(["127.0.0.0/8"])
    for header, entry in (("X-Forwarded-For", CLIENT), ("Forwarded", f"for={CLIENT}")):
        for value in (f"{client}{more},{entry}", f"{client},{more}, {entry}", [client, entry]):
            assert proxies.client_ip("127.0.0.1", value, header=header) == CLIENT
        for peer, value in (("127.0.0.1", client), (client, more)):
            found = proxies.client_ip(peer, value, header=header)
            assert found is None or str(ipaddress.ip_address(found)) == found


def write(folder: Path, *documents: str) -> None:
    header = "apiVersion: ratectl/v1\n"
    (folder / "all.yaml").write_text("---\n".join(header + text + "\n" for text in documents))


def test_agent_uses_the_proxies_in_force(tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    folder.mkdir()
    write(
        folder,
        "scope: /\ntrusted_proxies: [10.0.0.0/8]",
        "scope: /shop",
        "scope: /direct\ntrusted_proxies: []",
    )
    with ratectl.Agent(str(folder), state_dir=tmp_path / "state") as agent:
        for scope in ("/", "/shop", "/shop/cart", "/else", "/shop" + "/x" * 99, "nowhere"):
            assert agent.client_ip(scope, PEER, CLIENT) == CLIENT
        assert agent.client_ip("/direct/x", PEER, CLIENT) == PEER
        assert agent.client_ip("/", PEER, f"for={CLIENT}", header="Forwarded") == CLIENT
        write(folder, "scope: /\ntrusted_proxies: [192.0.2.0/24]")
        assert agent.wait_for_generation(2, timeout=10)
        assert agent.client_ip("/direct", PEER, CLIENT) == PEER
        assert agent.client_ip("/direct", "192.0.2.1", CLIENT) == CLIENT


def test_agent_without_policies_trusts_nobody(tmp_path: Path) -> None:
    with ratectl.Agent("memory://nobody", state_dir=tmp_path, ready_timeout=0) as agent:
        assert agent.client_ip("/", PEER, CLIENT) == PEER
        assert agent.client_ip("/", "", CLIENT) is None


def test_longest_headers_take_little_time() -> None:
    proxies = TrustedProxies(PROXIES)
    started = time.process_time()
    for value, _ in X_FORWARDED_FOR.values():
        proxies.client_ip(PEER, value)
    for value, _ in FORWARDED.values():
        proxies.client_ip(PEER, value, header="Forwarded")
    assert time.process_time() - started < 1  # about 10 ms
