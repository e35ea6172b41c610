"""Continuation of a signed record: the checks before a signer repeats content of the store.

A signer is responsible for everything that it signs. So before it repeats content of a stored
record in the next one, these checks must pass: the record has a signature of the signer's own key,
for this environment, and no agent has obeyed a newer record. A record that fails is not continued.
The next one starts afresh: it repeats nothing, and its numbers do not depend on data that others
may have written.

A fresh sequence is the time in milliseconds, so it is higher than everything signed before. A
signer keeps no state: it notices an old record that was put back only by the agents' reports.
"""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

from ratectl.errors import BundleError, Refused, StoreError, StoreUnavailable, Untrusted
from ratectl.fleet.usage import read_agents
from ratectl.records import ENVIRONMENT, HEAD, HISTORY, Environment, now_ms, utc_now
from ratectl.stores.base import Compare, Put

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ratectl.records import Head
    from ratectl.signing.signatures import Signer
    from ratectl.stores.base import Store

__all__ = [
    "NEEDS_SIGNATURE",
    "Numbered",
    "Signable",
    "check_identity",
    "doubt",
    "doubt_newest",
    "ensure_environment",
    "fresh_sequence",
    "read_environment",
    "refused",
    "require_signer",
    "signature",
    "vouch",
]

_BELIEVED_MS: Final = 86_400_000
"""Agents' reports are not signed, so a signer ignores a reported sequence more than a day ahead.
If it signed such a number, a later fresh start that does not know of it would be refused as older
until that time has come."""


NEEDS_SIGNATURE: Final = "needs signatures (sign: required): add --sign KEY"


class Signable(Protocol):
    """A record that may carry a signature."""

    KIND: ClassVar[str]
    """Kind of the record; a part of what is signed, so no signature is valid for another kind."""

    @property
    def signature(self) -> str | None:
        """Ed25519, in base64; None for an unsigned record."""

    def signed_part(self) -> dict[str, Any]:
        """Return the content that a signature covers."""


class Numbered(Signable, Protocol):
    """A signable record of one key. Each version has a higher sequence than the one before."""

    KEY: ClassVar[str]
    REPORTED: ClassVar[str]
    """Field of ``AgentRecord`` that names the sequence an agent has obeyed."""

    @property
    def sequence(self) -> int:
        """Number of this version."""


def read_environment(store: Store) -> Environment | None:
    """Return the store's identity and protection; None if nothing was ever written there.

    :raises BundleError: the record cannot be read.
    """
    item = store.get(ENVIRONMENT)
    return Environment.decode(item.value) if item else None


def ensure_environment(store: Store) -> Environment:
    """Return the store's identity; write one if the store has none."""
    for _ in range(2):
        known = read_environment(store)
        if known is not None:
            return known
        fresh = Environment(id=uuid.uuid4().hex, created=utc_now())
        store.txn([Compare(ENVIRONMENT, 0)], [Put(ENVIRONMENT, fresh.encode())])
    raise StoreUnavailable(
        store.url, "the environment's identity was deleted just after it was written"
    )


def require_signer(store: Store, head: Head | None, signer: Signer | None) -> None:
    """Return if a change beside ``head`` may be made: unsigned only where nothing is signed.

    :raises Refused: there is no signer, and the head is signed or the environment needs signatures.
    """
    if signer is not None:
        return
    if head is not None and head.signature is not None:
        raise Refused(
            "the live generation is signed, and agents with public keys would refuse this: "
            "add --sign KEY"
        )
    _require_unprotected(store)


def _require_unprotected(store: Store) -> None:
    """Return if unsigned records may be written. An unreadable record of the environment allows it.

    :raises Refused: the environment needs signatures.
    """
    with suppress(BundleError):
        record = read_environment(store)
        if record is not None and record.sign_required:
            raise Refused(f"environment {record.name or record.id} {NEEDS_SIGNATURE}")


def signature(store: Store, signer: Signer | None, record: Signable) -> str | None:
    """Return a signature of a record for this store; None without a signer.

    :raises Refused: there is no signer, and the environment needs signatures.
    :raises Untrusted: the key is for another environment, or the store has lost its identity.
    """
    if signer is None:
        _require_unprotected(store)
        return None
    return signer.sign(record.KIND, _environment(store, signer), record.signed_part())


def doubt(store: Store, signer: Signer, record: Signable) -> str | None:
    """Return why ``signer`` must not repeat a stored record; None if it may.

    :raises Untrusted: the key is for another environment, or the store has lost its identity.
    """
    environment = _environment(store, signer)
    if record.signature is None:
        return "it is not signed"
    if not signer.has_signed(record.KIND, environment, record.signed_part(), record.signature):
        return "it was not signed by this key, or was changed since"
    return None


def doubt_newest(store: Store, signer: Signer, record: Numbered, revision: int) -> str | None:
    """Return why ``signer`` must not continue a record, read at ``revision``; None if it may.

    :raises Untrusted: as for ``doubt``.
    """
    return doubt(store, signer, record) or _outrun(store, record, revision)


def _outrun(store: Store, record: Numbered, revision: int) -> str | None:
    """Return the problem of a record that is older than what agents have obeyed; None if it is not.

    A record that was replaced since it was read is no problem here: the later compare-and-swap
    fails for it.
    """
    newest = _newest_believed(_reported(store, record.REPORTED))
    if newest <= record.sequence:
        return None
    item = store.get(record.KEY)
    if item is None or item.mod_revision != revision:
        return None
    return (
        f"it is older (sequence {record.sequence}) than what agents have obeyed ({newest}): an old "
        "one was put back, or the store was restored"
    )


def fresh_sequence(
    store: Store, kind: type[Numbered], signer: Signer | None, old: Iterable[Numbered]
) -> int:
    """Return a sequence above every honest one: the time (ms), or more if a higher one is known.

    ``old``: the records that are replaced, as far as they can be read, the newest first. For a
    signer, only the sequences of those count that its own key has signed. Agents' reports count
    too; for a signer only up to a day from now.
    """
    reported = _reported(store, kind.REPORTED)
    if signer is None:
        known = [*reported, *(record.sequence for record in old)]
        return max([now_ms(), *(sequence + 1 for sequence in known)])
    own = (record.sequence for record in old if doubt(store, signer, record) is None)
    return max(now_ms(), _newest_believed(reported) + 1, next(own, 0) + 1)


def _reported(store: Store, field: str) -> list[int]:
    """Return the sequences that agents have obeyed; none if their reports cannot be read."""
    with suppress(StoreError):
        sequences = [getattr(agent, field) for agent in read_agents(store)]
        return [sequence for sequence in sequences if sequence is not None]
    return []


def _newest_believed(reported: list[int]) -> int:
    highest = now_ms() + _BELIEVED_MS
    return max((sequence for sequence in reported if sequence <= highest), default=0)


def vouch(store: Store, signer: Signer, record: Signable, what: str, remedy: str) -> None:
    """Return if ``signer`` may repeat a record; ``what`` is the record's name in the message.

    :raises Untrusted: it may not; ``remedy`` ends the message.
    """
    why = doubt(store, signer, record)
    if why is not None:
        raise refused(what, why, remedy)


def refused(what: str, why: str, remedy: str) -> Untrusted:
    """Return the error for a record that must not be continued."""
    return Untrusted(f"{what} would be signed as well, and cannot be verified: {why}. {remedy}")


def check_identity(store: Store, signer: Signer) -> str | None:
    """Return the store's identity if ``signer`` may sign for it; None if the store is empty.

    :raises Untrusted: the key is for another environment, or the store has lost its identity. A new
        identity would not help: agents with keys obey only the old one.
    """
    known = read_environment(store)
    if known is not None:
        signer.check(known.id)
        return known.id
    if store.get(HEAD) or store.list(HISTORY).items:
        raise Untrusted(
            f"the store holds generations, but no identity: {ENVIRONMENT!r} was deleted. Restore "
            "it from a backup: agents with public keys obey no other environment"
        )
    return None


def _environment(store: Store, signer: Signer) -> str:
    return check_identity(store, signer) or ensure_environment(store).id
