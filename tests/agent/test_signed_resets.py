"""Agents with public keys obey only resets that one of these keys has signed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agent.reset_support import ACME, a_reset, exhaust, obeyed, order, put, settled, sign
from agent.signatures import DAY_MS, YEAR_MS, Keys, head_of
from etcd_server import wait_for
from fleet.reports import agent as agent_report
from ratectl.errors import Refused, Untrusted
from ratectl.records import AGENTS, now_ms
from ratectl.resets.orders import RESETS, Reset, Resets

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import ratectl
    from ratectl.stores.base import Store

    Make = Callable[..., ratectl.Agent]
    Tamper = Callable[[Store, Keys, Keys], str]

NOBODY = {"tenant": "nobody"}
NO_KEY = "not from a key that this agent trusts"


def signed(store: Store, keys: Keys, **changes: object) -> Reset:
    return sign(store, a_reset(now_ms(), **changes), keys.signer)


def unsigned(store: Store, keys: Keys, evil: Keys) -> str:
    put(store, a_reset(now_ms()))
    return "not signed"


def signed_by_another_key(store: Store, keys: Keys, evil: Keys) -> str:
    put(store, sign(store, a_reset(now_ms()), evil.signer))
    return NO_KEY


def of_another_key(store: Store, keys: Keys, evil: Keys) -> str:
    put(store, replace(signed(store, keys, key=NOBODY), key=dict(ACME)))
    return NO_KEY


def of_another_limit(store: Store, keys: Keys, evil: Keys) -> str:
    put(store, replace(signed(store, keys, limit="other"), limit="spike"))
    return NO_KEY


def of_another_scope(store: Store, keys: Keys, evil: Keys) -> str:
    put(store, replace(signed(store, keys, scope="/elsewhere"), scope="/"))
    return NO_KEY


def of_a_budget(store: Store, keys: Keys, evil: Keys) -> str:
    put(store, replace(signed(store, keys, budget=True), budget=False))
    return NO_KEY


def of_another_environment(store: Store, keys: Keys, evil: Keys) -> str:
    put(store, sign(store, a_reset(now_ms()), keys.signer, "f" * 32))
    return NO_KEY


def expiring_later(store: Store, keys: Keys, evil: Keys) -> str:
    fresh = a_reset(now_ms())
    put(store, replace(signed(store, keys, seconds=-60), expires=fresh.expires, time=fresh.time))
    return NO_KEY


def obeyed_already_under_a_later_sequence(store: Store, keys: Keys, evil: Keys) -> str:
    real = signed(store, keys)
    put(store, replace(real, sequence=real.sequence + 1))
    return NO_KEY


def under_the_signature_of_the_head(store: Store, keys: Keys, evil: Keys) -> str:
    put(store, replace(a_reset(now_ms()), signature=head_of(store).signature))
    return NO_KEY


def signed_as_a_switch(store: Store, keys: Keys, evil: Keys) -> str:
    from agent.signatures import environment_of

    reset = a_reset(now_ms())
    signature = keys.signer.sign("panic", environment_of(store), reset.signed_part())
    put(store, replace(reset, signature=signature))
    return NO_KEY


@pytest.mark.parametrize(
    "tamper",
    [
        unsigned, signed_by_another_key, of_another_key, of_another_limit, of_another_scope,
        of_a_budget, of_another_environment, expiring_later,
        obeyed_already_under_a_later_sequence, under_the_signature_of_the_head,
        signed_as_a_switch,
    ],
    ids=lambda each: each.__name__,
)  # fmt: skip
def test_reset_without_a_trusted_signature_is_not_obeyed(
    published: Store, store_url: str, make_agent: Make, keys: Keys, tmp_path: Path, tamper: Tamper
) -> None:
    agent = make_agent(store_url, public_keys=[keys.public])
    assert exhaust(agent) == 2
    reason = tamper(published, keys, Keys(tmp_path, "evil"))
    wait_for(lambda: reason in (agent.status.error or ""), f"{reason!r} is reported", 10)
    settled(agent)
    assert (exhaust(agent), agent.status.reset_sequence) == (0, 0)
    obeyed(agent, order(published, signer=keys.signer))
    assert exhaust(agent) == 2, "an honest operator is not stopped by it"


def test_signed_reset_is_obeyed_once(
    published: Store, store_url: str, make_agent: Make, keys: Keys
) -> None:
    agent = make_agent(store_url, public_keys=[keys.public])
    exhaust(agent)
    reset = order(published, signer=keys.signer)
    obeyed(agent, reset)
    assert (exhaust(agent), agent.status.error) == (2, None)
    put(published, reset)
    settled(agent)
    assert exhaust(agent) == 0, "the same record again"


def test_signed_reset_is_not_obeyed_by_an_agent_that_starts_later(
    published: Store, store_url: str, make_agent: Make, keys: Keys
) -> None:
    reset = order(published, signer=keys.signer)
    agent = make_agent(store_url, public_keys=[keys.public])
    obeyed(agent, reset)
    exhaust(agent)
    put(published, reset)
    settled(agent)
    assert exhaust(agent) == 0


def test_unsigned_order_where_signing_is_on(published: Store) -> None:
    with pytest.raises(Refused, match="add --sign KEY"):
        order(published)
    assert published.get(RESETS) is None


def test_key_of_another_environment(published: Store, tmp_path: Path) -> None:
    bound = Keys(tmp_path, "bound", "f" * 32)
    with pytest.raises(Untrusted, match="the key is for"):
        order(published, signer=bound.signer)


def test_new_order_copies_other_resets_but_does_not_sign_them(
    published: Store, store_url: str, make_agent: Make, keys: Keys
) -> None:
    """A forged reset of the far future stays in the list, unsigned, and raises no number."""
    agent = make_agent(store_url, public_keys=[keys.public])
    exhaust(agent)
    forged = a_reset(now_ms() + 9 * YEAR_MS)
    put(published, forged)
    liar = agent_report("liar", reset_sequence=now_ms() + 9 * YEAR_MS)
    published.put(AGENTS + "liar", liar.encode())
    reset = order(published, signer=keys.signer)
    assert reset.sequence < now_ms() + DAY_MS
    obeyed(agent, reset)
    item = published.get(RESETS)
    assert item is not None
    assert Resets.decode(item.value).all == (reset, forged)
    assert exhaust(agent) == 2
    assert "not signed" in (agent.status.error or "")
