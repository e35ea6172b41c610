"""A store with signed history, an agent with keys, an attacker who writes, honest operators."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from agent.signatures import (
    DAY_MS,
    EVIL,
    GOOD,
    Keys,
    environment_of,
    head_of,
    reports,
    sign_switches,
    signed,
    turn_off,
    turn_on,
    upload,
)
from fleet.reports import agent as agent_report
from ratectl.agent.sync import _watched_items
from ratectl.errors import RatectlError
from ratectl.fleet.membership import included
from ratectl.kill_switch.switches import PANIC, Switch, Switches
from ratectl.policy.bundle import digest, encode_policies
from ratectl.publishing._publish import publish, rollback
from ratectl.records import (
    AGENTS,
    CONTROLLER,
    ENVIRONMENT,
    HEAD,
    HISTORY,
    Candidate,
    Controller,
    Head,
    HistoryEntry,
    history_key,
    now_ms,
)
from ratectl.rollout import Terms, abort, advance, promote, read_rollout
from ratectl.rollout._start import start
from ratectl.signing.signatures import Signer, Trust
from ratectl.stores import open_store
from support import ME, simple

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import ratectl
    from ratectl.policy.language.model import PolicyTree
    from ratectl.stores.base import Item, Store

__all__ = [
    "FOREIGN",
    "NEXT",
    "NO_KEY",
    "TRIED",
    "UNSIGNED",
    "Row",
    "Scene",
    "everybody",
    "opened",
    "switch",
]

UNSIGNED: Final = "it is not signed"
NO_KEY: Final = "not from a key that this agent trusts"

NEXT: Final = simple("1/day", burst=3)
"""Policies that an honest operator publishes after the tampering."""
TRIED: Final = simple("1/day", burst=50)
"""A signed candidate that this agent does not run."""
SHOP: Final = "/shop"
"""Scope at which an honest operator turns a switch on after the tampering."""
FOREIGN: Final = "f" * 32
"""Another environment, whose publisher uses the same key."""
AGENT: Final = "me"


def _capacity(tree: PolicyTree) -> int:
    return tree.policies["/"].limits["spike"].burst  # type: ignore[return-value]


class Row(NamedTuple):
    """A tampering: its name, the attacker's action, and a part of the agent's error.

    ``said`` is None if the agent reports no error, because the policies in force are still signed.
    """

    name: str
    tamper: Callable[[Scene], object]
    said: str | None = None


class Scene:
    """Generation 1 was good once and is evil now; 2 is live; candidate 3 was aborted.

    A switch at ``/`` was on once, and is off.
    """

    def __init__(self, url: str, folder: Path, make: Callable[..., ratectl.Agent]) -> None:
        self.url = url
        self.folder = folder
        self.keys = Keys(folder, "platform")
        self.enemy = Keys(folder, "enemy").signer
        self.operator = self.signer
        """The key of honest operators from now on, bound to the environment or not."""
        self._make = make
        self.store: Store = open_store(url)
        for tree in (EVIL, GOOD):
            assert publish(self.store, tree, ME, signer=self.signer)
        self.first_head = self._head_of_generation_1()
        self.store.put(AGENTS + "another", agent_report("another").encode())
        self.try_candidate(EVIL, percent=50.0)
        self.tried_head = head_of(self.store)
        abort(self.store, read_rollout(self.store), "Ada", "", self.signer)
        self.head = head_of(self.store)
        self.opened = turn_on(self.store, "/", self.signer)
        self.closed = turn_off(self.store, self.signer)
        self.evil = upload(self.store, encode_policies(EVIL))
        self.honest = {digest(encode_policies(each)) for each in (GOOD, NEXT)}
        self.capacities = {_capacity(GOOD)}
        self._seen: set[tuple[str, bytes]] = set()
        self.allowed_scopes = {SHOP}
        """Scopes at which honest operators have turned switches on."""
        self.misled = False
        """True if the store looks like another environment to operators with an unbound key."""
        self.agent = self.started()
        reports(self.store, sequence=self.head.sequence, panic_sequence=self.closed.sequence)

    @property
    def signer(self) -> Signer:
        """The trusted key, unbound, as used in the past and in other environments."""
        return self.keys.signer

    def bind(self) -> None:
        """Give honest operators a key that is only for this environment."""
        self.operator = Signer(self.signer._key, environment_of(self.store))

    def _head_of_generation_1(self) -> Head:
        bundle = digest(encode_policies(EVIL))
        sequence = head_of(self.store).sequence - 1
        return signed(self.store, Head(sequence=sequence, generation=1, bundle=bundle), self.signer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.agent.close()
        self.store.close()

    # The agent ----------------------------------------------------------------------------------

    def started(self) -> ratectl.Agent:
        agent = self._make(
            self.url, id=AGENT, state_dir=self.state, public_keys=[self.keys.public],
            ready_timeout=0, report_interval=60.0,
        )  # fmt: skip
        self.look(agent)
        return agent

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def look(self, agent: ratectl.Agent) -> None:
        """Make an agent read the store now, and return when it has."""
        sync = agent._following.sync  # type: ignore[attr-defined]
        with contextlib.suppress(RatectlError):
            items = _watched_items(self.store.list(HEAD))
            sync._see(self.store, items)

    def start_from_disk(self) -> None:
        """Start the agent with an empty store, and check its use of its disk."""
        hidden = [(item.key, item.value) for item in self.store.list("").items]
        for key, _ in hidden:
            self.store.delete(key)
        self.restart()
        found = self.agent.check("/", {"tenant": "acme"}, 0)
        assert found.reason == "error" or found.capacity in self.capacities
        assert self.agent.status.panic == ()
        for key, value in hidden:
            self.store.put(key, value)

    def restart(self) -> None:
        self.agent.close()
        self.agent = self.started()

    def wait_for_report(self) -> None:
        """Wait until the agent has reported what it obeys; honest operators read that."""
        known = self.agent.status
        reports(self.store, sequence=known.sequence, panic_sequence=known.panic_sequence)

    def check_agent(self, when: str) -> None:
        """Fail unless the agent enforces honestly signed policies, and obeys no evil switch."""
        self.look(self.agent)
        found = self.agent.check("/", {"tenant": "acme"}, 0).capacity
        assert found in self.capacities, f"{when}: it enforces {found}, not {self.capacities}"
        scopes = {each.scope for each in self.agent.status.panic}
        assert scopes <= self.allowed_scopes, f"{when}: it obeys switches at {scopes}"

    # Honest signers -----------------------------------------------------------------------------

    def honest_actions(self) -> dict[str, Callable[[], object]]:
        """Return the next actions of honest operators, who do not know of the tampering."""
        signer, store = self.operator, self.store
        return {
            "turn a switch on": lambda: turn_on(store, SHOP, signer),
            "advance the rollout": lambda: advance(store, read_rollout(store), signer),
            "promote the rollout": lambda: promote(store, read_rollout(store), "Ada", "", signer),
            "try a candidate": lambda: self.try_candidate(NEXT, percent=100.0),
            "abort the rollout": lambda: abort(store, read_rollout(store), "Ada", "", signer),
            "roll back to 2": lambda: rollback(store, 2, ME, signer=signer),
            "publish files": lambda: publish(store, NEXT, ME, signer=signer),
            "turn one switch on alone": lambda: turn_on(store, SHOP, signer, alone=True),
            "turn all switches off": lambda: turn_off(store, signer, alone=True),
        }

    def try_candidate(self, tree: PolicyTree, percent: float) -> None:
        stages = [percent, 100.0] if percent < 100 else [percent]
        terms = Terms(stages, bake_seconds=3600.0, min_requests=1_000_000)
        while True:
            if start(self.store, tree, ME, terms, signer=self.operator) is None:
                return  # it is live already
            if percent == 100.0 or not included(read_rollout(self.store).record.id, AGENT, percent):
                return
            abort(self.store, read_rollout(self.store), "Ada", "", self.signer)

    def under_way(self) -> None:
        """Start a rollout of a signed candidate that does not include this agent."""
        self.try_candidate(TRIED, percent=50.0)
        self.honest.add(digest(encode_policies(TRIED)))
        self.head = head_of(self.store)
        self.look(self.agent)

    def act(
        self,
        name: str,
        action: Callable[[], object],
        refused: type[Exception] | tuple[()] = RatectlError,
    ) -> None:
        """Let an honest operator act, who may be refused; what is signed then must be honest."""
        with contextlib.suppress(refused):
            action()
            self.capacities |= {_capacity(tree) for tree in (NEXT, TRIED)}
        self._check_signed(f"after an attempt to {name}")
        self.check_agent(f"after an attempt to {name}")

    def note_records(self) -> None:
        """Remember the present records: an operator did not sign these by mistake."""
        self._seen |= {(item.key, item.value) for item in self._signable()}

    def _signable(self) -> list[Item]:
        return [*self.store.list(HEAD).items, *self.store.list(HISTORY).items]

    def _check_signed(self, when: str) -> None:
        for item in self._signable():
            record = None if (item.key, item.value) in self._seen else self._proved(item)
            if record is not None and not self.misled:
                self._check_honest(record, when)
        self.note_records()

    def _proved(self, item: Item) -> Any:
        """Return a record that the trusted key has signed; None for any other."""
        kind = {HEAD: Head, PANIC: Switches}.get(item.key, HistoryEntry)
        trust = Trust([(self.signer._key.public_key(), None)])
        with contextlib.suppress(RatectlError, AssertionError):
            record: Any = kind.decode(item.value)
            here = environment_of(self.store)
            trust.verify_signature(record.KIND, record.signed_part(), record.signature, here)
            return record
        return None

    def _check_honest(self, record: Any, when: str) -> None:
        """Fail if a record that was just signed repeats content of the attacker."""
        if isinstance(record, Switches):
            scopes = {each.scope for each in record.on}
            assert scopes <= self.allowed_scopes, f"{when}: {record} was signed"
        elif isinstance(record, Head):
            bundles = {record.bundle} | ({record.candidate.bundle} if record.candidate else set())
            assert bundles <= self.honest, f"{when}: {record} was signed"
            assert record.latest < 1_000, f"{when}: {record} was signed"
        else:
            assert record.bundle in self.honest, f"{when}: {record} was signed"
            assert record.owners is None, f"{when}: {record} was signed"
        if hasattr(record, "sequence"):
            assert record.sequence <= now_ms() + DAY_MS, f"{when}: {record} was signed"

    # Actions of the attacker --------------------------------------------------------------------

    def put_head(self, head: Head | None = None, **changes: Any) -> None:
        """Write a head without signing it; it keeps its old signature."""
        self.store.put(HEAD, replace(head or self.head, **changes).encode())

    def put_head_value(self, **changes: Any) -> None:
        """Write a head whose JSON has other values, of whatever type."""
        value = json.loads(self.head.encode())
        value["live"] = value["live"] | changes.pop("live", {})
        self.store.put(HEAD, json.dumps({**value, **changes}).encode())

    def put_head_text(self, old: str, new: str) -> None:
        """Write the text of the head with a part of it replaced."""
        text = self.head.encode().decode()
        assert old in text
        self.store.put(HEAD, text.replace(old, new, 1).encode())

    def put_switches(self, switches: Switches, signer: Signer | None = None, **more: Any) -> None:
        if signer is not None:
            switches = sign_switches(self.store, switches, signer, **more)
        self.store.put(PANIC, switches.encode())

    def put_switches_value(self, **changes: Any) -> None:
        """Write a record of switches whose JSON has other values, of whatever type."""
        value = json.loads(self.closed.encode())
        self.store.put(PANIC, json.dumps({**value, **changes}).encode())

    def put_entry(self, number: int, **changes: Any) -> None:
        """Write a history entry without signing it."""
        self.store.put(history_key(number), replace(self.entry(number), **changes).encode())

    def entry(self, generation: int) -> HistoryEntry:
        item = self.store.get(history_key(generation))
        assert item is not None
        return HistoryEntry.decode(item.value)

    def put_identity(self, value: object = FOREIGN) -> None:
        """Give the store the identity of another environment."""
        document = {"format": 1, "id": value, "created": "2026-01-01T00:00:00.000Z"}
        self.store.put(ENVIRONMENT, json.dumps(document).encode())

    def foreign(self, head: Head) -> Head:
        """Sign a head for another environment with the trusted key."""
        return signed(self.store, head, self.signer, FOREIGN)

    def later(self, damage: Callable[[str], object]) -> None:
        """Publish an honest head whose bundle the attacker has damaged, given its hash."""
        sha256 = upload(self.store, encode_policies(NEXT))
        damage(sha256)
        head = Head(sequence=self.head.sequence + 1, generation=4, bundle=sha256)
        self.store.put(HEAD, signed(self.store, head, self.signer).encode())

    def controlled_by(self, rollout: str) -> None:
        """Pretend to control a rollout."""
        record = Controller(rollout=rollout, host="h", pid=1, since="2026-01-01T00:00:00.000Z")
        self.store.put(CONTROLLER, record.encode())

    def file(self, name: str) -> Path:
        """Return the only file of this name in the state of the agent, which is closed first."""
        self.agent.close()
        (found,) = self.state.rglob(name)
        return found


def everybody(scene: Scene, **changes: Any) -> Candidate:
    """Return an evil candidate for every agent."""
    known = {"generation": 4, "bundle": scene.evil, "rollout": "r", "percent": 100.0}
    return Candidate(**{**known, **changes})


def switch(scope: str = "/") -> Switch:
    """Return a switch that no honest operator turns on."""
    return Switch.now(scope, "open", "free for all", "Mallory")


def opened(scene: Scene, scope: str = "/") -> Switches:
    """Return an unsigned record with a switch on, newer than the one that the agent obeys."""
    return Switches(scene.closed.sequence + 1, (switch(scope),))
