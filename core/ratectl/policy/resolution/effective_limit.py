"""One limit or budget in force at a scope, and the origin of each of its values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ratectl.policy import codes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ratectl.policy.language.durations import Duration
    from ratectl.policy.language.rates import Rate
    from ratectl.policy.language.resets import Resets

__all__ = [
    "BUILT_IN", "DEFAULT_ABSENT", "DEFAULT_CONSISTENCY", "DEFAULT_UNIT", "Clip", "Limit", "Problem",
    "Setting", "Via", "month_problem",
]  # fmt: skip

BUILT_IN: Final = ""
"""Stands for the scope of a value that no document sets: a default of ratectl."""

DEFAULT_UNIT: Final = "requests"
"""Unit of limits that name no other."""

DEFAULT_CONSISTENCY: Final = "strict"

DEFAULT_ABSENT: Final = "share"
"""What happens to requests that lack an attribute of ``per``."""


class Via(NamedTuple):
    """Override or exception that set a value."""

    ref: str
    """Name: ``gold@/payments``."""
    scope: str
    source: str
    """Document: a key of ``PolicyTree.sources``."""
    path: str
    """Path of the override in its document, a prefix of the field's path."""
    exception: bool
    bit: int | None
    """Number among the conditions of the path; None if it holds for every request."""


class Setting(NamedTuple):
    """A value with the scope and the override that set it, and the setting that it replaced."""

    value: Any
    scope: str
    over: Setting | None = None
    via: Via | None = None

    def history(self) -> Iterator[Setting]:
        """Yield this setting, then each one that it replaced, nearest first."""
        setting: Setting | None = self
        while setting is not None:
            yield setting
            setting = setting.over


class Clip(NamedTuple):
    """A value lowered by a cap: the value asked for, the value in force, and the cap."""

    asked: Any
    value: Any
    cap: Setting

    @property
    def field(self) -> str:
        """Field of the cap: ``burst`` also bounds windows and slots."""
        return "burst" if isinstance(self.cap.value, int) else "rate"


class Problem(NamedTuple):
    """Reason why a limit cannot be used: a finding's code, the field at fault, and the texts."""

    code: str
    field: str
    message: str
    hint: str


class Limit(NamedTuple):
    """A limit or budget in force at a scope. ``rate``, ``burst`` and ``max`` are after caps.

    Parameters that the algorithm lacks are None; so is the ``burst`` of an unlimited rate.
    """

    name: str
    algorithm: str
    rate: Rate | None
    burst: int | None
    per: tuple[str, ...]
    mode: str
    resets: Resets | None
    across: str | None
    settings: Mapping[str, Setting]
    clips: Mapping[str, Clip]
    touched: tuple[str, ...] = ()
    """Conditions that select its bucket: the ones that set its fields, in their order."""
    max: int | None = None
    hold: Duration | None = None
    precision: int | None = None
    unit: str = DEFAULT_UNIT
    absent: str = DEFAULT_ABSENT
    consistency: str = DEFAULT_CONSISTENCY

    @property
    def unlimited(self) -> bool:
        """True if it admits every request."""
        return self.rate is not None and self.rate.unlimited

    @property
    def is_shared(self) -> bool:
        """True if it is one limit for all processes that follow a store."""
        return self.across == "cluster" and self.mode != "off" and not self.unlimited


def month_problem(rate: Rate) -> Problem:
    """Return why a rate per month is no rate of a bucket or window of fixed length."""
    count = str(rate).partition("/")[0]
    return Problem(
        codes.MISFIT,
        "rate",
        "a month has no fixed length, so no bucket or window can follow it",
        f"write a number of days, like {count}/30day, or use algorithm: quota",
    )
