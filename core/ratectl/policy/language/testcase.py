"""Documents of kind ``PolicyTest`` as pydantic models: timed requests and their expected results.

A test lies beside the policies and is validated with them, but never published: it is not part of
the tree. ``ratectl.testing`` runs it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError, core_schema

from ratectl.policy.language.durations import Duration
from ratectl.policy.language.field_types import (
    UNIT_PATTERN,
    AttributeName,
    LimitName,
    OnError,
    Scope,
    UnitName,
    unique,
)
from ratectl.policy.language.instants import Instant
from ratectl.policy.language.model import LimitFields, _Model
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
"""A Monday at midnight in UTC: days and weeks begin there."""

MAX_TIMES: Final = 1_000_000
"""Maximum number of requests of one step."""

MAX_COST: Final = 10**12
"""Maximum cost of one request, in each unit."""

Reason = Literal["ok", "limited", "never", "shadow", "no_policy"]

_DATE: Final = re.compile(r"\s*\d{4}-")


def _moment(value: object) -> Duration | Instant:
    if isinstance(value, Duration | Instant):
        return value
    date = isinstance(value, str) and _DATE.match(value)
    return Instant.parse(value) if date else Duration.parse(value)


class _MomentType:
    """Field type: a duration since the start of the test, or an instant."""

    def __get_pydantic_core_schema__(self, _source: Any, _handler: Any) -> core_schema.CoreSchema:
        offset = r"^\s*[0-9][0-9_]*(\.[0-9]+)? *[A-Za-zµ]+\s*$"
        return written_as_text(_moment, "moment", rf"{offset}|^\s*[0-9]{{4}}-[0-9]{{2}}-")


class _OrdinalType:
    """Field type: the number of a request, counted from 1, or ``none``."""

    def __get_pydantic_core_schema__(self, _source: Any, _handler: Any) -> core_schema.CoreSchema:
        number = core_schema.int_schema(ge=1, le=MAX_TIMES)
        none = core_schema.literal_schema(["none"])
        return core_schema.no_info_plain_validator_function(
            _ordinal, json_schema_input_schema=core_schema.union_schema([number, none])
        )


class _CostType:
    """Field type: a number of requests, or a mapping of units to numbers."""

    def __get_pydantic_core_schema__(self, _source: Any, _handler: Any) -> core_schema.CoreSchema:
        number = core_schema.int_schema(ge=0, le=MAX_COST)
        unit = core_schema.str_schema(pattern=UNIT_PATTERN)
        units = core_schema.dict_schema(unit, number, min_length=1)
        return core_schema.no_info_plain_validator_function(
            _cost, json_schema_input_schema=core_schema.union_schema([number, units])
        )


def _cost(value: Any) -> object:
    for unit, number in value.items() if isinstance(value, dict) else (("requests", value),):
        whole = isinstance(number, int) and not isinstance(number, bool)
        if not isinstance(unit, str) or not re.fullmatch(UNIT_PATTERN, unit):
            reason = f"{unit!r} cannot name a unit: write a letter, then letters, digits, _ and -"
        elif not whole or not 0 <= number <= MAX_COST:
            of = f" of {unit}" if isinstance(value, dict) else ""
            reason = f"cost{of} must be a whole number from 0 to 10^12, not {number!r}"
        else:
            continue
        raise PydanticCustomError("cost", "{reason}", {"reason": reason[:200]})
    if value == {}:
        raise PydanticCustomError("cost", "cost is empty")
    return value


def _ordinal(value: object) -> object:
    number = isinstance(value, int) and not isinstance(value, bool)
    if value == "none" or (number and 1 <= value <= MAX_TIMES):  # type: ignore[operator]
        return value
    raise PydanticCustomError("ordinal", "must be a number from 1, or none")


Moment = Annotated[Duration | Instant, _MomentType()]
Ordinal = Annotated[int | Literal["none"], _OrdinalType()]
Count = Annotated[int, Field(ge=0, le=MAX_TIMES)]
Amount = Annotated[int, Field(ge=0, le=MAX_COST)]
Cost = Annotated[int | dict[str, int], _CostType()]


class Expectation(_Model):
    """Expected result of the requests of a step.

    ``reason`` and the fields after it describe one decision: the first refusal, or the last
    decision if nothing was refused.
    """

    allowed: Count | None = Field(
        None, description="Number of requests of the step that pass.", examples=[600]
    )
    first_refused: Ordinal | None = Field(
        None,
        description="The first request that is refused, counted from 1; or none.",
        examples=[601, "none"],
    )
    shadow: Count | None = Field(
        None,
        description="Number of requests that pass although a limit in shadow would refuse them.",
        examples=[0],
    )
    reason: Reason | None = Field(
        None,
        description="Reason of the first refusal, or of the last decision if nothing is refused: "
        "ok, limited (not now), never (waiting does not help), shadow, no_policy.",
        examples=["limited"],
    )
    limit: LimitName | None = Field(
        None,
        description="The limit or budget that decided: the one that refused, or the one with the "
        "least remaining, as a share of its capacity.",
        examples=["spike"],
    )
    scope: Scope | None = Field(
        None, description="The scope of the bucket that decided.", examples=["/payments/checkout"]
    )
    retry_after: Duration | None = Field(
        None,
        description="Time that the refused request would have to wait, exact to the nanosecond; "
        "0s if it is allowed.",
        examples=["2.5ms", "0s"],
    )
    unit: UnitName | None = Field(
        None, description="What the limit that decided counts.", examples=["tokens"]
    )
    remaining: Amount | None = Field(
        None, description="The cost that the limit that decided still admits at once.", examples=[0]
    )
    reset_after: Duration | None = Field(
        None, description="Time until the bucket that decided is full again.", examples=["2.4s"]
    )


class BudgetInForce(LimitFields):
    """Expected fields of a budget; only fields that are written are compared."""

    scope: Scope | None = Field(
        None,
        description="The scope of the budget, if several scopes above have one of this name.",
        examples=["/payments"],
    )


class Effective(_Model):
    """Expected policy in force for a request; only fields that are written are compared."""

    declared_scope: Scope | None = Field(
        None,
        description="The scope of the document that applies: the nearest declared one.",
        examples=["/payments"],
    )
    on_error: OnError | None = Field(
        None, description="The answer when the limiter itself fails.", examples=["deny"]
    )
    limits: dict[LimitName, LimitFields] = Field(
        default_factory=dict,
        description="Values in force, after overrides and caps. Rates of token buckets are equal "
        "if their pace is (60/min is 1/s), those of windows if count and window are.",
        examples=[{"spike": {"rate": "10/s", "burst": 20}}],
    )
    budgets: dict[LimitName, BudgetInForce] = Field(
        default_factory=dict,
        description="Values of budgets on the path in force.",
        examples=[{"fleet": {"scope": "/payments", "rate": "5000/s"}}],
    )
    absent: Annotated[tuple[LimitName, ...], AfterValidator(unique), Field(strict=False)] = Field(
        (), description="Limits that are not in force here.", examples=[["hourly"]]
    )


class Step(_Model):
    """Requests, or a look at the policy in force, at one time."""

    at: Moment | None = Field(
        None,
        description="Time of the first request: a duration since the start, or a time and zone. "
        "Never before the last request of the step above, which is the default.",
        examples=["0s", "1.5min", "2026-11-28T12:00:00+01:00"],
    )
    scope: Scope = Field(
        description="The scope of the requests; it need not be declared.",
        examples=["/payments/checkout"],
    )
    attributes: dict[AttributeName, Annotated[str, Field(max_length=10_000)]] = Field(
        default_factory=dict,
        description="Attributes of the requests: text, so numbers are quoted.",
        examples=[{"client": "acme", "merchant": "17"}],
    )
    cost: Cost = Field(
        1,
        description="Cost of each request: a number of requests, or a cost in each unit, which "
        "also counts one request. 0 looks without consuming.",
        examples=[1, {"tokens": 4000}],
    )
    times: Annotated[int, Field(ge=1, le=MAX_TIMES)] = Field(
        1, description="Number of requests, one after the other.", examples=[601]
    )
    every: Duration | None = Field(
        None,
        description="Time from one request to the next. Default: all at the same instant.",
        examples=["10ms"],
    )
    expect: Expectation | None = Field(
        None,
        description="Expected result of the requests. Without it they are only sent.",
        examples=[{"allowed": 600, "limit": "spike"}],
    )
    effective: Effective | None = Field(
        None,
        description="Expected policy in force for such a request; none is sent.",
        examples=[{"limits": {"spike": {"rate": "10/s"}}, "absent": ["hourly"]}],
    )

    @property
    def last_ns(self) -> int:
        """Nanoseconds from the first request to the last."""
        return (self.times - 1) * self.every.ns if self.every else 0


class PolicyTest(_Model):
    """Test of the policies beside it. It begins with full buckets; time is virtual."""

    name: Annotated[str, Field(min_length=1, max_length=200)] = Field(
        description="Name of the test, unique; --run selects by it.",
        examples=["a burst of 600 passes at the checkout"],
    )
    description: Annotated[str, Field(max_length=1000)] | None = Field(
        None, description="For people.", examples=["The burst that was promised for the sale."]
    )
    start: Instant = Field(
        DEFAULT_START,
        description=f"Time at which the test begins, with a zone. Default: {DEFAULT_START}, a "
        "Monday.",
        examples=["2026-11-28T12:00:00Z"],
    )
    steps: Annotated[tuple[Step, ...], Field(strict=False, min_length=1, max_length=1000)] = Field(
        description="The steps, in order of time.",
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
        """Return the time at which each step begins, in nanoseconds since 1970."""
        times: list[int] = []
        after = self.start.ns
        for step in self.steps:
            at = step.at
            begins = after if at is None else at.ns
            if isinstance(at, Duration):
                begins += self.start.ns
            times.append(begins)
            after = begins + step.last_ns
        return times


@dataclass(frozen=True, slots=True)
class WrittenTest:
    """Test with the places of its parts."""

    test: PolicyTest
    source: SourceMap

    def span(self, path: str = "") -> Span:
        """Return the place of a part, like ``steps.0.expect.allowed``."""
        return self.source.span(path)
