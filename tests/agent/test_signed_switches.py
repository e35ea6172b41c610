"""Agents with public keys obey only kill switches that one of these keys has signed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agent.signatures import ACME, Keys, head_of
from etcd_server import wait_for
from ratectl.kill_switch.switches import PANIC, Switch, Switches, change_switches

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import ratectl
    from ratectl.signing.signatures import Signer
    from ratectl.stores.base import Store

    Make = Callable[..., ratectl.Agent]


def turned(store: Store, signer: Signer | None, scope: str = "/") -> Switches:
    switch = Switch.now(scope, "open", "INC-42", "Ada")
    return change_switches(store, lambda known: known.turned_on(switch), signer).after


def test_a_signed_switch_is_obeyed(published: Store, store_url: str, make_agent: Make, keys: Keys):
    agent = make_agent(store_url, public_keys=[keys.public])
    turned(published, keys.signer)
    wait_for(lambda: agent.status.panic, "it obeys")
    assert all(agent.check("/", ACME) for _ in range(10))


def unsigned_switch(store: Store, keys: Keys, evil: Keys) -> str:
    turned(store, None)
    return "not signed"


def switch_signed_by_another_key(store: Store, keys: Keys, evil: Keys) -> str:
    turned(store, evil.signer)
    return "not from a key that this agent trusts"


def widened_switch(store: Store, keys: Keys, evil: Keys) -> str:
    """Change the scope of a signed switch to ``/``."""
    real = turned(store, keys.signer, "/nobody/goes/there")
    on = (replace(real.on[0], scope="/"),)
    store.put(PANIC, replace(real, sequence=real.sequence + 1, on=on).encode())
    return "not from a key that this agent trusts"


def switch_of_another_environment(store: Store, keys: Keys, evil: Keys) -> str:
    switch = Switch.now("/", "open", "INC-42", "Ada")
    record = Switches().turned_on(switch)
    signature = keys.signer.sign("panic", "f" * 32, record.signed_part())
    store.put(PANIC, replace(record, signature=signature).encode())
    return "not from a key that this agent trusts"


def head_signature_for_a_switch(store: Store, keys: Keys, evil: Keys) -> str:
    record = Switches().turned_on(Switch.now("/", "open", "INC-42", "Ada"))
    store.put(PANIC, replace(record, signature=head_of(store).signature).encode())
    return "not from a key that this agent trusts"


def switch_that_was_turned_off_since(store: Store, keys: Keys, evil: Keys) -> str:
    turned(store, keys.signer)
    item = store.get(PANIC)
    assert item is not None
    change_switches(store, lambda known: known.turned_off(), keys.signer)
    store.put(PANIC, item.value)
    return "is older than the one that is obeyed"


@pytest.mark.parametrize(
    "tamper",
    [
        unsigned_switch,
        switch_signed_by_another_key,
        widened_switch,
        switch_of_another_environment,
        head_signature_for_a_switch,
        switch_that_was_turned_off_since,
    ],
    ids=lambda each: each.__name__,
)
def test_switch_without_a_trusted_signature_is_not_obeyed(
    published: Store,
    store_url: str,
    make_agent: Make,
    keys: Keys,
    tmp_path: Path,
    tamper: Callable[[Store, Keys, Keys], str],
):
    agent = make_agent(store_url, public_keys=[keys.public])
    reason = tamper(published, keys, Keys(tmp_path, "evil"))
    wait_for(lambda: reason in (agent.status.error or ""), f"{reason!r} is reported", 10)
    assert [each.scope for each in agent.status.panic] in ([], ["/nobody/goes/there"])
    assert [bool(agent.check("/", ACME)) for _ in range(3)] == [True, True, False]
