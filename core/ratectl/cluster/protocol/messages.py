"""Messages between members and owners.

Counts of tokens are totals, and each message repeats whatever is not confirmed yet. So a message
that is lost, repeated or overtaken changes nothing but the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.cluster.protocol.capacity import Size
    from ratectl.cluster.protocol.cooling import Step

__all__ = [
    "Close",
    "Closed",
    "Drawn",
    "Granted",
    "Lending",
    "Open",
    "OwnerId",
    "Poll",
    "PoolId",
    "Reply",
    "ToMember",
    "ToOwner",
    "Unknown",
    "Welcome",
    "owner_of",
]


class PoolId(NamedTuple):
    """One key of one limit."""

    limit: str
    key: str


class OwnerId(NamedTuple):
    """An owner, from its start to its end."""

    name: str
    incarnation: int


class Lending(NamedTuple):
    """Tokens of one limit that go with a share to another place, in grains."""

    untouched: int
    """Free tokens of each key that is not in ``touched``."""
    touched: Mapping[str, int]
    """Free tokens, by key."""
    cooling: Mapping[str, tuple[Step, ...]] = MappingProxyType({})
    """Tokens of a sliding window that were spent, by key, and the time until they are free."""


class Drawn(NamedTuple):
    """A member's report about one pool. Totals of one draw, in tokens."""

    pool: PoolId
    draw: int
    """Grows each time that the member takes an interest in the pool: totals begin at 0 with it."""
    spent: int
    voided: int
    """Tokens that it held and may not spend any more."""
    returned: int
    want: int
    """How many tokens it would like to hold for its other requests."""
    least: int
    """Cost of the largest request that waits for tokens: fewer are of no use to it."""
    refunded: int = 0
    """Tokens that requests were charged and did not use."""
    refunded_after: int = 0
    """Time since the oldest charge of refunds that are not confirmed (nanoseconds)."""


class Granted(NamedTuple):
    """An owner's answer about one pool."""

    pool: PoolId
    draw: int
    granted: int
    """Total of this draw, in tokens."""
    hold: int | None
    """The member must hold no more than this: the owner has lost part of the capacity."""
    scarce: bool
    """The pool is empty: polls for more are of no use, the owner grants as tokens accrue."""
    stock: int
    """Tokens that the member should hold while it has no requests."""
    in_vain: bool
    """The largest request that waits is for more than the pool has room for: the member should
    not gather tokens for it."""


@dataclass(frozen=True, slots=True)
class Open:
    """A member asks an owner for a session."""

    member: str
    session: int
    """Grows with each session of the member, over restarts as well."""
    owner: str
    """Name of the owner that is asked."""


@dataclass(frozen=True, slots=True)
class Welcome:
    """An owner agrees to a session."""

    member: str
    session: int
    owner: OwnerId
    reply: int
    """Number of this answer. The owner counts the member's share from a poll that echoes it."""


@dataclass(frozen=True, slots=True)
class Poll:
    """A member lends its share, reports what it spent, and asks for tokens."""

    member: str
    session: int
    owner: OwnerId
    number: int
    echo: int
    """Number of the newest answer that the member has."""
    share: int
    """Millionths."""
    sizes: Mapping[str, Size] | None
    """Limits that the member lends, by name. None: as the owner knows them."""
    lending: Mapping[str, Lending] | None
    """What it brings: until the owner has answered a poll of this session. None: the owner has had
    the share last, and nobody has used it since."""
    drawn: tuple[Drawn, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """An owner answers a poll, or grants tokens later."""

    member: str
    session: int
    owner: OwnerId
    number: int
    poll: int
    """Number of the newest poll that it has."""
    gap: int
    """Nanoseconds that the member should leave between two polls."""
    settled: bool
    """Nothing is recalled: no token is out for a share or a size that the owner counts no more."""
    granted: tuple[Granted, ...]
    whole: tuple[str, ...] = ()
    """Limits of which the member should lend all, and keep no part of any key."""


@dataclass(frozen=True, slots=True)
class Close:
    """A member takes its share back. It holds no token any more."""

    member: str
    session: int
    owner: OwnerId


@dataclass(frozen=True, slots=True)
class Closed:
    """An owner has nothing of the share any more."""

    member: str
    session: int
    owner: OwnerId
    lending: Mapping[str, Lending]
    """What was left of the share, by limit."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """An owner does not have this session, or not any more."""

    member: str
    session: int
    owner: OwnerId


ToOwner = Open | Poll | Close
ToMember = Welcome | Reply | Closed | Unknown


def owner_of(message: ToOwner | ToMember) -> str:
    """Return the name of the owner that a message is for, or comes from."""
    return message.owner if isinstance(message, Open) else message.owner.name
