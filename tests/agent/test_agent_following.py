"""Following of a store by an agent: list, watch, verify, swap, acknowledge."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from etcd_server import wait_for
from ratectl.agent import adoption
from ratectl.errors import UsageError
from ratectl.fleet.usage import read_agents, read_usage, totals
from ratectl.history.blobs import CHUNK_BYTES
from ratectl.policy.bundle import digest, encode_policies
from ratectl.publishing._publish import rollback
from ratectl.records import AGENTS, BUNDLES, HEAD, MANIFESTS, USAGE, AgentRecord, Head, Manifest
from ratectl.stores.base import Put
from support import ME, policies, publish_policies, simple

if TYPE_CHECKING:
    from collections.abc import Callable

    import ratectl
    from ratectl.stores.base import Store

    Make = Callable[..., ratectl.Agent]

ACME = {"tenant": "acme"}


def recorded(store: Store, agent: ratectl.Agent) -> AgentRecord | None:
    item = store.get(AGENTS + agent.id)
    return AgentRecord.decode(item.value) if item else None


def put_raw_generation(store: Store, data: bytes, generation: int) -> None:
    """Publish bytes that ``publish`` would not, as a broken or hostile publisher could."""
    sha256 = digest(data)
    chunk = Put(f"{BUNDLES}{sha256}/00000", data)
    manifest = Manifest(size=len(data), chunks=1, wanted="2026-01-01T00:00:00.000Z")
    store.txn((), [chunk, Put(MANIFESTS + sha256, manifest.encode())])
    head = Head(sequence=generation, generation=generation, bundle=sha256)
    store.put(HEAD, head.encode())


def test_enforces_the_live_generation_at_start(store: Store, store_url: str, make_agent: Make):
    publish_policies(store, simple("2/h"))
    agent = make_agent(store_url)
    verdicts = [bool(agent.check("/any/where", ACME)) for _ in range(2)]
    assert verdicts == [True, False]
    assert agent.generation == 1
    assert agent.status.source == "store"


def test_acknowledges_each_generation_it_swaps_to(store: Store, store_url: str, make_agent: Make):
    agent = make_agent(store_url, ready_timeout=0)
    for rate in ("5/s", "6/s", "7/s"):
        entry = publish_policies(store, simple(rate))
        assert agent.wait_for_generation(entry.generation, 5)
        record = wait_for(
            lambda entry=entry: (
                (r := recorded(store, agent)) and r.generation == entry.generation and r
            ),
            "acknowledgement",
        )
        assert record.state == "serving"
        assert record.error is None
        assert record.swap_ms is not None


def test_reload_keeps_bucket_state(store: Store, store_url: str, make_agent: Make):
    publish_policies(store, simple("1/day", burst=10))
    agent = make_agent(store_url)
    for _ in range(7):
        assert agent.check("/", ACME)
    agent.wait_for_generation(publish_policies(store, simple("1/day", burst=100)).generation, 5)
    assert agent.check("/", ACME).remaining == 2, "growth adds capacity, not tokens"
    agent.wait_for_generation(publish_policies(store, simple("1/day", burst=1)).generation, 5)
    assert agent.check("/", ACME).remaining == 0
    assert not agent.check("/", ACME)


def test_follows_a_rollback(store: Store, store_url: str, make_agent: Make):
    publish_policies(store, simple("1/day", burst=3))
    publish_policies(store, simple("1/day", burst=1))
    agent = make_agent(store_url)
    entry = rollback(store, 1, ME)
    assert entry is not None
    assert agent.wait_for_generation(3, 5)
    assert agent.check("/", ACME).capacity == 3


def test_reads_a_bundle_of_many_chunks(store: Store, store_url: str, make_agent: Make):
    many = policies(
        **{
            f"/team{n % 60}/service{n}": {
                "description": "x" * 400,
                "limits": {"spike": {"rate": f"{n + 1}/s"}},
            }
            for n in range(4_000)
        }
    )
    assert len(encode_policies(many)) > 3 * CHUNK_BYTES
    publish_policies(store, many)
    agent = make_agent(store_url)
    assert agent.wait_ready(5)
    assert agent.check("/team39/service3999").capacity == 4000


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("not JSON", b"\x00\xffnonsense", "bundle is invalid"),
        ("newer format", b'{"format":3,"policies":[]}', "upgrade ratectl"),
        (
            "limit without a rate",
            b'{"exceptions":0,"format":2,"policies":1}\n{"scope":"/","limits":{"a":{"burst":3}}}\n',
            "has no rate",
        ),
        (
            "unknown field",
            b'{"exceptions":0,"format":2,"policies":1}\n{"scope":"/","limitz":{}}\n',
            "policies.0.limitz",
        ),
    ],
)
def test_rejects_a_bad_generation_as_a_whole_and_reports_why(
    store: Store, store_url: str, make_agent: Make, name: str, data: bytes, said: str
):
    publish_policies(store, simple("1/day", burst=2))
    agent = make_agent(store_url)
    assert agent.check("/", ACME)
    put_raw_generation(store, data, 2)
    record = wait_for(
        lambda: (r := recorded(store, agent)) and r.state == "rejected" and r, "rejection"
    )
    assert record.rejected == 2
    assert record.generation == 1
    assert said in (record.error or "")
    assert agent.check("/", ACME), f"generation 1 keeps serving after: {name}"
    assert not agent.check("/", ACME)
    entry = publish_policies(store, simple("1/day", burst=5))
    assert agent.wait_for_generation(entry.generation, 5)
    assert agent.status.rejected is None
    assert agent.status.error is None


def test_unreadable_bundle_is_fetched_once(
    store: Store, store_url: str, make_agent: Make, monkeypatch: pytest.MonkeyPatch
):
    """An agent older than its publishers reads the head every minute, but not the bundle."""
    publish_policies(store, simple("1/day", burst=2))
    agent = make_agent(store_url)
    put_raw_generation(store, b'{"format":3,"policies":[{"later":"shape"}]}', 2)
    wait_for(lambda: agent.status.rejected == 2, "rejection")
    before = agent.status
    monkeypatch.setattr(adoption, "verified", lambda *_: pytest.fail("once was enough"))
    agent._following.sync._adoption.see(store, {HEAD: store.get(HEAD)})
    assert agent.status == before
    assert "upgrade ratectl" in (before.error or "")


def test_rejects_bytes_with_another_hash(store: Store, store_url: str, make_agent: Make):
    publish_policies(store, simple("1/day", burst=2))
    agent = make_agent(store_url)
    good = encode_policies(simple("9/s"))
    sha256 = digest(good)
    manifest = Manifest(size=len(good), chunks=1, wanted="2026-01-01T00:00:00.000Z")
    flipped = good.replace(b"9/s", b"8/s")
    store.txn(
        (), [Put(f"{BUNDLES}{sha256}/00000", flipped), Put(MANIFESTS + sha256, manifest.encode())]
    )
    store.put(HEAD, Head(sequence=2, generation=2, bundle=sha256).encode())
    wait_for(lambda: agent.status.rejected == 2, "rejection")
    assert "corrupt" in (agent.status.error or "")
    assert agent.generation == 1


def test_unreadable_head_is_rejected(store: Store, store_url: str, make_agent: Make):
    publish_policies(store, simple("1/day", burst=2))
    agent = make_agent(store_url)
    store.put(HEAD, b"not a head")
    wait_for(lambda: agent.status.rejected is not None, "rejection")
    assert agent.generation == 1
    assert agent.check("/", ACME)


def test_a_deleted_head_changes_nothing_but_is_reported(
    store: Store, store_url: str, make_agent: Make
):
    publish_policies(store, simple("1/day", burst=2))
    agent = make_agent(store_url)
    store.delete(HEAD)
    wait_for(lambda: agent.status.error, "the trouble is reported")
    assert "no live generation" in (agent.status.error or "")
    assert agent.check("/", ACME)
    assert agent.generation == 1


def test_reports_usage_that_adds_up(store: Store, store_url: str, make_agent: Make):
    publish_policies(store, simple("1/day", burst=3))
    agents = [make_agent(store_url), make_agent(store_url)]
    for agent in agents:
        for _ in range(5):
            agent.check("/shop", ACME)
        agent.check("/shop", {"tenant": "zeta"}, cost=4)
    wait_for(
        lambda: (
            (seen := totals(read_usage(store)).limits)
            and seen[0].allowed == 6
            and seen[0].refused == 4
            and seen[0].never == 2
        ),
        "usage of both",
    )
    total = totals(read_usage(store)).limits[0]
    assert (total.scope, total.limit, total.agents) == ("/", "spike", 2)
    assert total.peak == 1.0
    assert total.top_refused["acme"] == 4
    assert {agent.id for agent in agents} == {record.id for record in read_agents(store)}


def test_a_closed_agent_leaves_no_record_and_no_thread(
    store: Store, store_url: str, make_agent: Make
):
    publish_policies(store, simple())
    before = set(threading.enumerate())
    agent = make_agent(store_url)
    wait_for(lambda: store.get(USAGE + agent.id), "a report")
    agent.close()
    agent.close()
    assert store.get(AGENTS + agent.id) is None
    assert store.get(USAGE + agent.id) is None
    assert not [t for t in set(threading.enumerate()) - before if t.name.startswith("ratectl-")]
    assert agent.check("/", ACME), "decisions go on by the policies in force"


def test_two_agents_of_one_service_have_two_ids(store: Store, store_url: str, make_agent: Make):
    one, other = make_agent(store_url, ready_timeout=0), make_agent(store_url, ready_timeout=0)
    assert one.id != other.id
    twins = [make_agent(store_url, id="web", ready_timeout=0) for _ in range(2)]
    assert [agent.id for agent in twins] == ["web", "web~2"]


def test_without_any_generation_on_error_answers_and_the_state_says_waiting(
    store: Store, store_url: str, make_agent: Make
):
    open_agent = make_agent(store_url, ready_timeout=0)
    closed_agent = make_agent(store_url, ready_timeout=0, on_error="deny")
    decision = open_agent.check("/", ACME)
    assert (decision.allowed, decision.reason) == (True, "error")
    decision = closed_agent.check("/", ACME)
    assert (decision.allowed, decision.reason) == (False, "error")
    record = wait_for(lambda: recorded(store, open_agent), "a record")
    assert (record.state, record.generation) == ("waiting", 0)


def test_a_wrong_url_or_option_is_an_error_at_once(make_agent: Make):
    with pytest.raises(UsageError, match="not a store URL"):
        make_agent("redis://localhost")
    with pytest.raises(UsageError, match="neither a store URL nor a directory"):
        make_agent("no/such/directory")
    with pytest.raises(UsageError, match="on_error"):
        make_agent("sqlite:///x.db", on_error="perhaps")
