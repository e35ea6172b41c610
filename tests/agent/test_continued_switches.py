"""Continuation of switches: a signer adds switches only to a record of its own key."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agent.signatures import (
    ACME,
    DAY_MS,
    MINUTE_MS,
    YEAR_MS,
    Keys,
    head_of,
    obeys,
    reports,
    sign_switches,
    signed,
    turn_off,
    turn_on,
)
from etcd_server import wait_for
from fleet.reports import agent as agent_report
from ratectl.errors import Untrusted, UsageError
from ratectl.kill_switch.switches import MAX_SWITCHES, PANIC, Switch, Switches, read_switches
from ratectl.publishing._publish import publish
from ratectl.records import AGENTS, ENVIRONMENT, HEAD, now_ms
from support import ME, simple

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import ratectl
    from ratectl.stores.base import Store

    Make = Callable[..., ratectl.Agent]


def test_signer_does_not_sign_a_planted_switch(
    published: Store, store_url: str, make_agent: Make, keys: Keys
) -> None:
    agent = make_agent(store_url, public_keys=[keys.public])
    turn_on(published, "/")
    wait_for(lambda: "not signed" in (agent.status.error or ""), "the planted switch is refused")
    with pytest.raises(Untrusted, match=r"\(open / by Ada\) cannot be verified: it is not signed"):
        turn_on(published, "/shop", keys.signer)
    assert [each.scope for each in read_switches(published).on] == ["/"], "nothing was written"
    assert agent.status.panic == ()
    assert [bool(agent.check("/", ACME)) for _ in range(3)] == [True, True, False]


def test_planted_switch_is_discarded_by_on_only_and_by_off(
    published: Store, store_url: str, make_agent: Make, keys: Keys
) -> None:
    agent = make_agent(store_url, public_keys=[keys.public])
    turn_on(published, "/")
    turn_on(published, "/shop", keys.signer, alone=True)
    obeys(agent, "/shop")
    published.put(PANIC, Switches(now_ms() + YEAR_MS, read_switches(published).on).encode())
    turn_off(published, keys.signer, alone=True)
    obeys(agent)
    turn_on(published, "/a", keys.signer)
    turn_on(published, "/b", keys.signer)
    obeys(agent, "/a", "/b")
    assert agent.status.error is None


@pytest.mark.parametrize("ahead", [2**53 - 1, 10 * YEAR_MS - MINUTE_MS, YEAR_MS])
def test_forged_sequence_is_neither_signed_nor_exceeded(
    published: Store, store_url: str, make_agent: Make, keys: Keys, ahead: int
) -> None:
    agent = make_agent(store_url, public_keys=[keys.public])
    published.put(PANIC, Switches(min(now_ms() + ahead, 2**53 - 1)).encode())
    with pytest.raises(Untrusted):
        turn_on(published, "/shop", keys.signer)
    after = turn_on(published, "/shop", keys.signer, alone=True)
    assert abs(after.sequence - now_ms()) < MINUTE_MS
    obeys(agent, "/shop")
    assert turn_off(published, keys.signer).sequence == after.sequence + 1
    obeys(agent)


def test_switches_of_another_key_or_environment_are_not_continued(
    published: Store, keys: Keys, tmp_path: Path
) -> None:
    for signer, environment in ((Keys(tmp_path, "b").signer, None), (keys.signer, "f" * 32)):
        planted = Switches().turned_on(Switch.now("/", "open", "r", "a"))
        published.put(PANIC, sign_switches(published, planted, signer, environment).encode())
        with pytest.raises(Untrusted, match="it was not signed by this key"):
            turn_on(published, "/shop", keys.signer)


def test_old_record_is_not_continued_if_agents_have_obeyed_a_newer_one(
    published: Store, store_url: str, make_agent: Make, keys: Keys
) -> None:
    agent = make_agent(store_url, public_keys=[keys.public])
    opened = turn_on(published, "/", keys.signer)
    closed = turn_off(published, keys.signer)
    obeys(agent)
    reports(published, panic_sequence=closed.sequence)
    published.put(PANIC, opened.encode())
    with pytest.raises(Untrusted, match="an old one was put back"):
        turn_on(published, "/shop", keys.signer)
    turn_on(published, "/shop", keys.signer, alone=True)
    obeys(agent, "/shop")


def test_continuation_of_an_old_record_is_not_obeyed(
    published: Store, store_url: str, make_agent: Make, keys: Keys
) -> None:
    """No agent was running to report the newer record."""
    agent = make_agent(store_url, id="me", public_keys=[keys.public])
    opened = turn_on(published, "/", keys.signer)
    obeys(agent, "/")
    turn_off(published, keys.signer)
    obeys(agent)
    agent.close()
    published.put(PANIC, opened.encode())
    turn_on(published, "/shop", keys.signer)
    again = make_agent(store_url, id="me", public_keys=[keys.public])
    wait_for(
        lambda: "turn the switch on or off again" in (again.status.error or ""), "it is refused"
    )
    assert again.status.panic == ()
    turn_on(published, "/shop", keys.signer, alone=True)
    obeys(again, "/shop")


def test_fresh_start_has_a_higher_sequence_than_all_signed_records(
    published: Store, store_url: str, make_agent: Make, keys: Keys
) -> None:
    agent = make_agent(store_url, public_keys=[keys.public])
    before = [turn_on(published, "/", keys.signer), turn_on(published, "/a", keys.signer)]
    obeys(agent, "/", "/a")
    published.delete(PANIC)
    turn_off(published, keys.signer, alone=True)
    obeys(agent)
    for record in before:
        published.put(PANIC, record.encode())
        wait_for(
            lambda: "is older than the one that is obeyed" in (agent.status.error or ""), "refused"
        )
        assert agent.status.panic == ()


def switch_of_a_clock_ahead(store: Store, keys: Keys, ahead: int) -> Switches:
    """Turn a switch on as a signer whose clock is ahead by so many milliseconds."""
    turned = Switches().turned_on(Switch.now("/", "open", "r", "a"))
    ahead_of_all = sign_switches(store, replace(turned, sequence=now_ms() + ahead), keys.signer)
    store.put(PANIC, ahead_of_all.encode())
    return ahead_of_all


def test_fresh_start_exceeds_a_clock_hours_ahead_by_agents_reports(
    published: Store, store_url: str, make_agent: Make, keys: Keys
) -> None:
    agent = make_agent(store_url, public_keys=[keys.public])
    ahead = switch_of_a_clock_ahead(published, keys, DAY_MS - MINUTE_MS)
    obeys(agent, "/")
    reports(published, panic_sequence=ahead.sequence)
    published.delete(PANIC)
    assert turn_off(published, keys.signer).sequence == ahead.sequence + 1
    obeys(agent)


def test_fresh_start_exceeds_a_clock_a_year_ahead_by_the_own_signature(
    published: Store, store_url: str, make_agent: Make, keys: Keys
) -> None:
    agent = make_agent(store_url, public_keys=[keys.public])
    ahead = switch_of_a_clock_ahead(published, keys, YEAR_MS)
    obeys(agent, "/")
    another = agent_report("b", panic_sequence=ahead.sequence + MINUTE_MS)
    published.put(AGENTS + "b", another.encode())
    assert turn_off(published, keys.signer, alone=True).sequence == ahead.sequence + 1
    obeys(agent)


def test_fresh_start_exceeds_a_clock_a_year_ahead_by_setting_the_clock(
    published: Store, store_url: str, make_agent: Make, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record is gone: only a report names the number, and reports are not signed."""
    agent = make_agent(store_url, public_keys=[keys.public])
    ahead = switch_of_a_clock_ahead(published, keys, YEAR_MS)
    obeys(agent, "/")
    published.delete(PANIC)
    turn_off(published, keys.signer, alone=True)
    wait_for(
        lambda: "is older than the one that is obeyed" in (agent.status.error or ""), "refused"
    )
    monkeypatch.setattr("ratectl.signing.continuation.now_ms", lambda: ahead.sequence + MINUTE_MS)
    published.delete(PANIC)
    turn_off(published, keys.signer, alone=True)
    obeys(agent)


@pytest.mark.parametrize("ahead", [9 * YEAR_MS, 4 * YEAR_MS, DAY_MS + MINUTE_MS])
def test_report_of_more_than_a_day_ahead_is_ignored(
    published: Store, keys: Keys, ahead: int
) -> None:
    forged = now_ms() + ahead
    report = agent_report("ghost", sequence=forged, panic_sequence=forged)
    published.put(AGENTS + "ghost", report.encode())
    first = turn_on(published, "/a", keys.signer)
    assert abs(first.sequence - now_ms()) < MINUTE_MS
    assert turn_on(published, "/b", keys.signer).sequence == first.sequence + 1
    published.put(HEAD, b"junk")
    assert publish(published, simple("3/s"), ME, signer=keys.signer) is not None
    assert abs(head_of(published).sequence - now_ms()) < MINUTE_MS
    assert publish(published, simple("4/s"), ME, signer=keys.signer) is not None
    assert abs(head_of(published).sequence - now_ms()) < MINUTE_MS


def test_report_of_less_than_a_day_ahead_counts(published: Store, keys: Keys) -> None:
    told = now_ms() + DAY_MS - MINUTE_MS
    assert turn_on(published, "/a", keys.signer).sequence < told
    published.put(AGENTS + "b", agent_report("b", panic_sequence=told).encode())
    with pytest.raises(Untrusted, match="agents have obeyed"):
        turn_on(published, "/b", keys.signer)
    assert turn_on(published, "/b", keys.signer, alone=True).sequence == told + 1


def test_fresh_start_exceeds_sequences_that_its_own_key_signed(
    published: Store, keys: Keys
) -> None:
    """The head is discarded, since a later generation was signed, but its sequence counts."""
    old = replace(head_of(published), sequence=now_ms() + YEAR_MS)
    assert publish(published, simple("3/s"), ME, signer=keys.signer) is not None
    published.put(HEAD, signed(published, old, keys.signer).encode())
    assert publish(published, simple("4/s"), ME, signer=keys.signer) is not None
    assert head_of(published).sequence == old.sequence + 1


def test_agent_with_new_keys_drops_unsigned_switches(
    published: Store, store_url: str, make_agent: Make, keys: Keys
) -> None:
    agent = make_agent(store_url, id="me")
    published.put(
        PANIC, Switches(now_ms() + YEAR_MS).turned_on(Switch.now("/", "open", "r", "a")).encode()
    )
    obeys(agent, "/")
    agent.close()
    published.delete(PANIC)
    again = make_agent(store_url, id="me", public_keys=[keys.public])
    assert again.status.panic == ()
    assert [bool(again.check("/", ACME)) for _ in range(3)] == [True, True, False]
    turn_on(published, "/shop", keys.signer)
    obeys(again, "/shop")


def test_a_signed_switch_is_obeyed_after_a_restart_without_the_store(
    published: Store, store_url: str, make_agent: Make, keys: Keys, tmp_path: Path
) -> None:
    agent = make_agent(store_url, id="me", public_keys=[keys.public])
    turn_on(published, "/", keys.signer)
    obeys(agent, "/")
    agent.close()
    for key in (HEAD, PANIC, ENVIRONMENT):
        published.delete(key)
    again = make_agent(store_url, id="me", public_keys=[keys.public], ready_timeout=0)
    assert all(again.check("/", ACME) for _ in range(5))
    again.close()
    (file,) = (tmp_path / "state").rglob("panic.json")
    record = Switches.decode(file.read_bytes())
    file.write_bytes(replace(record, sequence=record.sequence + 1).encode())
    third = make_agent(store_url, id="me", public_keys=[keys.public], ready_timeout=0)
    assert third.status.panic == ()


def test_different_record_with_the_obeyed_sequence_is_reported(
    store: Store, store_url: str, make_agent: Make
) -> None:
    agent = make_agent(store_url, ready_timeout=0)
    record = turn_on(store, "/a")
    obeys(agent, "/a")
    store.put(PANIC, replace(record, on=()).encode())
    wait_for(lambda: "and has the same sequence" in (agent.status.error or ""), "reported")
    obeys(agent, "/a")


def test_unencodable_text_does_not_block_the_kill_switch(
    store: Store, store_url: str, make_agent: Make
) -> None:
    """Half a surrogate pair: JSON can express it, UTF-8 cannot."""
    agent = make_agent(store_url, ready_timeout=0)
    record = turn_on(store, "/a").encode()
    obeys(agent, "/a")
    store.put(PANIC, record.replace(b'"INC-42"', b'"\\ud800"'))
    wait_for(lambda: "cannot be read" in (agent.status.error or ""), "it is reported")
    turn_on(store, "/b")
    obeys(agent, "/b")


def test_more_switches_than_allowed_are_not_written(
    store: Store, store_url: str, make_agent: Make
) -> None:
    agent = make_agent(store_url, ready_timeout=0)
    on = tuple(Switch.now(f"/{number}", "open", "r", "a") for number in range(MAX_SWITCHES))
    store.put(PANIC, Switches(now_ms(), on).encode())
    with pytest.raises(UsageError, match="at most 500"):
        turn_on(store, "/")
    turn_on(store, "/", alone=True)
    obeys(agent, "/")
