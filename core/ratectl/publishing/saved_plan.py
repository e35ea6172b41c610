"""Saved plans: publications decided on now and applied later, if nothing was published meanwhile.

A plan holds everything that it would publish, so the reviewed policies go live even if the files
have changed since. It is bound to the place and to the generation that it was compared with: to the
environment's identity, or to the URL of a store in which nothing was ever written.
It is no credential: a user who may apply it may publish anything. Its checksum detects damage; it
is no signature, since an attacker who changes the plan can compute it.
"""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final, Self

from ratectl.environments.target import named
from ratectl.errors import BundleError, Conflict, NotFound, UsageError
from ratectl.history.generations import read_entry, read_live
from ratectl.policy.bundle import (
    EncodedTree,
    decode_origins,
    decode_policies,
    digest,
    encode_origins,
)
from ratectl.policy.loading.files import STDIN
from ratectl.publishing._publish import is_live
from ratectl.publishing.handover import Moved
from ratectl.publishing.ownership import Merged, Owners
from ratectl.publishing.provenance import Provenance
from ratectl.publishing.source_files import Beside, Documents
from ratectl.records import exactly, utc_now
from ratectl.runtime.files import read_file
from ratectl.runtime.urls import shown
from ratectl.stores.registry import same_store

if TYPE_CHECKING:
    from ratectl.environments.protection import Place
    from ratectl.history.generations import Live
    from ratectl.policy.language.model import PolicyTree
    from ratectl.stores.base import Store

__all__ = ["Base", "SavedPlan", "checksum", "read_plan", "save_plan", "still_live"]

_API: Final = "ratectl/v1"
_KIND: Final = "SavedPlan"
_SUM: Final = "sha256"
_FIELDS: Final = {
    "apiVersion", "kind", "created", "source", "environment", "store", "identity", "base",
    "provenance", "bundle", "policies", "origins", "documents", "owners", "moved", _SUM,
}  # fmt: skip
_MAX_PLAN: Final = 1024**3
"""Bytes of a saved plan: four times what a bundle may have."""
_NAMED: Final = 5
"""Later generations named, at most, in a message."""


@dataclass(frozen=True, slots=True)
class Base:
    """Head that a plan was compared with."""

    generation: int
    bundle: str

    @classmethod
    def of(cls, live: Live) -> Self | None:
        head = live.head
        return cls(head.generation, head.bundle) if head else None


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """A plan. ``policies`` and ``origins`` are bytes as in bundles."""

    created: str
    """ISO 8601, UTC."""
    source: str
    """Path of the policies, for titles."""
    environment: str | None
    """Name of the environment; None if it has none."""
    store: str
    """URL of the store, without secrets; the path of an SQLite file is absolute."""
    identity: str | None
    """Identity of the environment; None if nothing was ever written there."""
    base: Base | None
    provenance: Provenance
    policies: bytes
    origins: bytes | None
    beside: Beside
    moved: Moved | None
    """Documents that the set leaves, removes and takes over; None for a whole tree."""

    def encoded(self) -> EncodedTree:
        """Return the tree that it would publish.

        :raises BundleError: it is no tree of policies that this version can run.
        """
        tree = decode_policies(self.policies)
        if self.origins is not None:
            tree = replace(tree, sources=decode_origins(self.origins))
        return EncodedTree(tree, self.policies, digest(self.policies))

    def merged(self, tree: PolicyTree) -> Merged | None:
        """Return how its set becomes a part of ``tree``; None for the plan of a whole tree."""
        name, moved = self.provenance.set, self.moved
        if name is None or moved is None:
            return None
        return Merged(name, tree, tree, self.beside.owners or Owners(), moved)

    def encode(self) -> bytes:
        """Return the text of a file: JSON, a line for each field."""
        value = {
            "apiVersion": _API,
            "kind": _KIND,
            "created": self.created,
            "source": self.source,
            "environment": self.environment,
            "store": self.store,
            "identity": self.identity,
            "base": asdict(self.base) if self.base else None,
            "provenance": asdict(self.provenance),
            "bundle": digest(self.policies),
            "policies": self.policies.decode(),
            "origins": None if self.origins is None else self.origins.decode(),
            **self._beside(),
            "moved": None if self.moved is None else self.moved.data(),
        }
        return (json.dumps({**value, _SUM: checksum(value)}, indent=1) + "\n").encode()

    def _beside(self) -> dict[str, Any]:
        documents, owners = self.beside
        return {
            "documents": None if documents is None else documents.data(),
            "owners": None if owners is None else owners.data(),
        }

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a saved plan.

        :raises BundleError: it is no plan, of another version, or was changed since it was saved.
        """
        try:
            return cls._of(_intact(data))
        except (ValueError, TypeError, RecursionError) as error:
            raise BundleError(f"not a readable plan: {error}") from None

    @classmethod
    def _of(cls, value: dict[str, Any]) -> Self:
        base, origins = value["base"], value["origins"]
        documents, owners, moved = value["documents"], value["owners"], value["moved"]
        return cls(
            created=_text("created", value["created"]),
            source=_text("source", value["source"]),
            environment=_text_or_none("environment", value["environment"]),
            store=_text("store", value["store"]),
            identity=_text_or_none("identity", value["identity"]),
            base=None if base is None else _base(base),
            provenance=_provenance(value["provenance"]),
            policies=_text("policies", value["policies"]).encode(),
            origins=None if origins is None else _text("origins", origins).encode(),
            beside=Beside(
                None if documents is None else Documents.of(documents),
                None if owners is None else Owners.from_data(owners),
            ),
            moved=None if moved is None else Moved.from_data(moved),
        )


def checksum(value: dict[str, Any]) -> str:
    """Return the SHA-256 of all fields of a plan, in hexadecimal, independent of its layout."""
    said = {name: each for name, each in value.items() if name != _SUM}
    return digest(json.dumps(said, sort_keys=True, separators=(",", ":")).encode())


def _intact(data: bytes) -> dict[str, Any]:
    """Return the fields of a plan as they were saved.

    :raises BundleError: they were changed since, or are of another version.
    :raises ValueError, TypeError, RecursionError: it is no JSON object.
    """
    value = json.loads(data)
    if not isinstance(value, dict):
        raise TypeError("it has no fields")
    if value.get("apiVersion") != _API or set(value) != _FIELDS:
        raise BundleError("a plan saved by another version of ratectl: plan again")
    if value[_SUM] != checksum(value):
        raise BundleError(
            "it was changed or damaged since it was saved: its checksum is another one; plan again"
        )
    return value


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} is no text: {value!r}")
    return value


def _text_or_none(name: str, value: object) -> str | None:
    return None if value is None else _text(name, value)


def _names(of: type[Base | Provenance]) -> list[str]:
    return [field.name for field in fields(of)]


def _base(value: object) -> Base:
    base = Base(**exactly("base has to have", _names(Base), value))
    _text("the bundle of a base", base.bundle)
    if type(base.generation) is not int:
        raise TypeError("the generation of a base is a whole number")
    return base


def _provenance(value: object) -> Provenance:
    found = Provenance(**exactly("provenance has to have", _names(Provenance), value))
    for name in ("author", "message"):
        _text(name, getattr(found, name))
    for name in ("commit", "set"):
        if getattr(found, name) is not None:
            _text(name, getattr(found, name))
    if not (found.dirty is None or isinstance(found.dirty, bool)):
        raise TypeError("dirty is true, false or null")
    if not isinstance(found.passed, dict):
        raise TypeError("passed names guards")
    for guard, reason in found.passed.items():
        _text(guard, reason)
    return found


def _is_plan(head: bytes) -> bool:
    """Return True if a file with this beginning is a saved plan: no policy file begins so."""
    begins = head.lstrip()
    return begins.startswith(b"{") and b'"kind": "SavedPlan"' in begins[:200]


def read_plan(path: str | os.PathLike[str]) -> SavedPlan | None:
    """Return the saved plan in the file ``path``; None if the path names something else.

    :raises BundleError: the plan is damaged, or of another version.
    """
    if os.fspath(path) == STDIN or not os.path.isfile(path):  # noqa: PTH113  False if not allowed
        return None
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            if not _is_plan(file.read(4096)):
                return None
        return SavedPlan.decode(read_file(path, _MAX_PLAN))
    except BundleError as error:
        raise BundleError(f"{os.fspath(path)}: {error}") from None
    except OSError:
        return None  # reading it as policies says what is wrong


def save_plan(
    place: Place,
    url: str,
    base: Live,
    tree: EncodedTree,
    provenance: Provenance,
    source: str,
    beside: Beside | None = None,
    moved: Moved | None = None,
) -> SavedPlan:
    """Return a plan to publish ``tree`` at a place while ``base`` is live.

    ``url``: of the open store, with an absolute path.
    """
    return SavedPlan(
        created=utc_now(),
        source=source,
        environment=place.environment,
        store=shown(url),
        identity=place.identity,
        base=Base.of(base),
        provenance=provenance,
        policies=tree.policies,
        origins=encode_origins(tree.tree) if tree.tree.sources else None,
        beside=beside or Beside(),
        moved=moved,
    )


def still_live(store: Store, plan: SavedPlan, place: Place) -> Live:
    """Return the head if the plan was compared with it, or if it has the content of the plan.

    :raises Conflict: another generation is live, or it is another place.
    """
    if not _is_for(plan, store, place):
        raise _elsewhere(plan, place)
    now = read_live(store)
    applied_before = is_live(store, now, digest(plan.policies), plan.beside)
    if not applied_before and Base.of(now) != plan.base:
        raise Conflict(f"the plan is stale: {_moved(store, plan, now)}. Plan again")
    return now


def _is_for(plan: SavedPlan, store: Store, place: Place) -> bool:
    """Return True for the place that a plan was made for."""
    if plan.identity is not None:
        return plan.identity == place.identity
    try:
        return same_store(plan.store, store.url)
    except UsageError:  # a URL of a later version
        return plan.store == shown(store.url)


def _elsewhere(plan: SavedPlan, place: Place) -> Conflict:
    meant, here = named(plan.environment, plan.store), str(place)
    if meant == here:
        return Conflict(f"the plan is for {meant} before its identity changed: plan again")
    choice = f"-e {plan.environment}" if plan.environment else f"--store {shlex.quote(plan.store)}"
    error = Conflict(f"the plan is for {meant}, not for {here}")
    error.add_note(f"add {choice}, or plan again for this place")
    return error


def _moved(store: Store, plan: SavedPlan, now: Live) -> str:
    """Return a text about the generations since the plan, newest first."""
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
    return f"{compared}; published since then: {since}"
