"""The kill switch: scopes at and below which agents are to refuse nothing, whatever policies say.

One record says all that is on. It lies in the store under ``head/panic``, below the prefix that
agents watch: turning a switch touches no policy, and is written by compare-and-swap. The same
record as a file in a state directory holds for the agents of that directory, store or no store.

``sequence`` grows with every record and never falls, also where a store was restored or made anew:
it begins as the time in milliseconds. An agent takes no record for news that is older than what
it knows. Turning off writes a record as well, since an absent one says nothing.

A signer adds a switch only to a record that it may continue (see ``continuation``). Any other
record has to be discarded: see ``change_switches``.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, TypeVar

from ratectl.errors import (
    BundleError,
    Conflict,
    OutcomeUnknown,
    RatectlError,
    StoreUnavailable,
    UsageError,
)
from ratectl.policy.language.scopes import scope_problem
from ratectl.records import now_ms, sequence_problem, utc_now
from ratectl.runtime.files import ENTERABLE, NOT_REGULAR, make_folder, read_at_most
from ratectl.signing.continuation import doubt_newest, fresh_sequence, signature
from ratectl.signing.signatures import Untrusted
from ratectl.stores.base import Compare, Put

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.engine.waivers import Waiver
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
    "load_switches",
    "read_switches",
    "save_switches",
    "switch_file",
]

E = TypeVar("E", bound=RatectlError)

PANIC: Final = "head/panic"

MAX_SWITCHES: Final = 500
"""On at the same time."""

MAX_TEXT: Final = 500
"""Characters of a reason, and of an author."""

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
"""Whoever turns a switch may be another user than the agents: root, say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """A switch that is on."""

    scope: str
    mode: Waiver
    """``open``: limits are not asked. ``shadow``: they are, and refuse nothing."""
    reason: str
    author: str
    time: str
    """When it was turned on (ISO 8601, UTC)."""

    @classmethod
    def now(cls, scope: str, mode: Waiver, reason: str, author: str) -> Self:
        """A switch that is turned on now."""
        return cls(scope=scope, mode=mode, reason=reason, author=author[:MAX_TEXT], time=utc_now())


@dataclass(frozen=True, slots=True)
class Switches:
    """All that is on, at most one at each scope, by scope."""

    KIND: ClassVar[str] = "panic"
    KEY: ClassVar[str] = PANIC
    REPORTED: ClassVar[str] = "panic_sequence"

    sequence: int = 0
    """0: nobody has ever turned a switch."""
    on: tuple[Switch, ...] = ()
    signature: str | None = None
    """Ed25519 (see ``signing``), in base64; None where nobody signs."""

    @property
    def modes(self) -> dict[str, Waiver]:
        """What an engine is to waive."""
        return {each.scope: each.mode for each in self.on}

    def turned_on(self, switch: Switch) -> Self:
        """The next record, with this switch (in place of another at its scope)."""
        others = [each for each in self.on if each.scope != switch.scope]
        return self._next([*others, switch])

    def turned_off(self, scope: str | None = None) -> Self:
        """The next record, without the switch at ``scope``; None for without any."""
        return self._next([each for each in self.on if scope not in (None, each.scope)])

    def _next(self, on: list[Switch]) -> Self:
        sequence = max(self.sequence + 1, now_ms())
        on.sort(key=lambda each: each.scope)
        return replace(self, sequence=sequence, on=tuple(on), signature=None)

    def signed_part(self) -> dict[str, Any]:
        """All that it says."""
        return {"sequence": self.sequence, "switches": [asdict(each) for each in self.on]}

    def encode(self) -> bytes:
        """As stored."""
        value = {"format": _FORMAT, **self.signed_part()}
        if self.signature is not None:
            value["signature"] = self.signature
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a record; fields that it should not have are passed over.

        :raises BundleError: it is not one, or of a newer format; the message says why.
        """
        try:
            return cls._checked(data)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"the kill switch's record cannot be read: {error}") from None

    @classmethod
    def _checked(cls, data: bytes) -> Self:
        if len(data) > _MAX_BYTES:
            raise ValueError(f"it has {len(data)} bytes, more than {_MAX_BYTES}")
        value = json.loads(data)
        if not isinstance(value, dict):
            raise ValueError("it is no JSON object")
        if value.get("format") != _FORMAT:
            raise ValueError(f"its format is {value.get('format')!r}, not {_FORMAT}")
        sequence: Any = value.get("sequence")
        switches: Any = value.get("switches")
        problem = sequence_problem(sequence)
        if problem:
            raise ValueError(problem)
        if not isinstance(switches, list) or len(switches) > MAX_SWITCHES:
            raise ValueError(f"its switches are no list of at most {MAX_SWITCHES}")
        on = tuple(map(_checked_switch, switches))
        scopes = [each.scope for each in on]
        twice = next((scope for scope in scopes if scopes.count(scope) > 1), None)
        if twice is not None:
            raise ValueError(f"it has two switches at {twice}")
        signature = value.get("signature")
        if signature is not None and not isinstance(signature, str):
            raise ValueError(f"its signature is {signature!r:.100}, no text")
        return cls(sequence, on, signature)


def _checked_switch(said: Any) -> Switch:
    if not isinstance(said, dict):
        raise ValueError(f"{said!r:.100} is no switch")
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
        raise ValueError(f"the {name} of a switch is {text!r:.100}, no text")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the {name} of a switch is no text that UTF-8 can hold") from None
    if len(text) > MAX_TEXT and name != "scope":  # a scope has bounds of its own
        raise ValueError(f"the {name} of a switch has more than {MAX_TEXT} characters")
    return text


# -- in a store


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change made of the record."""

    before: Switches
    after: Switches
    discarded: str | None = None
    """What was wrong with a record that this one replaced, and of which it repeats nothing."""


def read_switches(store: Store) -> Switches:
    """What is on.

    :raises BundleError: nobody can tell: the record cannot be read.
    """
    return _of(store.get(PANIC))


def change_switches(
    store: Store,
    change: Callable[[Switches], Switches],
    signer: Signer | None = None,
    *,
    alone: bool = False,
) -> Changed:
    """Write what ``change`` makes of the record, which others may be changing as well.

    ``alone``: ``change`` is to begin with an empty record, so that nothing else is on afterwards.

    Without a signer, a record that cannot be read is no obstacle: it counts as empty, and is
    replaced. A record that says the same already is written again: agents may remember another,
    of a store before it was restored.

    :raises Untrusted: ``signer`` must not repeat what the record says, and ``alone`` is false.
    :raises UsageError: more would be on than a record may hold.
    :raises Conflict: others change it all the time.
    :raises OutcomeUnknown: the reply was lost, and re-reading did not settle it.
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
            lost = error  # whether it was written is found by reading
    raise Conflict("the kill switch is being turned by many at once: try again")


def _check_size(switches: Switches) -> None:
    """:raises UsageError: no reader would take the record: too much would be on."""
    try:
        Switches.decode(switches.encode())
    except BundleError as error:
        found = UsageError(f"too much would be on at the same time: {error}")
        raise _with_remedy(found) from None


def _with_remedy(error: E) -> E:
    error.add_note(_REMEDY)
    return error


def _judged(store: Store, item: Item | None, signer: Signer | None) -> tuple[Switches, str | None]:
    """Return the record in the store, and why the next one must not repeat it."""
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

    A signed one counts on from the record that it continues, whatever the time: where an old record
    was put back, its continuation stays older than what agents have obeyed since.
    """
    if wrong is None and signer is None:
        return after.sequence
    continued = wrong is None and known.sequence > 0
    return known.sequence + 1 if continued else fresh_sequence(store, Switches, signer, known)


def _complaint(known: Switches, wrong: str) -> str:
    """Return what is wrong with the record in the store, and what is on in it."""
    if not known.sequence:
        return wrong  # it cannot be read, and the message says so
    on = "; ".join(f"{each.mode} {each.scope} by {each.author}" for each in known.on[:_NAMED])
    more = f" and {len(known.on) - _NAMED} more" if len(known.on) > _NAMED else ""
    named = f"the kill switch's record in the store ({on or 'nothing is on'}{more})"
    return f"{named} cannot be vouched for: {wrong}"


def _of(item: Item | None) -> Switches:
    return Switches() if item is None else Switches.decode(item.value)


# -- as a file


def switch_file(state_dir: Path) -> Path:
    """Where agents of a state directory look for switches of their own."""
    return state_dir / "panic.json"


def load_switches(path: Path) -> Switches:
    """Read a file.

    :raises OSError: it cannot be read.
    :raises BundleError: it holds something else.
    """
    # Without waiting for whoever might write into a pipe of this name.
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
    """Write what ``change`` makes of a file; none where nothing is on.

    ``alone``: as for ``change_switches``.

    :raises OSError: it could not be done; what was there is untouched.
    :raises UsageError: more would be on than a file may hold.
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
    """Write a file whole, readable for everybody. Folders that are not there are made.

    ``mode``: of these folders. Others may enter them and read what they know by name, but not list
    them: agents of another user have to find the file. A folder that is there keeps its mode.

    :raises OSError: it could not be written; what was there is untouched.
    """
    make_folder(path.parent, mode)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".panic-", delete=False) as beside:
        try:
            beside.write(switches.encode() + b"\n")
            beside.flush()
            os.fsync(beside.fileno())
            os.fchmod(beside.fileno(), _READABLE)
            Path(beside.name).replace(path)
        except BaseException:
            Path(beside.name).unlink(missing_ok=True)
            raise
