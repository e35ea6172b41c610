"""Continuing a record of the store: a signer repeats only what it can prove.

To sign a record is to say every word of it. Before a signer repeats words of a record in the next
one, it asks here: the record must carry a signature of this very key, for this environment, and no
agent may have obeyed a newer one. A record that fails is not continued. The next one starts afresh:
it repeats nothing, and its numbers do not depend on what anybody may have written.

A fresh sequence is a time in milliseconds, so that it beats everything signed before. A signer has
no memory: only agents' reports tell it of an old record that was put back.
"""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

from ratectl.errors import Refused, StoreError, StoreUnavailable
from ratectl.fleet.usage import read_agents
from ratectl.records import ENVIRONMENT, HEAD, HISTORY, Environment, now_ms, utc_now
from ratectl.signing.signatures import Untrusted
from ratectl.stores.base import Compare, Put

if TYPE_CHECKING:
    from ratectl.records import Head
    from ratectl.signing.signatures import Signer
    from ratectl.stores.base import Store

__all__ = [
    "Numbered",
    "Signable",
    "check_identity",
    "doubt",
    "doubt_newest",
    "ensure_environment",
    "fresh_sequence",
    "refused",
    "require_signer",
    "signature",
    "vouch",
]

_BELIEVED_MS: Final = 86_400_000
"""Agents' reports are not signed. To a signer, a sequence more than a day ahead does not count:
once such a number is signed and obeyed, no fresh start that does not know of it
wins until its time."""


class Signable(Protocol):
    """A record that may carry a signature."""

    KIND: ClassVar[str]
    """Kind of the record, as signatures name it: none is valid for another kind."""

    @property
    def signature(self) -> str | None:
        """Ed25519, in base64; None for an unsigned record."""

    def signed_part(self) -> dict[str, Any]:
        """Return everything that a signature covers."""


class Numbered(Signable, Protocol):
    """A record of one key, each version of which has a higher sequence than the one before."""

    KEY: ClassVar[str]
    REPORTED: ClassVar[str]
    """Field of ``AgentRecord`` that names the sequence an agent has obeyed."""

    @property
    def sequence(self) -> int:
        """Number of this version."""


def ensure_environment(store: Store) -> Environment:
    """Return the store's identity; a store that has none gets one now."""
    for _ in range(2):
        item = store.get(ENVIRONMENT)
        if item is not None:
            return Environment.decode(item.value)
        fresh = Environment(id=uuid.uuid4().hex, created=utc_now())
        store.txn([Compare(ENVIRONMENT, 0)], [Put(ENVIRONMENT, fresh.encode())])
    raise StoreUnavailable(store.url, "the environment's identity did not stay written")


def require_signer(head: Head | None, signer: Signer | None) -> None:
    """Return if a change beside ``head`` may be made: unsigned only where nothing is signed.

    :raises Refused: the head is signed, and there is no signer.
    """
    if signer is None and head is not None and head.signature is not None:
        raise Refused(
            "what is live is signed, and agents that hold public keys would refuse this: "
            "add --sign KEY"
        )


def signature(store: Store, signer: Signer | None, record: Signable) -> str | None:
    """Return a signature of a record for this store; None without a signer.

    :raises Untrusted: the key is for another environment, or the store has lost its identity.
    """
    if signer is None:
        return None
    return signer.sign(record.KIND, _environment(store, signer), record.signed_part())


def doubt(store: Store, signer: Signer, record: Signable) -> str | None:
    """Return why ``signer`` must not repeat what a record of the store says; None where it may.

    :raises Untrusted: the key is for another environment, or the store has lost its identity.
    """
    environment = _environment(store, signer)
    if record.signature is None:
        return "it is not signed"
    if not signer.has_signed(record.KIND, environment, record.signed_part(), record.signature):
        return "it was not signed by this key, or was changed since"
    return None


def doubt_newest(store: Store, signer: Signer, record: Numbered, revision: int) -> str | None:
    """Return why ``signer`` must not continue a record, read at ``revision``; None where it may.

    :raises Untrusted: as for ``doubt``.
    """
    return doubt(store, signer, record) or _outrun(store, record, revision)


def _outrun(store: Store, record: Numbered, revision: int) -> str | None:
    """Return by how much agents are ahead of a record; None if they are not.

    A record that was replaced since it was read is not judged: comparing revisions finds that out.
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
    store: Store, kind: type[Numbered], signer: Signer | None, old: Numbered | None
) -> int:
    """Return a sequence that beats every honest one: the time, or more if more is known.

    ``old``: the record that is replaced, if it can be read. Its sequence counts where ``signer``
    itself has signed it. Agents' reports count as well, for a signer within a day from now.
    """
    reported = _reported(store, kind.REPORTED)
    if signer is None:
        return max([now_ms(), *(each + 1 for each in reported)])
    proved = old.sequence if old is not None and doubt(store, signer, old) is None else 0
    return max(now_ms(), _newest_believed(reported) + 1, proved + 1)


def _reported(store: Store, field: str) -> list[int]:
    """Return the sequences that agents have obeyed; none if their reports cannot be read."""
    with suppress(StoreError):
        return [getattr(agent, field) for agent in read_agents(store)]
    return []


def _newest_believed(reported: list[int]) -> int:
    most = now_ms() + _BELIEVED_MS
    return max((each for each in reported if each <= most), default=0)


def vouch(store: Store, signer: Signer, record: Signable, what: str, remedy: str) -> None:
    """Return if ``signer`` may repeat what a record says. ``what`` names the record in the message.

    :raises Untrusted: it may not; ``remedy`` ends the message.
    """
    why = doubt(store, signer, record)
    if why is not None:
        raise refused(what, why, remedy)


def refused(what: str, why: str, remedy: str) -> Untrusted:
    """Return the error for a record that must not be signed on."""
    return Untrusted(f"{what} would be signed as well, and cannot be vouched for: {why}. {remedy}")


def check_identity(store: Store, signer: Signer) -> str | None:
    """Return the identity of this store, for which ``signer`` may sign; None where it has none yet.

    :raises Untrusted: the key is for another environment, or the store has lost its identity. A new
        one would help nobody: agents that hold keys belong to the old one.
    """
    item = store.get(ENVIRONMENT)
    if item is not None:
        identity = Environment.decode(item.value).id
        signer.check(identity)
        return identity
    if store.get(HEAD) or store.list(HISTORY).items:
        raise Untrusted(
            f"the store holds generations, and no identity: somebody deleted {ENVIRONMENT!r}. Put "
            "it back from a backup: agents that hold public keys obey no other environment"
        )
    return None


def _environment(store: Store, signer: Signer) -> str:
    return check_identity(store, signer) or ensure_environment(store).id
