"""Saved plans: decided on once, carried out later, and only where nothing has moved meanwhile.

A plan holds all that it would publish, so that what was reviewed is what goes live, whatever has
become of the files since. It is bound to the environment and to the generation that it was compared
with. It is no credential: who may apply it may publish anything.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Self

from ratectl.documents import Beside, Documents
from ratectl.errors import BundleError, Conflict, NotFound
from ratectl.generations import read_entry, read_environment, read_live
from ratectl.policy.bundle import (
    decode_origins,
    decode_policies,
    digest,
    encode_origins,
    encode_policies,
)
from ratectl.publish import Provenance, is_live
from ratectl.records import utc_now
from ratectl.sets import Owners

if TYPE_CHECKING:
    from ratectl.generations import Live
    from ratectl.policy.model import PolicyTree
    from ratectl.stores.base import Store

__all__ = ["Base", "SavedPlan", "is_plan", "save_plan", "still_live"]

_API: Final = "ratectl/v1"
_KIND: Final = "SavedPlan"
_FIELDS: Final = {
    "apiVersion", "kind", "created", "source", "environment", "base", "provenance", "bundle",
    "policies", "origins", "documents", "owners",
}  # fmt: skip
_NAMED: Final = 5
"""Generations named, at most, that a plan did not know of."""


@dataclass(frozen=True, slots=True)
class Base:
    """The head that a plan was compared with."""

    generation: int
    bundle: str

    @classmethod
    def of(cls, live: Live) -> Self | None:
        head = live.head
        return cls(head.generation, head.bundle) if head else None


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """See the module. ``policies`` and ``origins`` are bytes as bundles have them."""

    created: str
    """ISO 8601, UTC."""
    source: str
    """Where the policies were read, for people."""
    environment: str | None
    """None: nothing had been published yet."""
    base: Base | None
    provenance: Provenance
    policies: bytes
    origins: bytes | None
    beside: Beside

    def tree(self) -> PolicyTree:
        """What it would publish.

        :raises BundleError: it is no tree of policies that this version can run.
        """
        tree = decode_policies(self.policies)
        return tree if self.origins is None else replace(tree, sources=decode_origins(self.origins))

    def encode(self) -> bytes:
        """The text of a file: JSON, a line for each field."""
        value = {
            "apiVersion": _API,
            "kind": _KIND,
            "created": self.created,
            "source": self.source,
            "environment": self.environment,
            "base": asdict(self.base) if self.base else None,
            "provenance": asdict(self.provenance),
            "bundle": digest(self.policies),
            "policies": self.policies.decode(),
            "origins": None if self.origins is None else self.origins.decode(),
            **self._beside(),
        }
        return (json.dumps(value, indent=1) + "\n").encode()

    def _beside(self) -> dict[str, Any]:
        documents, owners = self.beside
        return {
            "documents": None if documents is None else documents.data(),
            "owners": None if owners is None else owners.data(),
        }

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a saved plan.

        :raises BundleError: it is none, of another version, or was changed since it was saved.
        """
        try:
            value = json.loads(data)
            if value.get("apiVersion") != _API or set(value) != _FIELDS:
                raise BundleError("a plan saved by another version of ratectl: plan again")
            policies = value["policies"].encode()
            if digest(policies) != value["bundle"]:
                raise BundleError(
                    f"a plan for bundle {str(value['bundle'])[:12]}, but its policies are those of "
                    f"{digest(policies)[:12]}: it was changed since it was saved; plan again"
                )
            base, origins = value["base"], value["origins"]
            documents, owners = value["documents"], value["owners"]
            return cls(
                created=_text(value["created"]),
                source=_text(value["source"]),
                environment=None if value["environment"] is None else _text(value["environment"]),
                base=None if base is None else _base(base),
                provenance=_provenance(value["provenance"]),
                policies=policies,
                origins=None if origins is None else origins.encode(),
                beside=Beside(
                    None if documents is None else Documents.of(documents),
                    None if owners is None else Owners.from_data(owners),
                ),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BundleError(f"not a readable plan: {error}") from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _base(value: dict[str, Any]) -> Base:
    base = Base(**value)
    if type(base.generation) is not int:
        raise TypeError("the generation of a base is a whole number")
    return base


def _provenance(value: dict[str, Any]) -> Provenance:
    found = Provenance(**value)
    _text(found.author)
    _text(found.message)
    if found.set is not None:
        _text(found.set)
    for guard, reason in found.passed.items():
        _text(guard)
        _text(reason)
    return found


def is_plan(head: bytes) -> bool:
    """Whether a file that begins so is meant as a saved plan: no file of policies does."""
    begins = head.lstrip()
    return begins.startswith(b"{") and b'"kind": "SavedPlan"' in begins[:200]


def save_plan(
    store: Store,
    base: Live,
    tree: PolicyTree,
    provenance: Provenance,
    source: str,
    beside: Beside | None = None,
) -> SavedPlan:
    """A plan to publish ``tree`` where ``base`` is live."""
    environment = read_environment(store)
    return SavedPlan(
        created=utc_now(),
        source=source,
        environment=environment.id if environment else None,
        base=Base.of(base),
        provenance=provenance,
        policies=encode_policies(tree),
        origins=encode_origins(tree) if tree.sources else None,
        beside=beside or Beside(),
    )


def still_live(store: Store, plan: SavedPlan) -> Live:
    """The head, if it is the one that the plan was compared with, or what the plan asks for.

    :raises Conflict: it is another one, or of another environment; says what moved.
    """
    found = read_environment(store)
    environment = found.id if found else None
    now = read_live(store)
    if plan.environment in (environment, None) and is_live(store, now, plan.tree(), plan.beside):
        return now  # applied before: to do so again is safe
    if environment != plan.environment:
        raise Conflict(_elsewhere(plan, environment, store.url))
    if Base.of(now) != plan.base:
        raise Conflict(f"the plan is stale: {_moved(store, plan, now)}. Plan again")
    return now


def _elsewhere(plan: SavedPlan, environment: str | None, url: str) -> str:
    if plan.environment is None:
        return f"the plan is stale: it is for an empty store, which {url} was then. Plan again"
    here = "which nothing was ever published to" if environment is None else "which is another one"
    return f"the plan is for environment {plan.environment[:12]}, not for {url}, {here}"


def _moved(store: Store, plan: SavedPlan, now: Live) -> str:
    """Whatever was published since, newest first."""
    base = plan.base.generation if plan.base else 0
    compared = f"it was compared with generation {base}" if base else "it is for an empty store"
    if now.head is None:
        return f"{compared}, and none is live now"
    if now.generation <= base:
        return f"{compared}, and generation {now.generation} is live now: the store went back"
    named = []
    for generation in range(now.generation, max(base, now.generation - _NAMED), -1):
        try:
            entry = read_entry(store, generation)
        except NotFound:
            continue
        why = f": {entry.message}" if entry.message else ""
        named.append(f"{generation} ({entry.action} by {entry.author}, {entry.time}{why})")
    more = now.generation - base - len(named)
    since = "; ".join(named) + (f"; and {more} more" if more > 0 else "")
    return f"{compared}, and since then was published {since}"
