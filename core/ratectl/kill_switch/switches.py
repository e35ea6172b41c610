"""Kill switches: at and below the scope of a switch agents refuse nothing, whatever the policies.

One record lists all switches that are on. It has the key ``head/panic`` in the store, below the
prefix that agents watch, and is written by compare-and-swap. Turning a switch changes no policy.
The same record as a file in a state directory is obeyed by the agents of that directory, even
without a store.

``sequence`` grows with every record and never falls, even if a store is restored or replaced: it
starts at the time in milliseconds. An agent ignores a record that is older than the one it obeys.
Turning a switch off writes a record too, since a missing record changes nothing.

A signer adds a switch only to a record that it may continue (see ``signing.continuation``). Any
other record has to be discarded: see ``change_switches``.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, TypeVar

from ratectl.errors import (
    BundleError,
    Conflict,
    OutcomeUnknown,
    RatectlError,
    StoreUnavailable,
    Untrusted,
    UsageError,
)
from ratectl.policy.language.scopes import scope_problem
from ratectl.records import now_ms, sequence_problem, utc_now
from ratectl.records.checks import checked_object
from ratectl.runtime.files import ENTERABLE, NOT_REGULAR, make_folder, read_at_most
from ratectl.runtime.whole_files import replace_file
from ratectl.signing.continuation import doubt_newest, fresh_sequence, signature
from ratectl.stores.base import Compare, Put

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ratectl.engine.waivers import Waiver
    from ratectl.records import AgentRecord
    from ratectl.signing.signatures import Signer
    from ratectl.stores.base import Item, Store

__all__ = [
    "MAX_SWITCHES",
    "MAX_TEXT",
    "PANIC",
    "Changed",
    "Switch",
    "Switches",
    "change_switch_file",
    "change_switches",
    "known_switches",
    "load_switches",
    "read_switches",
    "save_switches",
    "switch_file",
]

E = TypeVar("E", bound=RatectlError)

PANIC: Final = "head/panic"

MAX_SWITCHES: Final = 500
"""Most switches that are on at the same time."""

MAX_TEXT: Final = 500
"""Most characters of a reason, and of an author."""

_FORMAT: Final = 1
_MODES: Final[dict[str, Waiver]] = {"open": "open", "shadow": "shadow"}
_MAX_BYTES: Final = 1_000_000
_ATTEMPTS: Final = 20
_NAMED: Final = 5
_REMEDY: Final = (
    "`ratectl panic off` discards it; so does `ratectl panic on --only`, which turns on one switch "
    "alone"
)
_READABLE: Final = 0o644
"""Mode of the file: the user who turns a switch (root, for example) may differ from the agents'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """A switch that is on."""

    scope: str
    mode: Waiver
    """``open``: limits are not evaluated. ``shadow``: they are evaluated, and refuse nothing."""
    reason: str
    author: str
    time: str
    """Time at which it was turned on (ISO 8601, UTC)."""

    @classmethod
    def now(cls, scope: str, mode: Waiver, reason: str, author: str) -> Self:
        """Return a switch that is turned on now."""
        return cls(scope=scope, mode=mode, reason=reason, author=author[:MAX_TEXT], time=utc_now())


@dataclass(frozen=True, slots=True)
class Switches:
    """All switches that are on, sorted by scope, at most one for each scope."""

    KIND: ClassVar[str] = "panic"
    KEY: ClassVar[str] = PANIC
    REPORTED: ClassVar[str] = "panic_sequence"

    sequence: int = 0
    """0 if no switch was ever turned."""
    on: tuple[Switch, ...] = ()
    signature: str | None = None
    """Ed25519 (see ``signing``), in base64; None for an unsigned record."""

    @property
    def modes(self) -> dict[str, Waiver]:
        """Mode of each scope, for ``Engine.waive``."""
        return {each.scope: each.mode for each in self.on}

    def turned_on(self, switch: Switch) -> Self:
        """Return the next record, with this switch (in place of another one at its scope)."""
        others = [each for each in self.on if each.scope != switch.scope]
        return self._next([*others, switch])

    def turned_off(self, scope: str | None = None) -> Self:
        """Return the next record, without the switch at ``scope`` (None: without any switch)."""
        return self._next([each for each in self.on if scope not in (None, each.scope)])

    def _next(self, on: list[Switch]) -> Self:
        sequence = max(self.sequence + 1, now_ms())
        on.sort(key=lambda each: each.scope)
        return replace(self, sequence=sequence, on=tuple(on), signature=None)

    def signed_part(self) -> dict[str, Any]:
        """Return the content that a signature covers."""
        return {"sequence": self.sequence, "switches": [asdict(each) for each in self.on]}

    def obeyed_by(self, agent: AgentRecord) -> bool:
        """Return True if an agent has obeyed this record, or a newer one."""
        return agent.panic_sequence >= self.sequence

    def encode(self) -> bytes:
        """Return the bytes to store."""
        value = {"format": _FORMAT, **self.signed_part()}
        if self.signature is not None:
            value["signature"] = self.signature
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a record; unknown fields are ignored.

        :raises BundleError: it is not a record, or has a newer format; the message says why.
        """
        try:
            return cls._checked(data)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"the kill switch's record cannot be read: {error}") from None

    @classmethod
    def _checked(cls, data: bytes) -> Self:
        value = checked_object(data, _MAX_BYTES, _FORMAT)
        sequence: Any = value.get("sequence")
        switches: Any = value.get("switches")
        problem = sequence_problem(sequence)
        if problem:
            raise ValueError(problem)
        if not isinstance(switches, list) or len(switches) > MAX_SWITCHES:
            raise ValueError(f"its switches are not a list of at most {MAX_SWITCHES}")
        on = tuple(map(_checked_switch, switches))
        scopes = [each.scope for each in on]
        twice = next((scope for scope in scopes if scopes.count(scope) > 1), None)
        if twice is not None:
            raise ValueError(f"it has two switches at {twice}")
        signature = value.get("signature")
        if signature is not None and not isinstance(signature, str):
            raise ValueError(f"its signature is {signature!r:.100}, not a string")
        return cls(sequence, on, signature)


def _checked_switch(said: Any) -> Switch:
    if not isinstance(said, dict):
        raise ValueError(f"{said!r:.100} is not a switch")
    scope, mode = _text(said, "scope"), _MODES.get(_text(said, "mode"))
    problem = scope_problem(scope)
    if problem:
        raise ValueError(problem)
    if mode is None:
        raise ValueError(f"{said['mode']!r} is neither open nor shadow")
    reason, author, time = (_text(said, name) for name in ("reason", "author", "time"))
    return Switch(scope=scope, mode=mode, reason=reason, author=author, time=time)


def _text(said: dict[str, Any], name: str) -> str:
    text = said.get(name)
    if not isinstance(text, str):
        raise ValueError(f"the {name} of a switch is {text!r:.100}, not a string")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the {name} of a switch cannot be encoded in UTF-8") from None
    if len(text) > MAX_TEXT and name != "scope":  # a scope has its own bounds
        raise ValueError(f"the {name} of a switch has more than {MAX_TEXT} characters")
    return text


# -- in a store


@dataclass(frozen=True, slots=True)
class Changed:
    """The record before and after a change."""

    before: Switches
    after: Switches
    discarded: str | None = None
    """Problem of a record that was replaced without repeating its switches; None without one."""


def read_switches(store: Store) -> Switches:
    """Return the switches that are on.

    :raises BundleError: the record cannot be read.
    """
    return _of(store.get(PANIC))


def known_switches(store: Store, warn: Callable[[str], None]) -> Switches:
    """Return the switches that are on; none, with a warning, if the record cannot be read."""
    try:
        return read_switches(store)
    except BundleError as error:
        warn(str(error))
        return Switches()


def change_switches(
    store: Store,
    change: Callable[[Switches], Switches],
    signer: Signer | None = None,
    *,
    alone: bool = False,
) -> Changed:
    """Replace the record by the result of ``change``; try again if others change it meanwhile.

    ``alone``: ``change`` gets an empty record, so that no other switch is on afterwards.

    Without a signer, a record that cannot be read counts as empty, and is replaced. A record with
    the same switches is written again: agents may obey another one, from before the store was
    restored.

    :raises Untrusted: ``signer`` must not repeat the record, and ``alone`` is false.
    :raises UsageError: more switches would be on than a record may hold.
    :raises Conflict: others changed the record at every attempt.
    :raises OutcomeUnknown: the reply was lost, and reading again did not show the outcome.
    """
    first: Changed | None = None
    lost: OutcomeUnknown | None = None
    for _ in range(_ATTEMPTS):
        try:
            item = store.get(PANIC)
        except StoreUnavailable as error:
            raise lost or error from None
        known, wrong = _judged(store, item, signer)
        if wrong is not None and signer is not None and not alone:
            raise _with_remedy(Untrusted(_complaint(known, wrong)))
        after = change(replace(known, on=()) if alone or wrong else known)
        after = replace(after, sequence=_sequence(store, known, after, wrong, signer))
        after = replace(after, signature=signature(store, signer, after))
        _check_size(after)
        first = first or Changed(known, after, wrong and _complaint(known, wrong))
        if lost is not None and after.on == known.on:
            return replace(first, after=known)
        try:
            mod_revision = item.mod_revision if item else 0
            if store.txn([Compare(PANIC, mod_revision)], [Put(PANIC, after.encode())]).ok:
                return replace(first, after=after)
        except OutcomeUnknown as error:
            lost = error  # the next read shows if it was written
    raise Conflict("others change the kill switch at the same time: try again")


def _check_size(switches: Switches) -> None:
    """:raises UsageError: too much would be on: readers would refuse the record."""
    try:
        Switches.decode(switches.encode())
    except BundleError as error:
        found = UsageError(f"too much would be on at the same time: {error}")
        raise _with_remedy(found) from None


def _with_remedy(error: E) -> E:
    error.add_note(_REMEDY)
    return error


def _judged(store: Store, item: Item | None, signer: Signer | None) -> tuple[Switches, str | None]:
    """Return the record in the store, and why the next one must not repeat it (None: it may)."""
    try:
        record = _of(item)
    except BundleError as error:
        return Switches(), str(error)
    if signer is None or item is None:
        return record, None
    return record, doubt_newest(store, signer, record, item.mod_revision)


def _sequence(
    store: Store, known: Switches, after: Switches, wrong: str | None, signer: Signer | None
) -> int:
    """Return the sequence of the record that comes after ``known``.

    A signed record that continues ``known`` gets the next number, not the time: if ``known`` is an
    old record that was put back, its continuation stays older than what agents have obeyed since.
    """
    if wrong is None and signer is None:
        return after.sequence
    continued = wrong is None and known.sequence > 0
    return known.sequence + 1 if continued else fresh_sequence(store, Switches, signer, [known])


def _complaint(known: Switches, wrong: str) -> str:
    """Return the problem of the record in the store, with its switches."""
    if not known.sequence:
        return wrong  # it cannot be read, and the message says so
    on = "; ".join(f"{each.mode} {each.scope} by {each.author}" for each in known.on[:_NAMED])
    more = f" and {len(known.on) - _NAMED} more" if len(known.on) > _NAMED else ""
    named = f"the kill switch's record in the store ({on or 'nothing is on'}{more})"
    return f"{named} cannot be verified: {wrong}"


def _of(item: Item | None) -> Switches:
    return Switches() if item is None else Switches.decode(item.value)


# -- as a file


def switch_file(state_dir: Path) -> Path:
    """Return the path of the file that the agents of a state directory obey."""
    return state_dir / "panic.json"


def load_switches(path: Path) -> Switches:
    """Read a file.

    :raises OSError: it cannot be read.
    :raises BundleError: it holds other data.
    """
    # O_NONBLOCK: if the path is a pipe, do not wait for a writer.
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise BundleError(NOT_REGULAR)
        return Switches.decode(read_at_most(handle, _MAX_BYTES + 1))
    finally:
        os.close(handle)


def change_switch_file(
    path: Path, change: Callable[[Switches], Switches], *, alone: bool = False
) -> Changed:
    """Replace a file by the result of ``change``; delete it if no switch is on.

    ``alone``: as for ``change_switches``.

    :raises OSError: writing failed; the old file is untouched.
    :raises UsageError: more switches would be on than a file may hold.
    """
    discarded = None
    try:
        before = load_switches(path)
    except FileNotFoundError:
        before = Switches()
    except BundleError as error:
        before, discarded = Switches(), str(error)
    after = change(replace(before, on=()) if alone else before)
    if after.on:
        _check_size(after)
        save_switches(path, after)
    else:
        path.unlink(missing_ok=True)
    return Changed(before, after, discarded)


def save_switches(path: Path, switches: Switches, mode: int = ENTERABLE) -> None:
    """Write a file atomically, readable by all users. Missing folders are created.

    ``mode``: mode of the created folders. By default other users may open files in them by name but
    not list them, so that agents of another user can read the file.

    :raises OSError: writing failed; the old file is untouched.
    """
    make_folder(path.parent, mode)
    replace_file(path, switches.encode() + b"\n", _READABLE)
