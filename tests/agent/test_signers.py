"""Honest signers sign nothing that somebody else may have written."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agent.signatures import ACME, EVIL, Keys, environment_of, head_of, signed, upload
from etcd_server import wait_for
from ratectl.errors import Conflict, Untrusted
from ratectl.history.generations import read_entry
from ratectl.policy.bundle import encode_policies
from ratectl.publishing._publish import publish, rollback
from ratectl.records import (
    ENVIRONMENT,
    HEAD,
    Environment,
    Head,
    history_key,
    rollout_key,
)
from ratectl.rollout import Controlling, Terms, abort, advance, promote, read_rollout
from ratectl.rollout._start import start
from ratectl.signing.signatures import Signer, generate_key
from support import ME, simple

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import ratectl
    from ratectl.policy.language.model import PolicyTree
    from ratectl.stores.base import Store

    Make = Callable[..., ratectl.Agent]


def evil_head(store: Store) -> Head:
    """Put an unsigned evil head into the store, which an attacker wants to have signed."""
    bundle = upload(store, encode_policies(EVIL))
    return replace(head_of(store), bundle=bundle, generation=9, latest=9)


@pytest.mark.parametrize("step", ["start", "advance", "abort", "promote"])
def test_no_rollout_step_signs_a_live_generation_of_another_key(
    published: Store, store_url: str, make_agent: Make, keys: Keys, step: str
):
    agent = make_agent(store_url, public_keys=[keys.public])
    terms = Terms.of([50.0, 100.0])
    if step != "start":
        assert start(published, simple("3/s"), ME, terms, signer=keys.signer) is not None
    published.put(HEAD, evil_head(published).encode())
    steps: dict[str, Callable[[], object]] = {
        "start": lambda: start(published, simple("3/s"), ME, terms, signer=keys.signer),
        "advance": lambda: advance(published, read_rollout(published), keys.signer),
        "abort": lambda: abort(published, read_rollout(published), "Ada", "", keys.signer),
        "promote": lambda: promote(published, read_rollout(published), "Ada", "", keys.signer),
    }
    with pytest.raises(Untrusted, match="cannot be verified"):
        steps[step]()
    wait_for(lambda: "was changed since" in (agent.status.error or ""), "it is refused")
    assert agent.check("/", ACME).capacity == 2
    assert publish_signed(published, simple("4/s"), keys) == 10, (
        "a publication from files is signed"
    )
    assert agent.wait_for_generation(10, 5)


def publish_signed(store: Store, tree: PolicyTree, keys: Keys) -> int:
    head = replace(head_of(store), candidate=None)
    store.put(HEAD, head.encode())
    entry = publish(store, tree, ME, signer=keys.signer)
    assert entry is not None
    return entry.generation


def test_rollback_signs_only_what_its_key_signed_before(published: Store, keys: Keys):
    entry = read_entry(published, 1)
    forged = replace(entry, bundle=upload(published, encode_policies(simple("9999/s"))))
    published.put(history_key(1), forged.encode())
    with pytest.raises(Untrusted, match="Apply its files instead"):
        rollback(published, 1, ME, signer=keys.signer)
    published.put(history_key(1), entry.encode())
    assert rollback(published, 1, ME, signer=keys.signer) is not None


@pytest.mark.parametrize(
    "change",
    [{"stages": [1.0]}, {"bake_seconds": 0.0}, {"min_requests": 0}, {"band": None}],
    ids=lambda each: next(iter(each)),
)
def test_controller_uses_the_signed_terms(published: Store, keys: Keys, change: dict[str, Any]):
    terms = Terms.of([1.0, 100.0], bake_seconds=3600.0)
    assert start(published, simple("3/s"), ME, terms, signer=keys.signer) is not None
    record = replace(read_rollout(published).record, **change)
    published.put(rollout_key(record.generation), record.encode())
    with pytest.raises(Conflict, match="terms of the rollout of generation 3 were changed"):
        Controlling(published, record, signer=keys.signer).run(10)
    with pytest.raises(Conflict, match="were changed"):
        advance(published, read_rollout(published), keys.signer)
    abort(published, read_rollout(published), "Ada", "", keys.signer)


def test_stage_comes_from_the_head(published: Store, keys: Keys):
    terms = Terms.of([1.0, 50.0, 100.0])
    assert start(published, simple("3/s"), ME, terms, signer=keys.signer) is not None
    record = replace(read_rollout(published).record, stage=2)
    published.put(rollout_key(record.generation), record.encode())
    advance(published, read_rollout(published), keys.signer)
    candidate = head_of(published).candidate
    assert candidate is not None
    assert candidate.percent == 50.0


def test_bound_key_is_valid_for_one_environment_only(
    published: Store, store_url: str, make_agent: Make, keys: Keys, tmp_path: Path
):
    here = environment_of(published)
    private, public = tmp_path / "bound.key", tmp_path / "bound.pub"
    generate_key(private, public, here)
    bound = Signer.load(private)
    assert publish(published, simple("3/s"), ME, signer=bound) is not None
    agent = make_agent(store_url, public_keys=[public])
    assert agent.generation == 3
    # Another environment's store first claims this identity, then shows its real one.
    published.put(ENVIRONMENT, Environment(id="f" * 32, created="then").encode())
    with pytest.raises(Untrusted, match="the key is for"):
        publish(published, simple("4/s"), ME, signer=bound)
    newcomer = make_agent(
        store_url, public_keys=[public], state_dir=tmp_path / "new", ready_timeout=0
    )
    head = signed(published, replace(head_of(published), sequence=9), keys.signer, "f" * 32)
    published.put(HEAD, head.encode())
    wait_for(lambda: "not from a key" in (newcomer.status.error or ""), "it is refused", 10)
