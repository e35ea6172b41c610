"""Keys of records, and reading and writing of all records."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Self

from ratectl.errors import BundleError
from ratectl.records.checks import check_fields

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "AGENTS",
    "BEATS",
    "BUNDLES",
    "CONTROLLER",
    "ENVIRONMENT",
    "FORMAT",
    "HEAD",
    "HISTORY",
    "MANIFESTS",
    "MEMBERS",
    "OWNERS",
    "PAST_RESETS",
    "ROLLOUTS",
    "ROSTER",
    "USAGE",
    "Record",
    "chunk_key",
    "exactly",
    "history_key",
    "past_reset_key",
    "rollout_key",
    "utc_now",
    "utc_text",
]

ENVIRONMENT = "environment"
HEAD = "head"
CONTROLLER = "head/controller"
ROLLOUTS = "rollouts/"
HISTORY = "history/"
MANIFESTS = "manifests/"
BUNDLES = "bundles/"
AGENTS = "agents/"
USAGE = "usage/"
BEATS = "beats/"
PAST_RESETS = "resets/"
ROSTER = "members"
MEMBERS = "members/"
OWNERS = "owners/"

FORMAT = 1


def history_key(generation: int) -> str:
    """Return the key of a history entry, padded so that keys sort as numbers."""
    return f"{HISTORY}{generation:010d}"


def rollout_key(generation: int) -> str:
    """Return the key of the rollout of a generation."""
    return f"{ROLLOUTS}{generation:010d}"


def past_reset_key(sequence: int) -> str:
    """Return the key of a reset in the history."""
    return f"{PAST_RESETS}{sequence:016d}"


def chunk_key(sha256: str, number: int) -> str:
    """Return the key of a chunk of a blob."""
    return f"{BUNDLES}{sha256}/{number:05d}"


def utc_now() -> str:
    """Return the wall-clock time as ISO 8601 in UTC, to the millisecond."""
    return utc_text(datetime.now(UTC))


def utc_text(at: datetime) -> str:
    """Return a time in UTC as ISO 8601, to the millisecond."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def exactly(subject: str, names: Sequence[str], value: object) -> dict[str, Any]:
    """Return ``value`` if it is an object with these fields and no others.

    :raises TypeError: it is not; the message is ``subject`` and the names.
    """
    if not isinstance(value, dict) or set(value) != set(names):
        raise TypeError(f"{subject} {', '.join(names)}")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Base of records: reading and writing."""

    def encode(self) -> bytes:
        """Return the record as JSON."""
        value = {"format": FORMAT, **_by_name(self)}
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=_by_name)
        return text.encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a record.

        :raises BundleError: it is no such record, or has a newer format.
        """
        try:
            value = json.loads(data)
            if value.pop("format") != FORMAT:
                raise BundleError(f"{cls.__name__} has a newer format: upgrade ratectl")
            record = cls._build(value)
            record.check()
            return record
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            ArithmeticError,
            RecursionError,
        ) as error:
            raise BundleError(f"not a readable {cls.__name__}: {error}") from None

    def check(self) -> None:
        """Check that ratectl may have written every value.

        :raises TypeError, ValueError: it cannot have written one; the message names it.
        """
        check_fields(self)

    @classmethod
    def _build(cls, value: dict[str, Any]) -> Self:
        known = cls.__dataclass_fields__
        return cls(**{name: item for name, item in value.items() if name in known})


def _by_name(value: object) -> dict[str, Any]:
    """Return the fields of a dataclass by name, without copies: ``asdict`` copies every value.

    :raises TypeError: it is no dataclass.
    """
    if not is_dataclass(value) or isinstance(value, type):
        raise TypeError(f"{value!r:.100} cannot be written as JSON")
    return {name: getattr(value, name) for name in _names(type(value))}


@cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple([field.name for field in fields(kind)])
