"""Continuation of heads: a signer continues only heads of its own key; else it starts afresh."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agent.signatures import (
    ACME,
    GOOD,
    MINUTE_MS,
    YEAR_MS,
    Keys,
    environment_of,
    head_of,
    reports,
    signed,
    turn_off,
    turn_on,
)
from etcd_server import wait_for
from fleet.reports import agent as agent_report
from ratectl.errors import BundleError, Untrusted
from ratectl.history.generations import read_entry, read_live
from ratectl.kill_switch.switches import PANIC, read_switches
from ratectl.publishing._publish import publish, rollback
from ratectl.publishing.head import publishing_base
from ratectl.records import (
    AGENTS,
    ENVIRONMENT,
    HEAD,
    HISTORY,
    MAX_GENERATION,
    Candidate,
    HistoryEntry,
    history_key,
    now_ms,
)
from ratectl.rollout import Terms, abort, advance, promote, read_rollout
from ratectl.rollout._start import start
from support import ME, simple

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import ratectl
    from ratectl.stores.base import Store

    Make = Callable[..., ratectl.Agent]


@pytest.mark.parametrize("forged", [{"latest": 2**53}, {"sequence": 2**53}, {"latest": 10**7}])
def test_numbers_of_a_forged_head_are_not_signed(
    published: Store, store_url: str, make_agent: Make, keys: Keys, forged: dict[str, int]
) -> None:
    agent = make_agent(store_url, public_keys=[keys.public])
    published.put(HEAD, replace(head_of(published), **forged).encode())
    entry = publish(published, simple("3/s"), ME, signer=keys.signer)
    assert entry is not None
    assert entry.generation == 3
    assert head_of(published).latest == 3
    assert head_of(published).sequence < time.time() * 1_000 + YEAR_MS
    assert agent.wait_for_generation(3, 5)


def unsigned(store: Store, keys: Keys) -> None:
    store.put(HEAD, replace(head_of(store), signature=None).encode())


def changed(store: Store, keys: Keys) -> None:
    store.put(HEAD, replace(head_of(store), sequence=now_ms() + 9 * YEAR_MS).encode())


def unreadable(store: Store, keys: Keys) -> None:
    store.put(HEAD, b"junk")


def deleted(store: Store, keys: Keys) -> None:
    store.delete(HEAD)


def with_a_candidate(store: Store, keys: Keys) -> None:
    """Add an unsigned candidate: no signer may end its rollout, as that would continue the head."""
    candidate = Candidate(generation=3, bundle="b" * 64, rollout="r", percent=100.0)
    store.put(HEAD, replace(head_of(store), candidate=candidate).encode())


def of_before(store: Store, keys: Keys) -> None:
    """Put the signed head of generation 1 back, after an agent has obeyed that of 2."""
    head = head_of(store)
    reports(store, sequence=head.sequence)
    bundle = read_entry(store, 1).bundle
    first = replace(head, sequence=head.sequence - 1, generation=1, latest=1, bundle=bundle)
    store.put(HEAD, signed(store, first, keys.signer).encode())


@pytest.mark.parametrize(
    "damage",
    [unsigned, changed, unreadable, deleted, with_a_candidate, of_before],
    ids=lambda each: each.__name__,
)
@pytest.mark.parametrize("how", ["publish", "publish the same", "rollback"])
def test_files_are_published_and_followed_after_any_damage_to_the_head(
    published: Store,
    store_url: str,
    make_agent: Make,
    keys: Keys,
    damage: Callable[[Store, Keys], None],
    how: str,
) -> None:
    agent = make_agent(store_url, public_keys=[keys.public])
    damage(published, keys)
    if how == "rollback":
        entry = rollback(published, 2, ME, signer=keys.signer)
    else:
        entry = publish(
            published, simple("3/s") if how == "publish" else GOOD, ME, signer=keys.signer
        )
    assert entry is not None
    assert entry.generation == 3
    assert agent.wait_for_generation(3, 5)
    first = head_of(published)
    assert abs(first.sequence - now_ms()) < MINUTE_MS
    assert publish(published, simple("4/s"), ME, signer=keys.signer) is not None
    assert head_of(published).sequence == first.sequence + 1, "later publications continue it"
    assert agent.wait_for_generation(4, 5)
    assert agent.status.error is None
    assert read_entry(published, 1).action == "apply", "no number was given twice"


@pytest.mark.parametrize(
    "damage", [unsigned, changed, with_a_candidate, of_before], ids=lambda each: each.__name__
)
def test_no_candidate_starts_beside_a_head_that_the_key_did_not_sign_last(
    published: Store,
    store_url: str,
    make_agent: Make,
    keys: Keys,
    damage: Callable[[Store, Keys], None],
) -> None:
    make_agent(store_url, public_keys=[keys.public])
    damage(published, keys)
    before = published.get(HEAD)
    with pytest.raises(Untrusted, match="Apply its files with this key first"):
        start(published, simple("3/s"), ME, Terms.of([50.0]), signer=keys.signer)
    assert published.get(HEAD) == before


@pytest.mark.parametrize("step", ["advance", "abort", "promote"])
def test_no_rollout_step_continues_an_old_head(
    published: Store, store_url: str, make_agent: Make, keys: Keys, step: str
) -> None:
    """The head of an aborted candidate is put back, with the rollout's record."""
    make_agent(store_url, public_keys=[keys.public])
    assert start(published, simple("3/s"), ME, Terms.of([50.0, 100.0]), signer=keys.signer)
    old = [(item.key, item.value) for item in published.list("").items if item.key != PANIC]
    abort(published, read_rollout(published), "Ada", "", keys.signer)
    reports(published, sequence=head_of(published).sequence)
    for key, value in old:
        if not key.startswith(AGENTS):
            published.put(key, value)
    steps: dict[str, Callable[[], object]] = {
        "advance": lambda: advance(published, read_rollout(published), keys.signer),
        "abort": lambda: abort(published, read_rollout(published), "Ada", "", keys.signer),
        "promote": lambda: promote(published, read_rollout(published), "Ada", "", keys.signer),
    }
    with pytest.raises(Untrusted, match="an old one was put back"):
        steps[step]()


def test_signer_gives_no_new_identity_to_a_store_that_lost_its_own(
    published: Store, keys: Keys
) -> None:
    item = published.get(ENVIRONMENT)
    published.delete(ENVIRONMENT)
    for attempt in (
        lambda: publish(published, simple("3/s"), ME, signer=keys.signer),
        lambda: rollback(published, 1, ME, signer=keys.signer),
        lambda: turn_off(published, keys.signer, alone=True),
    ):
        with pytest.raises(Untrusted, match="'environment' was deleted"):
            attempt()
    published.delete(HEAD)
    with pytest.raises(Untrusted, match="'environment' was deleted"):
        publish(published, simple("3/s"), ME, signer=keys.signer)
    assert published.get(ENVIRONMENT) is None
    assert item is not None
    published.put(ENVIRONMENT, item.value)
    assert publish(published, simple("3/s"), ME, signer=keys.signer) is not None


def test_signed_new_store_starts_with_generation_one_and_a_time_sequence(
    store: Store, keys: Keys
) -> None:
    base = publishing_base(store, keys.signer)
    assert base.fresh is None, "there is nothing to warn of"
    assert publish(store, GOOD, ME, base=base, signer=keys.signer) is not None
    head = head_of(store)
    assert head.generation == 1
    assert abs(head.sequence - now_ms()) < MINUTE_MS


def test_unsigned_new_store_starts_with_generation_and_sequence_one(store: Store) -> None:
    assert publish(store, GOOD, ME) is not None
    head = head_of(store)
    assert (head.sequence, head.generation) == (1, 1)


@pytest.mark.parametrize("identity", ["kept", "put back"])
def test_publication_is_followed_after_head_and_history_were_deleted(
    published: Store, store_url: str, make_agent: Make, keys: Keys, identity: str
) -> None:
    """No report tells the publisher of earlier heads, and the identity may be restored later."""
    agent = make_agent(store_url, public_keys=[keys.public], report_interval=60.0)
    kept = published.get(ENVIRONMENT)
    assert kept is not None
    for item in published.list("").items:
        if item.key != PANIC and (item.key != ENVIRONMENT or identity == "put back"):
            published.delete(item.key)
    base = publishing_base(published, keys.signer)
    if identity == "put back":
        assert base.fresh is None
        published.put(ENVIRONMENT, kept.value)
    else:
        assert base.fresh is not None
        assert "if anything was ever published, somebody deleted it" in base.fresh.because
    assert publish(published, simple("3/s"), ME, base=base, signer=keys.signer) is not None
    wait_for(lambda: agent.check("/", ACME, 0).capacity == 3, "it is followed")


def test_rollback_does_not_sign_a_swapped_history_entry(published: Store, keys: Keys) -> None:
    """Both entries are signed, and were swapped."""
    assert publish(published, simple("3/s"), ME, signer=keys.signer) is not None
    one, two = (published.get(history_key(number)) for number in (1, 2))
    assert one is not None
    assert two is not None
    published.put(history_key(1), two.value)
    published.put(history_key(2), one.value)
    for generation in (1, 2):
        with pytest.raises(BundleError, match="is that of generation"):
            rollback(published, generation, ME, signer=keys.signer)


def test_planted_history_does_not_exhaust_generation_numbers(published: Store, keys: Keys) -> None:
    item = published.get(history_key(2))
    assert item is not None
    far = replace(HistoryEntry.decode(item.value), generation=MAX_GENERATION)
    published.put(history_key(MAX_GENERATION), far.encode())
    published.put(f"{HISTORY}1", b"junk")
    published.put(HEAD, replace(head_of(published), latest=MAX_GENERATION, signature=None).encode())
    entry = publish(published, simple("3/s"), ME, signer=keys.signer)
    assert entry is not None
    assert entry.generation == 3
    for number in (1, 2, 3):
        published.delete(history_key(number))
    published.delete(HEAD)
    with pytest.raises(BundleError, match=f"delete 'history/{MAX_GENERATION}' from the store"):
        publish(published, simple("4/s"), ME, signer=keys.signer)


def test_numbers_of_an_unsigned_head_are_continued_only_if_plausible(store: Store) -> None:
    assert publish(store, GOOD, ME) is not None
    for latest, then in ((900, 901), (10**9, 902)):
        store.put(HEAD, replace(head_of(store), latest=latest).encode())
        entry = publish(store, simple(f"{then}/s"), ME)
        assert entry is not None
        assert entry.generation == then


def test_unreadable_history_does_not_prevent_publishing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ratectl.publishing._publish._COLLECT_EVERY", 1)
    store.put(history_key(7), b"junk")
    assert publish(store, GOOD, ME) is not None
    assert read_live(store).generation == 8


def test_agent_with_unreadable_reports_does_not_count(published: Store, keys: Keys) -> None:
    record = agent_report("a").encode().replace(b'"sequence":0', b'"sequence":"9"')
    published.put(AGENTS + "a", record)
    known = head_of(published).sequence
    assert publish(published, simple("3/s"), ME, signer=keys.signer) is not None
    assert head_of(published).sequence == known + 1


def test_key_for_another_environment_writes_nothing(
    published: Store, keys: Keys, tmp_path: Path
) -> None:
    bound = Keys(tmp_path, "bound", "f" * 32).signer
    for attempt in (
        lambda: publish(published, simple("3/s"), ME, signer=bound),
        lambda: turn_on(published, "/a", bound, alone=True),
    ):
        with pytest.raises(Untrusted, match="but the key is for"):
            attempt()
    assert read_live(published).generation == 2
    assert read_switches(published).sequence == 0
    assert environment_of(published) != "f" * 32


def test_old_head_is_recognised_by_later_signed_history(published: Store, keys: Keys) -> None:
    """The publisher notices it without any agent."""
    first = published.get(HEAD)
    assert first is not None
    assert publish(published, simple("3/s"), ME, signer=keys.signer) is not None
    published.put(HEAD, first.value)
    with pytest.raises(Untrusted, match="this key has signed generation 3: an old head was put"):
        start(published, simple("4/s"), ME, Terms.of([50.0]), signer=keys.signer)
    entry = publish(published, simple("4/s"), ME, signer=keys.signer)
    assert entry is not None
    assert entry.generation == 4


def test_publication_that_continues_a_head_does_not_switch_to_a_fresh_start(
    published: Store, store_url: str, make_agent: Make, keys: Keys
) -> None:
    """A set is merged into an old head that was put back; agents report only afterwards."""
    base = publishing_base(published, keys.signer)
    assert base.fresh is None
    known = head_of(published).sequence
    published.put(AGENTS + "a", agent_report("a", sequence=known + 9).encode())
    assert publish(published, simple("3/s"), ME, base=base, signer=keys.signer) is not None
    assert head_of(published).sequence == known + 1, "agents that obeyed a newer head refuse it"
