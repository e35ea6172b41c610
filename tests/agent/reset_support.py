"""Orders to reset keys, for tests of agents."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from agent.signatures import environment_of
from etcd_server import wait_for
from ratectl.resets.ordering import Order, order_reset
from ratectl.resets.orders import RESETS, Reset, Resets
from ratectl.stores import open_store

if TYPE_CHECKING:
    import ratectl
    from ratectl.signing.signatures import Signer
    from ratectl.stores.base import Store

ACME, ZETA = {"tenant": "acme"}, {"tenant": "zeta"}


def an_order(key: dict[str, str | None] | None = None, **changes: Any) -> Order:
    values: dict[str, Any] = {
        "scope": "/",
        "limit": "spike",
        "budget": False,
        "key": ACME if key is None else key,
        "reason": "INC-42",
        "author": "Ada",
        "lasts": timedelta(minutes=2),
    }
    return Order(**{**values, **changes})


def order(
    store: Store, key: dict[str, str | None] | None = None, signer: Signer | None = None,
    **changes: Any,
) -> Reset:  # fmt: skip
    """Order a reset in the store, and return it."""
    return order_reset(store, an_order(key, **changes), signer=signer).reset


def a_reset(sequence: int = 1, seconds: float = 120.0, **changes: Any) -> Reset:
    """Return a reset that expires in so many seconds."""
    expires = datetime.now(UTC) + timedelta(seconds=seconds)
    values: dict[str, Any] = {
        "sequence": sequence,
        "scope": "/",
        "limit": "spike",
        "budget": False,
        "key": ACME,
        "reason": "INC-42",
        "author": "Ada",
        "time": (expires - timedelta(minutes=2)).isoformat(),
        "expires": expires.isoformat(),
        "request": "r",
    }
    return Reset(**{**values, **changes})


def put(store: Store, *resets: Reset) -> None:
    """Replace the record in the store."""
    store.put(RESETS, Resets(resets).encode())


def stored(store: Store | str) -> tuple[Reset, ...]:
    """Return the resets in the record of a store, or of the store at a URL."""
    if isinstance(store, str):
        with open_store(store) as opened:
            return stored(opened)
    item = store.get(RESETS)
    return () if item is None else Resets.decode(item.value).all


def sign(store: Store, reset: Reset, signer: Signer, environment: str | None = None) -> Reset:
    environment = environment or environment_of(store)
    return replace(reset, signature=signer.sign("reset", environment, reset.signed_part()))


def exhaust(agent: ratectl.Agent, attributes: dict[str, str] | None = None) -> int:
    """Take everything that a key has; return how many requests passed."""
    passed = 0
    while agent.check("/", ACME if attributes is None else attributes):
        passed += 1
    return passed


def obeyed(agent: ratectl.Agent, reset: Reset) -> None:
    """Wait until an agent has obeyed a reset."""
    wait_for(lambda: agent.status.reset_sequence == reset.sequence, "it obeys", 10)


def settled(agent: ratectl.Agent) -> None:
    """Make an agent read the store at once, as it does every minute."""
    agent._following.sync.look()  # type: ignore[attr-defined]
