"""URLs of the server: what they mean, and what is wrong with them; no secret is shown."""

from __future__ import annotations

from typing import Any

import pytest

from ratectl import Agent
from ratectl.central.address import ServerAddress
from ratectl.central.keys import count_name
from ratectl.errors import UsageError
from support import once

pytestmark = once

POLICIES = {"apiVersion": "ratectl/v1", "scope": "/"}

GOOD = {
    "redis://10.0.0.5": ("single", (("10.0.0.5", 6379),), "", 0, False, None, None),
    "redis://u%40x:p%2Fw%23@h:7000/3": ("single", (("h", 7000),), "", 3, False, "u@x", "p/w#"),
    "redis://:secret@[::1]:6380": ("single", (("::1", 6380),), "", 0, False, None, "secret"),
    "rediss://h/2?ca=/etc/ca.pem": ("single", (("h", 6379),), "", 2, True, None, None),
    "unix:///run/valkey%20x/s?db=4": ("unix", (), "/run/valkey x/s", 4, False, None, None),
    "redis+sentinel://a,b:26380/shop/1": (
        "sentinel", (("a", 26379), ("b", 26380)), "shop", 1, False, None, None,
    ),
    "rediss+cluster://u:p-w@a:1,b": ("cluster", (("a", 1), ("b", 6379)), "", 0, True, "u", "p-w"),
}  # fmt: skip


@pytest.mark.parametrize("url", GOOD)
def test_good_addresses(url: str) -> None:
    read = ServerAddress.of(url)
    found = read.kind, read.hosts, read.path, read.db, read.tls, read.username, read.password
    assert found == GOOD[url]
    if read.password:
        assert read.password not in f"{read!r} {read} {read.text}"


BAD = {
    "": "is the URL of a Valkey or Redis server",
    "localhost:6379": "its scheme is not known",
    "http://u:hunter2@h": "its scheme is not known",
    "redis://u:hunter2@h:99999": "a host or a port is missing or wrong",
    "redis://u:hunter2@h:x/0": "a host or a port is missing or wrong",
    "redis://": "a host or a port is missing or wrong",
    "redis://u:hunter2@a,b": "several are for sentinels or a cluster",
    "redis://u:hunter2@h/one": "the database is a number",
    "redis://u:hunter2@h/0?db=1": "the database is named twice",
    "redis://u:hunter2@h/0#x": "it has a fragment",
    "redis://u:hunter2@h#x": "a host or a port is missing or wrong",
    "redis://u:hunter2@h x": "a host or a port is missing or wrong",
    "redis://u:hun?hunter2@h/0": "it is no URL",
    "redis://h/0?password=hunter2": "its parameters are",
    "redis://h?prefix=": "a prefix is",
    "redis://h?prefix=a}b": "a prefix is",
    "redis://h?ca=/x": "files of certificates are for TLS",
    "rediss://h?cert=/x": "cert and key belong together",
    "unix://x": "the path of a socket begins with /",
    "redis+sentinel://h": "the name of the master is missing",
    "redis+cluster://h/1": "a cluster has only database 0",
}


@pytest.mark.parametrize("url", BAD)
def test_bad_addresses_say_what_to_write(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        ServerAddress.of(url)
    assert BAD[url] in str(caught.value)
    assert "redis+sentinel://" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("value", [5, b"redis://h"])
def test_an_address_is_a_text(value: Any) -> None:
    with pytest.raises(UsageError, match="redis is the URL"):
        Agent.from_policies(POLICIES, redis=value)


def test_a_bad_address_names_the_variable_that_it_stands_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RATECTL_REDIS_URL", "localhost:6379")
    with pytest.raises(UsageError, match=r"^RATECTL_REDIS_URL 'localhost:6379' cannot be used"):
        Agent.from_policies(POLICIES)


@pytest.mark.parametrize("deadline", [0, -1, float("nan"), float("inf"), "1", None, True])
def test_a_deadline_is_a_number_of_seconds(deadline: Any) -> None:
    reason = rf"redis_deadline is 0\.001 to 60 seconds, not {deadline!r}"
    with pytest.raises(UsageError, match=reason):
        Agent.from_policies(POLICIES, redis_deadline=deadline)


def test_a_name_is_the_identity_of_its_bucket() -> None:
    group: Any = ("/a", "b", False, (), ("x", "y"), "requests")
    names = {
        count_name("p", "token", group, ["1", "2"]),
        count_name("p", "sliding", group, ["1", "2"]),
        count_name("q", "token", group, ["1", "2"]),
        count_name("p", "token", ("/a", "b", True, (), ("x", "y"), "requests"), ["1", "2"]),
        count_name("p", "token", ("/a", "b", False, ("o",), ("x", "y"), "requests"), ["1", "2"]),
        count_name("p", "token", ("/a", "b", False, (), ("x", "y"), "tokens"), ["1", "2"]),
        count_name("p", "token", group, ["1", None]),
        count_name("p", "token", group, ["1", ""]),
        count_name("p", "token", group, ["1,2", ""]),
        count_name("p", "token", group, ['1","2', ""]),
        count_name("p", "token", group, ["1", "2" * 5000]),
        count_name("p", "token", group, ["1", "2" * 5001]),
    }
    assert len(names) == 12
    assert all(name.startswith(("ratectl:{p}:", "ratectl:{q}:")) for name in names)
    assert all(name.isascii() and len(name) < 300 for name in names)
