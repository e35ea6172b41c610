"""Resets as the store keeps them, and the history of resets.

One record, ``head/resets``, lists the resets that have not expired. It is below the prefix that
agents watch, so a reset arrives at once, without a second watch. It is written by compare-and-swap,
which puts the resets in order: an agent that remembers one number obeys none twice, and misses none
that was written meanwhile. A record for each reset would need a watch of its own, and two writers
could put the lower number second.

Each reset is signed alone, so a signer does not repeat, and vouches for nothing of, what others
wrote. ``sequence`` grows with every reset and never falls, even if a store is restored or replaced:
it starts at the time in milliseconds.

The list holds keys as they are, since agents need them. It is emptied by later writers. The history
(``resets/<sequence>``) holds a hash of each key.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from ratectl.errors import BundleError
from ratectl.policy.language.scopes import scope_problem
from ratectl.records import PastReset, sequence_problem
from ratectl.records.checks import check_fields, checked_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.records import AgentRecord

__all__ = [
    "EXPIRES", "LONGEST", "MAX_ATTRIBUTES", "MAX_RESETS", "MAX_TEXT", "MAX_VALUE", "RESETS",
    "Reset", "Resets", "key_hash",
]  # fmt: skip

RESETS: Final = "head/resets"

EXPIRES: Final = timedelta(minutes=2)
"""Time after which agents no longer obey a reset, by default."""

LONGEST: Final = timedelta(minutes=10)
"""Longest time for which agents obey a reset."""

MAX_RESETS: Final = 100
"""Most resets that have not expired."""

MAX_TEXT: Final = 500
"""Most characters of a reason, and of an author."""

MAX_ATTRIBUTES: Final = 16
MAX_VALUE: Final = 4_096
"""Most characters of a value of a key."""

_FORMAT: Final = 1
_MAX_BYTES: Final = 500_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """A reset of the buckets that one key of a limit has."""

    KIND: ClassVar[str] = "reset"
    KEY: ClassVar[str] = RESETS
    REPORTED: ClassVar[str] = "reset_sequence"

    sequence: int
    scope: str
    """Declared scope of the buckets."""
    limit: str
    """Name of the limit or budget."""
    budget: bool
    key: dict[str, str | None]
    """Value of each attribute that the limit counts per; None for an absent attribute."""
    reason: str
    author: str
    time: str
    """Time of the order (ISO 8601, UTC)."""
    expires: str
    """Time from which no agent obeys it."""
    request: str
    """Unique to one attempt. After a lost reply, a writer recognises its own write by it."""
    signature: str | None = None
    """Ed25519 (see ``signing``), in base64; None for an unsigned reset."""

    def signed_part(self) -> dict[str, Any]:
        """Return the content that a signature covers."""
        return {name: value for name, value in asdict(self).items() if name != "signature"}

    def is_over(self, now: datetime) -> bool:
        """Return True if agents no longer obey it."""
        return now >= datetime.fromisoformat(self.expires)

    def obeyed_by(self, agent: AgentRecord) -> bool:
        """Return True if an agent has obeyed it, or started later."""
        return agent.reset_sequence is not None and agent.reset_sequence >= self.sequence

    def past(self) -> PastReset:
        """Return its entry in the history."""
        return PastReset(
            sequence=self.sequence,
            scope=self.scope,
            limit=self.limit,
            budget=self.budget,
            attributes=list(self.key),
            key_hash=key_hash(self.key),
            reason=self.reason,
            author=self.author,
            time=self.time,
            expires=self.expires,
            signed=self.signature is not None,
        )

    @classmethod
    def _checked(cls, said: Any) -> Self:
        """:raises ValueError, TypeError: it is no reset."""
        if not isinstance(said, dict):
            raise TypeError(f"{said!r:.100} is not a reset")
        names = [field.name for field in fields(cls)]
        missing = [name for name in names if name not in said and name != "signature"]
        if missing:
            raise ValueError(f"a reset lacks {', '.join(missing)}")
        reset = cls(**{name: value for name, value in said.items() if name in names})
        check_fields(reset)
        problem = sequence_problem(reset.sequence) or scope_problem(reset.scope)
        if problem:
            raise ValueError(problem)
        reset._check_texts()
        reset._check_times()
        return reset

    def _check_texts(self) -> None:
        for name in ("limit", "reason", "author", "request"):
            if len(getattr(self, name)) > MAX_TEXT:
                raise ValueError(f"the {name} of a reset has more than {MAX_TEXT} characters")
        if len(self.key) > MAX_ATTRIBUTES:
            raise ValueError(f"a key has values of more than {MAX_ATTRIBUTES} attributes")
        longest = max((len(text or "") for pair in self.key.items() for text in pair), default=0)
        if longest > MAX_VALUE:
            raise ValueError(f"a value of a key has more than {MAX_VALUE} characters")

    def _check_times(self) -> None:
        began, over = (datetime.fromisoformat(text) for text in (self.time, self.expires))
        if began.tzinfo is None or over.tzinfo is None:
            raise ValueError("a time of a reset lacks its offset from UTC")
        if not timedelta() < over - began <= LONGEST:
            minutes = LONGEST // timedelta(minutes=1)
            raise ValueError(f"a reset expires after {minutes} minutes at most")


def key_hash(key: Mapping[str, str | None]) -> str:
    """Return the hash that the history shows for a key. It can be found by guessing the key."""
    text = json.dumps(dict(key), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Resets:
    """The list of resets, in the order of their sequences."""

    all: tuple[Reset, ...] = ()

    def current(self, now: datetime) -> Self:
        """Return the list without the resets that are over."""
        return replace(self, all=tuple(each for each in self.all if not each.is_over(now)))

    def having(self, reset: Reset) -> Self:
        """Return the list with one more reset."""
        everything = sorted((*self.all, reset), key=lambda each: each.sequence)
        return replace(self, all=tuple(everything))

    def encode(self) -> bytes:
        """Return the bytes to store."""
        value = {"format": _FORMAT, "resets": [asdict(each) for each in self.all]}
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a list; unknown fields are ignored.

        :raises BundleError: it is no such list, or has a newer format; the message says why.
        """
        try:
            return cls._checked(data)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise BundleError(f"the record of resets cannot be read: {error}") from None

    @classmethod
    def _checked(cls, data: bytes) -> Self:
        value = checked_object(data, _MAX_BYTES, _FORMAT)
        said: Any = value.get("resets")
        if not isinstance(said, list) or len(said) > MAX_RESETS:
            raise ValueError(f"its resets are not a list of at most {MAX_RESETS}")
        resets = [Reset._checked(each) for each in said]  # noqa: SLF001  of this module
        sequences = {each.sequence for each in resets}
        if len(sequences) < len(resets):
            raise ValueError("it has two resets of one sequence")
        return cls(tuple(sorted(resets, key=lambda each: each.sequence)))
