"""A sidecar that follows a management server, as Envoy Gateway is one."""

from __future__ import annotations

import stat
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from agent.signatures import Keys
from envoy_gateway.management_server import NODE, TYPE, ManagementServer, config, limit, packed
from envoy_gateway.place import begun
from etcd_server import wait_for
from ratectl import Agent, Tls
from ratectl.errors import Refused, UsageError
from ratectl.history.generations import read_history, read_live
from ratectl.history.trees import live_tree
from ratectl.publishing.propose import propose
from ratectl.publishing.rollback import propose_rollback
from ratectl.publishing.sets import SetChoice
from ratectl.sidecar import Sidecar
from ratectl.stores import open_store
from ratectl.xds import GatewayFollower, publication
from ratectl.xds import follower as follower_module
from support import once

if TYPE_CHECKING:
    from pathlib import Path

    from envoy_gateway.conftest import Start

pytestmark = once

HTTP = "default/eg/http"
ROUTE = ("first-route", "first-route")
RULE = ("rule-0-match-0", "rule-0-match-0")
BY_CLIENT = "rule-1-match-0"
SCOPE = "/default-eg-http-bca9c50f/first-route_first-route/rule-0-match-0_rule-0-match-0"


def gateway(count: int, *more: dict[str, Any]) -> Any:
    """Return a listener whose rule has a limit of ``count`` a day."""
    return packed(config(HTTP, limit(RULE[0], f"{count}/DAY", RULE[1]), *more))


def test_limits_are_in_force_and_accepted(server: ManagementServer, start: Start) -> None:
    place = start(server.address)
    assert place.ask(HTTP, ROUTE, RULE), "there are no limits yet"
    server.put(7, gateway(2, limit(BY_CLIENT, "1/DAY")))
    wait_for(lambda: server.accepted(7), "it is accepted")
    assert place.admits(HTTP, ROUTE, RULE) == 2
    for client in ("alice", "bob"):
        assert place.admits(HTTP, ROUTE, (BY_CLIENT, client)) == 1
    assert place.admits(HTTP, ROUTE, ("another", "entry")) == 100, "it is not listed"
    assert place.admits("another/domain", ROUTE, RULE) == 100
    first, accepted = server.requests
    assert (first.node.id, first.type_url, first.version_info, first.response_nonce) == (
        NODE, TYPE, "", ""
    )  # fmt: skip
    assert (accepted.type_url, accepted.version_info, accepted.response_nonce) == (TYPE, "7", "1")
    assert place.problem is None


def test_a_change_is_followed_and_counters_go_on(
    server: ManagementServer, start: Start, url: str
) -> None:
    place = begun(start, server, gateway(5))
    for _ in range(3):
        assert place.ask(HTTP, ROUTE, RULE)
    server.put(2, gateway(5, limit(BY_CLIENT, "1/DAY")))
    wait_for(lambda: server.accepted(2), "it is accepted")
    assert place.admits(HTTP, ROUTE, (BY_CLIENT, "alice")) == 1
    assert place.admits(HTTP, ROUTE, RULE) == 2, "three of five were used before"
    server.put(3)
    wait_for(lambda: server.accepted(3), "it is accepted")
    assert place.admits(HTTP, ROUTE, RULE) == 100, "no limit is left"
    with open_store(url) as store:
        live = live_tree(store).tree
    assert not live.policies


def test_overrides_of_a_value_and_addresses(server: ManagementServer, start: Start) -> None:
    """The forms that Envoy Gateway sends for distinct headers, and for ranges of addresses."""
    networks = {
        "key": "rule-0-match--1",
        "value": "rule-0-match--1",
        "descriptors": [
            limit("masked_remote_address", "1/HOUR", "192.168.0.0/16",
                  descriptors=[limit("remote_address", "3/DAY")]),
        ],
    }  # fmt: skip
    clients = limit(BY_CLIENT, "1/DAY"), limit(BY_CLIENT, "4/DAY", "gold")
    place = begun(start, server, packed(config(HTTP, networks, *clients)))
    network = ("rule-0-match--1",) * 2, ("masked_remote_address", "192.168.0.0/16")
    assert place.admits(HTTP, ROUTE, *network) == 1
    assert place.admits(HTTP, ROUTE, *network, ("remote_address", "192.168.0.1")) == 3
    assert place.admits(HTTP, ROUTE, *network, ("remote_address", "192.168.0.2")) == 3
    assert place.admits(HTTP, ROUTE, (BY_CLIENT, "gold")) == 4
    assert place.admits(HTTP, ROUTE, (BY_CLIENT, "new")) == 1


def test_shadow_mode_and_costs_of_responses(server: ManagementServer, start: Start) -> None:
    shadow = limit("rule-2-match-0", "1/DAY", shadow_mode=True)
    tokens = limit("rule-3-match-0", "1000/DAY")
    place = begun(start, server, packed(config(HTTP, shadow, tokens)))
    assert place.admits(HTTP, ROUTE, ("rule-2-match-0", "x")) == 100
    entry = ("rule-3-match-0", "alice")
    for used in (600, 600):
        assert place.ask(HTTP, ROUTE, entry, hits=0), "Envoy looks before"
        place.ask(HTTP, ROUTE, entry, hits=used)
    assert not place.ask(HTTP, ROUTE, entry, hits=0), "1,200 tokens are used"


def test_an_invalid_configuration_is_refused_and_the_one_before_stays(
    server: ManagementServer, start: Start
) -> None:
    place = begun(start, server, gateway(2))
    server.put(2, packed(config(HTTP, limit("a", "1/YEAR"), limit("b", "1/UNKNOWN"))))
    problem = place.wait_for_problem("version 2")
    assert f"{server.address} is refused, and the limits before it stay: xds:{HTTP}:" in problem
    assert "a year is 365 days since 1970" in problem
    assert problem.endswith(": unit: year; and 1 more")
    wait_for(lambda: server.refusals, "it is told")
    refusal = next(each for each in server.requests if each.HasField("error_detail"))
    assert (refusal.version_info, refusal.error_detail.code) == ("1", 3)
    assert refusal.error_detail.message in problem
    assert place.admits(HTTP, ROUTE, RULE) == 2
    told = time.monotonic()
    wait_for(lambda: len(server.refusals) > 1, "the server sends the same at once")
    assert time.monotonic() - told > 0.3
    server.put(3, gateway(3))
    wait_for(lambda: server.accepted(3), "the next one is accepted", 20)
    place.wait_until_well()
    assert place.admits(HTTP, ROUTE, RULE) == 1, "two of three were used before"


def test_a_server_that_comes_back_and_counts_anew(start: Start) -> None:
    with ManagementServer() as first:
        first.put(1, gateway(2))
        place = start(first.address)
        wait_for(lambda: first.accepted(1), "it is accepted")
    place.wait_for_problem(f"the management server {first.address} is not reached: ")
    assert place.admits(HTTP, ROUTE, RULE) == 2, "limits stay"
    with ManagementServer(at=first.address) as second:
        second.put(1, gateway(5))  # the same version, and others limits
        wait_for(lambda: second.accepted(1), "it is accepted", 20)
        place.wait_until_well()
        assert place.admits(HTTP, ROUTE, RULE) == 3


def test_a_restart_while_the_server_is_away(start: Start) -> None:
    with ManagementServer() as server:
        server.put(1, gateway(2))
        place = start(server.address)
        wait_for(lambda: server.accepted(1), "it is accepted")
        place.close()
    again = start(server.address)
    wait_for(lambda: again.agent.generation == 1, "the store has the limits")
    assert again.admits(HTTP, ROUTE, RULE) == 2
    assert again.wait_for_problem("is not reached")


def test_a_kept_mapping_that_is_damaged_is_replaced(
    start: Start, server: ManagementServer, tmp_path: Path
) -> None:
    place = begun(start, server, gateway(2))
    (kept,) = (tmp_path / "state" / "xds").iterdir()
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    good = kept.read_bytes()
    place.close()
    kept.write_text("nonsense: [")
    again = start(server.address)
    wait_for(lambda: kept.read_bytes() == good, "it is written again")
    assert again.admits(HTTP, ROUTE, RULE) == 2


def test_sidecars_with_one_store_publish_once(
    server: ManagementServer, start: Start, url: str
) -> None:
    server.put(1, gateway(2))
    places = [start(server.address, state=f"state-{number}") for number in range(3)]
    wait_for(lambda: _accepted_by(server, "1") >= 3, "all accept")
    server.put(2, gateway(3))
    wait_for(lambda: _accepted_by(server, "2") >= 3, "all accept")
    assert [place.admits(HTTP, ROUTE, RULE) for place in places] == [3, 3, 3]
    with open_store(url) as store:
        assert read_live(store).generation == 2


def _accepted_by(server: ManagementServer, version: str) -> int:
    return sum(each.version_info == version for each in server.requests)


def test_the_tree_is_read_only(
    server: ManagementServer, start: Start, url: str, tmp_path: Path
) -> None:
    """The set owns it: others publish beside it, and not over it."""
    server.put("v1", gateway(2))
    start(server.address)
    wait_for(lambda: server.accepted("v1"), "it is accepted")
    with open_store(url) as store:
        with pytest.raises(Refused, match="xds"):
            propose(store, policy(tmp_path, "/own"))
        with pytest.raises(Refused, match="does not belong to this set"):
            propose(store, policy(tmp_path, SCOPE), choice=SetChoice("team"))
        assert propose(store, policy(tmp_path, "/own"), choice=SetChoice("team")).apply()
        _, first = read_history(store)
        assert (first.set, first.author, first.message) == (
            "xds", server.address, "xDS version v1"
        )  # fmt: skip


def policy(folder: Path, scope: str) -> Path:
    """Write a policy for a scope; return its file."""
    file = folder / "team.yaml"
    file.write_text(f"apiVersion: ratectl/v1\nscope: {scope}\nlimits:\n  own: {{rate: 1/s}}\n")
    return file


def test_what_cannot_be_published_is_told_and_tried_again(
    server: ManagementServer, start: Start, url: str, tmp_path: Path
) -> None:
    with open_store(url) as store:
        propose(store, policy(tmp_path, SCOPE), choice=SetChoice("team")).apply()
        place = start(server.address)
        server.put(1, gateway(2))
        problem = place.wait_for_problem(f"version 1 of {server.address} cannot be published")
        assert "does not belong to this set" in problem
        assert not server.accepted(1)
        wait_for(lambda: server.refusals, "it is told")
        assert "does not belong to this set" in server.refusals[0]
        choice = SetChoice("team", prune=True)
        moved = propose(store, policy(tmp_path, "/own"), choice=choice)
        moved.apply({each.guard: "moved" for each in moved.objections})
    wait_for(lambda: server.accepted(1), "it is accepted", 20)
    place.wait_until_well()
    assert place.admits(HTTP, ROUTE, RULE) == 2


def test_a_version_that_cannot_be_published_does_not_hold_up_the_next(
    server: ManagementServer, start: Start, url: str, tmp_path: Path
) -> None:
    with open_store(url) as store:
        propose(store, policy(tmp_path, SCOPE), choice=SetChoice("team")).apply()
    place = start(server.address)
    server.put(1, gateway(2))
    place.wait_for_problem("version 1")
    server.put(2, packed(config(HTTP, limit(BY_CLIENT, "1/DAY"))))
    wait_for(lambda: server.accepted(2), "the next one is accepted", 20)
    place.wait_until_well()
    assert place.admits(HTTP, ROUTE, (BY_CLIENT, "a")) == 1


def test_another_publisher_that_is_faster_is_no_problem(
    server: ManagementServer,
    start: Start,
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    place = begun(start, server, gateway(2))
    proposed = publication._proposal

    def overtaken(*arguments: Any) -> Any:
        monkeypatch.undo()
        proposal = proposed(*arguments)
        with open_store(url) as store:
            propose(store, policy(tmp_path, "/own"), choice=SetChoice("team")).apply()
        return proposal

    monkeypatch.setattr(publication, "_proposal", overtaken)
    server.put(2, gateway(3))
    wait_for(lambda: server.accepted(2), "it is accepted")
    assert "cannot be published" not in caplog.text
    assert place.agent.generation == 3


def test_what_the_agent_does_not_enforce_is_not_accepted(
    server: ManagementServer, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = begun(start, server, gateway(2))
    monkeypatch.setattr(follower_module, "_ADOPTION", 0.1)
    monkeypatch.setattr(follower_module, "_LOOK", 0.05)
    monkeypatch.setattr(place.follower, "_state", NeverAdopting())
    server.put(2, gateway(3))
    assert "does not enforce generation 2" in place.wait_for_problem("version 2")
    assert not server.accepted(2)
    monkeypatch.undo()
    wait_for(lambda: server.accepted(2), "it is accepted later", 20)
    place.wait_until_well()


class NeverAdopting:
    def wait_for_generation(self, at_least: int, timeout: float) -> bool:
        time.sleep(timeout)
        return False


def test_the_same_content_again_undoes_no_rollback(
    server: ManagementServer, start: Start, url: str
) -> None:
    place = begun(start, server, gateway(2))
    server.put(2, gateway(3))
    wait_for(lambda: server.accepted(2), "it is accepted")
    with open_store(url) as store:
        assert propose_rollback(store, to=1).apply()
    wait_for(lambda: place.agent.generation == 3, "the rollback")
    server.put(7, gateway(3))
    wait_for(lambda: server.accepted(7), "it is accepted")
    with open_store(url) as store:
        assert read_live(store).generation == 3
    server.put(8, gateway(4))
    wait_for(lambda: server.accepted(8), "a new one is published")
    assert place.agent.generation == 4


@pytest.mark.parametrize("pause", [0, 0.0005, 0.003])
def test_a_follower_that_has_just_begun_ends(
    server: ManagementServer, start: Start, pause: float
) -> None:
    for number in range(10):
        place = start(server.address, state=f"state-{number}")
        time.sleep(pause)
        place.close()
    assert not [each for each in threading.enumerate() if each.name == "ratectl-xds"]


def test_a_follower_ends_at_once_whatever_it_does(
    server: ManagementServer, start: Start, url: str, tmp_path: Path
) -> None:
    """One waits for the server's answer, then to publish; the other waits to connect."""
    waits = start(server.address)
    wait_for(lambda: server.requests, "it asks")
    nobody = start("127.0.0.1:9", state="other")
    nobody.wait_for_problem("is not reached")
    with open_store(url) as store:
        propose(store, policy(tmp_path, SCOPE), choice=SetChoice("team")).apply()
    server.put(1, gateway(2))
    waits.wait_for_problem("cannot be published")
    for place in (waits, nobody):
        started = time.monotonic()
        place.follower.close()
        place.follower.close()
        assert time.monotonic() - started < 5


# Wrong use ----------------------------------------------------------------------------------------


def test_agents_that_cannot_follow(tmp_path: Path, url: str) -> None:
    keys = Keys(tmp_path, "platform")
    file = policy(tmp_path, "/own")
    for source in (file, "etcd://127.0.0.1:9/prod"):
        with (
            Agent(source, state_dir=tmp_path / "s", ready_timeout=0) as agent,
            Sidecar(agent, "127.0.0.1:0") as sidecar,
            pytest.raises(UsageError, match="a store of its own"),
        ):
            GatewayFollower(agent, sidecar, "127.0.0.1:1")
    signed = Agent(url, state_dir=tmp_path / "s", ready_timeout=0, public_keys=[keys.public])
    with (
        signed as agent,
        Sidecar(agent, "127.0.0.1:0") as sidecar,
        pytest.raises(UsageError, match="obeys signed policies only"),
    ):
        GatewayFollower(agent, sidecar, "127.0.0.1:1")


def test_addresses_and_mappings_that_cannot_be_used(tmp_path: Path, url: str) -> None:
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text("apiVersion: ratectl/v1\nkind: EnvoyMapping\ndomains: {}\n")
    with Agent(url, state_dir=tmp_path / "s", ready_timeout=0) as agent:
        with (
            Sidecar(agent, "127.0.0.1:0", rls_mapping=mapping) as sidecar,
            pytest.raises(UsageError, match="leave out rls_mapping"),
        ):
            GatewayFollower(agent, sidecar, "127.0.0.1:1")
        with Sidecar(agent, "127.0.0.1:0") as sidecar:
            for address in ("unix:/run/x.sock", "nonsense", "", "127.0.0.1:0"):
                with pytest.raises(UsageError):
                    GatewayFollower(agent, sidecar, address)
            for wrong in ({"across": "cluster"}, {"quota_mode": "ignore"}):
                with pytest.raises(UsageError, match=r"'redis'|'shadow'"):
                    GatewayFollower(agent, sidecar, "127.0.0.1:1", **wrong)  # type: ignore[arg-type]
            missing = Tls(tmp_path / "no.pem", tmp_path / "no.key", tmp_path / "ca.pem")
            with pytest.raises(UsageError, match=r"cannot read .*no\.pem"):
                GatewayFollower(agent, sidecar, "127.0.0.1:1", tls=missing)
