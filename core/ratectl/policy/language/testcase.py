"""Documents of kind ``PolicyTest`` as pydantic models: requests at times, and what is expected.

A test stands beside the policies and is validated with them, but never published: it is no part of
the tree. ``ratectl.testing`` runs it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError, core_schema

from ratectl.policy.language.durations import Duration
from ratectl.policy.language.instants import Instant
from ratectl.policy.language.model import (
    AttributeName,
    LimitFields,
    LimitName,
    OnError,
    Scope,
    _Model,
    _unique,
)
from ratectl.policy.language.rates import written_as_text

if TYPE_CHECKING:
    from ratectl.diagnostics import Span
    from ratectl.policy.language.model import SourceMap

__all__ = [
    "DEFAULT_START",
    "MAX_TIMES",
    "BudgetInForce",
    "Effective",
    "Expectation",
    "PolicyTest",
    "Reason",
    "Step",
    "WrittenTest",
]

DEFAULT_START: Final = Instant.parse("2026-01-05T00:00Z")
"""A Monday, at midnight in UTC, where days and weeks begin."""

MAX_TIMES: Final = 1_000_000
"""Requests of one step."""

Reason = Literal["ok", "limited", "never", "shadow", "no_policy"]

_DATE: Final = re.compile(r"\s*\d{4}-")


def _moment(value: object) -> Duration | Instant:
    if isinstance(value, Duration | Instant):
        return value
    date = isinstance(value, str) and _DATE.match(value)
    return Instant.parse(value) if date else Duration.parse(value)


class _MomentType:
    """A duration since the start of the test, or an instant."""

    def __get_pydantic_core_schema__(self, _source: Any, _handler: Any) -> core_schema.CoreSchema:
        offset = r"^\s*[0-9][0-9_]*(\.[0-9]+)? *[A-Za-zµ]+\s*$"
        return written_as_text(_moment, "moment", rf"{offset}|^\s*[0-9]{{4}}-[0-9]{{2}}-")


class _OrdinalType:
    """Which one, counted from 1, or ``none``."""

    def __get_pydantic_core_schema__(self, _source: Any, _handler: Any) -> core_schema.CoreSchema:
        number = core_schema.int_schema(ge=1, le=MAX_TIMES)
        none = core_schema.literal_schema(["none"])
        return core_schema.no_info_plain_validator_function(
            _ordinal, json_schema_input_schema=core_schema.union_schema([number, none])
        )


def _ordinal(value: object) -> object:
    number = isinstance(value, int) and not isinstance(value, bool)
    if value == "none" or (number and 1 <= value <= MAX_TIMES):  # type: ignore[operator]
        return value
    raise PydanticCustomError("ordinal", "must be a number from 1, or none")


Moment = Annotated[Duration | Instant, _MomentType()]
Ordinal = Annotated[int | Literal["none"], _OrdinalType()]
Count = Annotated[int, Field(ge=0, le=MAX_TIMES)]
Cost = Annotated[int, Field(ge=0, le=10**12)]


class Expectation(_Model):
    """What becomes of a step's requests. ``limit`` and all below it speak of the decision that
    matters: the first refusal, or the last decision where nothing was refused."""

    allowed: Count | None = Field(
        None, description="How many of the step's requests pass.", examples=[600]
    )
    first_refused: Ordinal | None = Field(
        None,
        description="Which of them is the first that is refused, counted from 1; or none.",
        examples=[601, "none"],
    )
    shadow: Count | None = Field(
        None,
        description="How many of them pass although a limit in shadow would have refused them.",
        examples=[0],
    )
    reason: Reason | None = Field(
        None,
        description="Of the first refusal, or of the last decision where nothing is refused: ok, "
        "limited (not now), never (no waiting helps), shadow, no_policy.",
        examples=["limited"],
    )
    limit: LimitName | None = Field(
        None,
        description="The limit or budget that decided: the one that refused, or the one with the "
        "least remaining.",
        examples=["spike"],
    )
    scope: Scope | None = Field(
        None, description="The scope whose bucket decided.", examples=["/payments/checkout"]
    )
    retry_after: Duration | None = Field(
        None,
        description="How long the refused request would have to wait, exact to the nanosecond; "
        "0s where it is allowed.",
        examples=["2.5ms", "0s"],
    )
    remaining: Cost | None = Field(
        None, description="What the limit that decided still admits at once.", examples=[0]
    )
    reset_after: Duration | None = Field(
        None, description="How long until its bucket is full again.", examples=["2.4s"]
    )


class BudgetInForce(LimitFields):
    """What a budget is to be: only the fields that are written are compared."""

    scope: Scope | None = Field(
        None,
        description="Whose budget, where several scopes above have one of this name.",
        examples=["/payments"],
    )


class Effective(_Model):
    """What is to hold for a request. Only what is written is compared."""

    declared_scope: Scope | None = Field(
        None,
        description="The scope whose document governs: the nearest declared one.",
        examples=["/payments"],
    )
    on_error: OnError | None = Field(
        None, description="What a failure of the limiter itself does.", examples=["deny"]
    )
    limits: dict[LimitName, LimitFields] = Field(
        default_factory=dict,
        description="Values in force, after overrides and caps. Rates of token buckets are equal "
        "if their pace is (60/min is 1/s), those of windows if count and window are.",
        examples=[{"spike": {"rate": "10/s", "burst": 20}}],
    )
    budgets: dict[LimitName, BudgetInForce] = Field(
        default_factory=dict,
        description="The same of budgets on the path.",
        examples=[{"fleet": {"scope": "/payments", "rate": "5000/s"}}],
    )
    absent: Annotated[tuple[LimitName, ...], AfterValidator(_unique), Field(strict=False)] = Field(
        (), description="Limits that do not hold here.", examples=[["hourly"]]
    )


class Step(_Model):
    """Requests, or a look at what is in force, at one time."""

    at: Moment | None = Field(
        None,
        description="When: a duration since the start, or a time with its zone. Never before the "
        "last request of the step above, which is also the default.",
        examples=["0s", "1.5min", "2026-11-28T12:00:00+01:00"],
    )
    scope: Scope = Field(
        description="What the requests are for; it need not be declared.",
        examples=["/payments/checkout"],
    )
    attributes: dict[AttributeName, Annotated[str, Field(max_length=10_000)]] = Field(
        default_factory=dict,
        description="What the requests are: text, so numbers are quoted.",
        examples=[{"client": "acme", "merchant": "17"}],
    )
    cost: Cost = Field(
        1, description="What each request takes; 0 looks without taking.", examples=[1]
    )
    times: Annotated[int, Field(ge=1, le=MAX_TIMES)] = Field(
        1, description="How many requests, one after the other.", examples=[601]
    )
    every: Duration | None = Field(
        None,
        description="Time from one request to the next. Default: all at the same instant.",
        examples=["10ms"],
    )
    expect: Expectation | None = Field(
        None,
        description="What becomes of the requests. Without it they are only sent.",
        examples=[{"allowed": 600, "limit": "spike"}],
    )
    effective: Effective | None = Field(
        None,
        description="What holds for such a request, instead of sending any.",
        examples=[{"limits": {"spike": {"rate": "10/s"}}, "absent": ["hourly"]}],
    )

    @property
    def last_ns(self) -> int:
        """From the first request to the last."""
        return (self.times - 1) * self.every.ns if self.every else 0


class PolicyTest(_Model):
    """A test of the policies beside it. It begins with full buckets; time is virtual."""

    name: Annotated[str, Field(min_length=1, max_length=200)] = Field(
        description="What is tested; unique, and what --run selects by.",
        examples=["a burst of 600 passes at the checkout"],
    )
    description: Annotated[str, Field(max_length=1000)] | None = Field(
        None, description="For people.", examples=["The burst that was promised for the sale."]
    )
    start: Instant = Field(
        DEFAULT_START,
        description=f"When the test begins, with a zone. Default: {DEFAULT_START}, a Monday.",
        examples=["2026-11-28T12:00:00Z"],
    )
    steps: Annotated[tuple[Step, ...], Field(strict=False, min_length=1, max_length=1000)] = Field(
        description="What happens, in order of time.",
        examples=[
            [
                {
                    "scope": "/payments/checkout",
                    "attributes": {"client": "acme"},
                    "times": 601,
                    "expect": {"allowed": 600, "limit": "spike"},
                }
            ]
        ],
    )

    def times_ns(self) -> list[int]:
        """When each step begins."""
        found: list[int] = []
        after = self.start.ns
        for step in self.steps:
            at = step.at
            begins = after if at is None else at.ns
            if isinstance(at, Duration):
                begins += self.start.ns
            found.append(begins)
            after = begins + step.last_ns
        return found


@dataclass(frozen=True, slots=True)
class WrittenTest:
    """A test and where each part of it was written."""

    test: PolicyTest
    source: SourceMap

    def span(self, path: str = "") -> Span:
        """The place of a part, like ``steps.0.expect.allowed``."""
        return self.source.span(path)
