"""Keys, and how every record is read and written."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
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
    "ROLLOUTS",
    "USAGE",
    "Record",
    "chunk_key",
    "exactly",
    "history_key",
    "rollout_key",
    "utc_now",
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

FORMAT = 1


def history_key(generation: int) -> str:
    """Padded, so that keys sort as numbers."""
    return f"{HISTORY}{generation:010d}"


def rollout_key(generation: int) -> str:
    """Of the rollout that tries this generation."""
    return f"{ROLLOUTS}{generation:010d}"


def chunk_key(sha256: str, number: int) -> str:
    return f"{BUNDLES}{sha256}/{number:05d}"


def utc_now() -> str:
    """Wall-clock time as ISO 8601 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def exactly(said: str, names: Sequence[str], value: object) -> dict[str, Any]:
    """``value``, which is to have these fields and no others.

    :raises TypeError: it has others; ``said`` begins the message, which ends with the names.
    """
    if not isinstance(value, dict) or set(value) != set(names):
        raise TypeError(f"{said} {', '.join(names)}")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Common reading and writing of records."""

    def encode(self) -> bytes:
        value = {"format": FORMAT, **asdict(self)}
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a record.

        :raises BundleError: not such a record, or of a newer format.
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
        """Return if every value may be one that an honest writer wrote.

        :raises TypeError, ValueError: one may not; the message names it.
        """
        check_fields(self)

    @classmethod
    def _build(cls, value: dict[str, Any]) -> Self:
        known = cls.__dataclass_fields__
        return cls(**{name: item for name, item in value.items() if name in known})
