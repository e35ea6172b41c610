"""Keys, and changes of stores for tests of signatures."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from etcd_server import wait_for
from ratectl.fleet.usage import read_agents
from ratectl.history.generations import read_live
from ratectl.kill_switch.switches import Switch, change_switches
from ratectl.policy.bundle import digest
from ratectl.records import (
    BUNDLES,
    ENVIRONMENT,
    MANIFESTS,
    Environment,
    Head,
    Manifest,
)
from ratectl.signing.signatures import Signer, generate_key
from ratectl.stores.base import Delete, Put
from support import simple

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import ratectl
    from ratectl.kill_switch.switches import Switches
    from ratectl.records import AgentRecord
    from ratectl.stores.base import Store

    Make = Callable[..., ratectl.Agent]

ACME = {"tenant": "acme"}
MINUTE_MS = 60_000
DAY_MS = 86_400_000
YEAR_MS = 31_557_600_000
GOOD, EVIL = simple("1/day", burst=2), simple("1000/s", burst=100_000)


class Keys:
    """A key pair, in files."""

    def __init__(self, folder: Path, name: str, environment: str | None = None) -> None:
        self.public = folder / f"{name}.pub"
        private = folder / f"{name}.key"
        generate_key(private, self.public, environment)
        self.signer = Signer.load(private)


def head_of(store: Store) -> Head:
    head = read_live(store).head
    assert head is not None
    return head


def environment_of(store: Store) -> str:
    item = store.get(ENVIRONMENT)
    assert item is not None
    return Environment.decode(item.value).id


def upload(store: Store, data: bytes, sha256: str | None = None) -> str:
    """Store bytes as the bundle of this hash."""
    sha256 = sha256 or digest(data)
    manifest = Manifest(size=len(data), chunks=1, wanted="2026-01-01T00:00:00.000Z")
    puts = [
        Put(f"{BUNDLES}{sha256}/00000", data),
        Put(MANIFESTS + sha256, manifest.encode()),
    ]
    others = [Delete(each.key) for each in store.list(f"{BUNDLES}{sha256}/").items[1:]]
    store.txn((), [*puts, *others])
    return sha256


def signed(store: Store, head: Head, signer: Signer, environment: str | None = None) -> Head:
    environment = environment or environment_of(store)
    return replace(head, signature=signer.sign("head", environment, head.signed_part()))


def sign_switches(
    store: Store, switches: Switches, signer: Signer, environment: str | None = None
) -> Switches:
    environment = environment or environment_of(store)
    return replace(switches, signature=signer.sign("panic", environment, switches.signed_part()))


def turn_on(store: Store, scope: str, signer: Signer | None = None, **how: Any) -> Switches:
    """Turn a switch on in the store, and return the record."""
    switch = Switch.now(scope, "open", "INC-42", "Ada")
    return change_switches(store, lambda on: on.turned_on(switch), signer, **how).after


def turn_off(store: Store, signer: Signer | None = None, **how: Any) -> Switches:
    """Turn every switch of the store off, and return the record."""
    return change_switches(store, lambda on: on.turned_off(), signer, **how).after


def obeys(agent: ratectl.Agent, *scopes: str) -> None:
    """Wait until an agent obeys switches at these scopes and no others."""
    wait_for(
        lambda: [each.scope for each in agent.status.panic] == list(scopes), f"it obeys {scopes}"
    )


def reports(store: Store, **wanted: int) -> None:
    """Wait until some agent reports these values."""

    def told(agent: AgentRecord) -> bool:
        return all(getattr(agent, name) == value for name, value in wanted.items())

    wait_for(lambda: any(map(told, read_agents(store))), f"{wanted} is reported")
