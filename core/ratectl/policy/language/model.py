"""The policy language as pydantic models: the only definition of its fields and bounds.

The same models read YAML documents and published bundles, so an agent and ``ratectl validate``
cannot disagree. A field that may be inherited is optional: None means "not declared here".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ratectl.diagnostics import Span
from ratectl.policy.language.field_types import (
    Absent,
    Across,
    Algorithm,
    AttributeName,
    Burst,
    Consistency,
    Hold,
    LimitName,
    Mode,
    Network,
    OnError,
    Per,
    Precision,
    Scope,
    UnitName,
    unique,
)
from ratectl.policy.language.instants import Instant
from ratectl.policy.language.matchers import Matcher
from ratectl.policy.language.rates import Rate
from ratectl.policy.language.resets import Resets

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "API_VERSION",
    "Cap",
    "Exemption",
    "LimitFields",
    "Match",
    "Override",
    "Policy",
    "PolicyTree",
    "SourceMap",
    "exception_key",
    "with_exceptions",
]

API_VERSION = "ratectl/v1"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class LimitFields(_Model):
    """Fields of one limit in one document; merged field by field along the path."""

    algorithm: Algorithm | None = Field(
        None,
        description="token-bucket (bursts, then a steady pace), sliding-window (never more than n "
        "in any window), quota (at most n in each calendar window) or concurrency (at most max at "
        "the same time). Inherited. Default: token-bucket.",
        examples=["sliding-window"],
    )
    rate: Rate | None = Field(
        None,
        description="<number>/<duration> with s, min, h, day, week (and month, for quotas); 0/s "
        "refuses all, unlimited passes all.",
        examples=["100/s", "50/30s", "0.5/s", "500_000/day"],
    )
    burst: Burst | None = Field(
        None,
        description="Requests admitted at once from a full bucket: the total, not an extra. "
        "Default: the rate per second, rounded up, at least 1. Token-bucket only.",
        examples=[200],
    )
    max: Burst | None = Field(
        None,
        description="Maximum number of requests in progress: admitted and not yet released. "
        "Concurrency only.",
        examples=[50],
    )
    hold: Hold | None = Field(
        None,
        description="How long an unreleased slot is held: longer than any request should take. "
        "Default: 60s. Concurrency only.",
        examples=["60s", "1.5min", "2h"],
    )
    per: Per | None = Field(
        None,
        description="Attributes the limit is counted by: one bucket for each combination of "
        "their values. [] counts everything in one bucket.",
        examples=["tenant", ["tenant", "route"]],
    )
    absent: Absent | None = Field(
        None,
        description="What happens to requests that lack an attribute of per: share (default): they "
        "share one bucket; skip: the limit does not apply to them. Not for budgets.",
        examples=["skip"],
    )
    mode: Mode | None = Field(
        None,
        description="enforce (default), shadow (evaluated and counted, never refused) or off.",
        examples=["shadow"],
    )
    resets: Resets | None = Field(
        None,
        description="When a quota's window begins: a time of day and a zone, with a weekday "
        "(weeks) or a day of the month (months) before it. Default: midnight UTC, Monday, the "
        "first. Quota only.",
        examples=["00:00 Europe/Berlin", "Mon 06:00 UTC", "31 00:00 UTC"],
    )
    precision: Precision | None = Field(
        None,
        description="Cells in which a window counts, 24 to 128: exactly if it holds no more than "
        "two thirds as many instants, otherwise it may refuse up to n/24 to n/128 requests early. "
        "Default: 24. Sliding-window only.",
        examples=[128],
    )
    unit: UnitName | None = Field(
        None,
        description="What it counts: a limit of tokens takes the tokens that a request costs, and "
        "does not apply to requests whose cost names no tokens. Default: requests.",
        examples=["tokens", "bytes"],
    )
    across: Across | None = Field(
        None,
        description="One limit for all agents together, instead of one in each. cluster: agents "
        "share it among themselves; redis: a Valkey or Redis server counts it, and requests ask "
        "with acheck or check_blocking. Quotas and concurrency: redis only.",
        examples=["cluster", "redis"],
    )
    consistency: Consistency | None = Field(
        None,
        description="How exactly agents share a limit with across: cluster. strict (default): "
        "never more than the limit. optimistic: up to two requests more for each agent, so that "
        "small limits of many agents are used in full.",
        examples=["optimistic"],
    )


class Cap(_Model):
    """Upper bound for the limit of this name, in this scope and every scope below."""

    rate: Rate | None = Field(
        None, description="Fastest pace, compared per second.", examples=["400/s"]
    )
    burst: Burst | None = Field(
        None,
        description="Largest burst; for windows, largest count; for concurrency, largest max.",
        examples=[1000],
    )


Match = Annotated[dict[AttributeName, Matcher], Field(min_length=1, max_length=16)]


class Override(_Model):
    """Limits and caps of a scope for the requests whose attributes match."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["limits"]}, {"required": ["caps"]}]}
    )

    name: LimitName = Field(
        description="Name of the override in explanations and in usage; unique in its document.",
        examples=["gold"],
    )
    description: Annotated[str, Field(max_length=1000)] | None = Field(
        None, description="For people.", examples=["Customers who pay for more"]
    )
    match: Match = Field(
        description="The requests that it is for: a matcher for each attribute, and all must hold. "
        "A value, a list of values (any of), a glob with *, {not: …}, {cidr: …} or {exists: true}.",
        examples=[{"tier": ["gold", "platinum"], "route": "/v1/*"}],
    )
    limits: dict[LimitName, LimitFields] = Field(
        default_factory=dict,
        description="Merged over the limits, field by field.",
        examples=[{"spike": {"rate": "400/s", "burst": 800}}],
    )
    caps: dict[LimitName, Cap] = Field(
        default_factory=dict,
        description="Caps for these requests, in this scope and every scope below: a larger value "
        "is clipped, and is no error.",
        examples=[{"spike": {"rate": "5/s"}}],
    )

    @model_validator(mode="after")
    def _sets_something(self) -> Override:
        if not self.limits and not self.caps:
            raise PydanticCustomError("sets_nothing", "it sets nothing")
        return self


def _unique_overrides(overrides: tuple[Override, ...]) -> tuple[Override, ...]:
    unique(tuple(override.name for override in overrides))
    return overrides


class Policy(_Model):
    """Document of kind ``Policy``: limits, caps and budgets of one scope; one for each scope."""

    scope: Scope = Field(
        description="The scope: / or a path.", examples=["/", "/payments/checkout"]
    )
    description: Annotated[str, Field(max_length=1000)] | None = Field(
        None, description="For people.", examples=["Card and wallet payments"]
    )
    owner: Annotated[str, Field(max_length=200)] | None = Field(
        None, description="Who is responsible for this scope.", examples=["team-payments"]
    )
    on_error: OnError | None = Field(
        None,
        description="The answer to a request when the limiter itself fails: allow (default) "
        "or deny. Inherited.",
        examples=["deny"],
    )
    protected: bool | None = Field(
        None, description="A change of this scope needs --allow-protected REASON.", examples=[True]
    )
    unset: Annotated[tuple[LimitName, ...], AfterValidator(unique), Field(strict=False)] = Field(
        (), description="Limits to stop inheriting here and below.", examples=[["nightly"]]
    )
    limits: dict[LimitName, LimitFields] = Field(
        default_factory=dict,
        description="Inherited by every scope below, merged field by field.",
        examples=[{"spike": {"rate": "100/s", "burst": 200, "per": "tenant"}}],
    )
    caps: dict[LimitName, Cap] = Field(
        default_factory=dict,
        description="Caps on limits, in this scope and every scope below.",
        examples=[{"spike": {"rate": "400/s", "burst": 1000}}],
    )
    budgets: dict[LimitName, LimitFields] = Field(
        default_factory=dict,
        description="One bucket for this whole subtree: every request at or below this scope "
        "draws from it as well. Not inherited, unset, capped or overridden.",
        examples=[{"fleet": {"rate": "5000/s", "burst": 10000}}],
    )
    overrides: Annotated[
        tuple[Override, ...],
        AfterValidator(_unique_overrides),
        Field(strict=False, max_length=10_000),
    ] = Field(
        (),
        description="Other limits for requests that match. Every override that matches applies, "
        "in this order; inherited by every scope below.",
        examples=[
            [{"name": "gold", "match": {"tier": "gold"}, "limits": {"spike": {"rate": "400/s"}}}]
        ],
    )
    trusted_proxies: Annotated[tuple[Network, ...], Field(strict=False, max_length=256)] | None = (
        Field(
            None,
            description="Networks of the proxies that are trusted to report the address of a "
            "client, for limits that count per ip. Inherited.",
            examples=[["10.0.0.0/8", "2001:db8::/32"]],
        )
    )


class Exemption(_Model):
    """Document of kind ``Exception``: other limits for a time; it ends by itself."""

    scope: Scope = Field(description="The scope; it must be declared.", examples=["/payments"])
    reason: Annotated[str, Field(min_length=1, max_length=1000)] = Field(
        description="The reason, for people.", examples=["CHG-8841 black friday"]
    )
    owner: Annotated[str, Field(max_length=200)] | None = Field(
        None, description="Who is responsible for it.", examples=["team-payments"]
    )
    begins: Instant | None = Field(
        None,
        alias="from",
        description="The instant at which it begins, with its zone. Default: at once.",
        examples=["2026-11-27T00:00+01:00"],
    )
    until: Instant = Field(
        description="The instant at which it ends, with its zone.",
        examples=["2026-11-30T00:00+01:00"],
    )
    match: Match | None = Field(
        None,
        description="The requests that it is for; default: all of the scope. Only attributes that "
        "the limits count per, or that an override of these limits matches on.",
        examples=[{"tenant": "acme"}],
    )
    limits: dict[LimitName, LimitFields] = Field(
        default_factory=dict,
        description="Merged over the limits in force at the scope and below, field by field.",
        examples=[{"spike": {"rate": "300/s"}}],
    )
    budgets: dict[LimitName, LimitFields] = Field(
        default_factory=dict,
        description="Merged over the budgets of this scope itself, field by field.",
        examples=[{"fleet": {"rate": "8000/s"}}],
    )

    @property
    def ref(self) -> str:
        """Name of the exception in explanations of a bucket or a value."""
        return f"exception@{self.scope} until {self.until}"

    def active(self, now_ns: int) -> bool:
        """Return True if it is in force at this instant of the wall clock."""
        began = self.begins is None or self.begins.ns <= now_ns
        return began and now_ns < self.until.ns


@dataclass(frozen=True, slots=True)
class SourceMap:
    """Places of the values of one document.

    ``at["limits.spike.rate"] == (12, 24, 29)``: line, column and end column of the value
    (of the key, where the value is a mapping). ``at[""]`` is the document's start.
    """

    file: str
    at: Mapping[str, tuple[int, int, int]]

    def span(self, path: str) -> Span:
        """Return the place of a field, or of the nearest field that contains it."""
        while path not in self.at and path:
            path = path.rpartition(".")[0]
        return Span(self.file, *self.at.get(path, (1, 1, 1)))


@dataclass(frozen=True, slots=True)
class PolicyTree:
    """Policies by scope, and exceptions: the content of a generation.

    The order of policies does not matter; exceptions have a canonical order. ``sources`` has the
    places of policies by scope, and of exceptions by ``exception_key``. Any may be missing (a tree
    built in memory, or a bundle without its origins).
    """

    policies: Mapping[str, Policy]
    sources: Mapping[str, SourceMap] = field(default_factory=dict)
    exceptions: tuple[Exemption, ...] = ()

    def units(self) -> set[str]:
        """Return the units that limits and budgets name, at any scope and in any override."""
        return {fields.unit for fields in self.declared() if fields.unit}

    def is_shared(self) -> bool:
        """Return True if a limit or budget, at any scope, is one for the whole cluster."""
        return any(fields.across == "cluster" for fields in self.declared())

    def declared(self) -> Iterator[LimitFields]:
        for policy in self.policies.values():
            yield from policy.limits.values()
            yield from policy.budgets.values()
            for override in policy.overrides:
                yield from override.limits.values()

    def next_change(self, now_ns: int) -> int | None:
        """Return the next instant at which an exception begins or ends; None for never."""
        instants = [
            at.ns
            for exception in self.exceptions
            for at in (exception.begins, exception.until)
            if at is not None
        ]
        return min((ns for ns in instants if ns > now_ns), default=None)

    def span(self, scope: str, path: str = "") -> Span:
        """Return the place of a field of the document of ``scope``; only its name if unknown."""
        source = self.sources.get(scope)
        return source.span(path) if source else Span(f"<{scope}>")


def with_exceptions(
    tree: PolicyTree, exceptions: Iterable[tuple[Exemption, SourceMap | None]]
) -> PolicyTree:
    """Return the tree with these exceptions, in canonical order."""
    ordered = sorted(exceptions, key=lambda pair: pair[0].model_dump_json(by_alias=True))
    sources = {
        exception_key(position): source
        for position, (_, source) in enumerate(ordered)
        if source is not None
    }
    return PolicyTree(
        tree.policies, {**tree.sources, **sources}, tuple(exception for exception, _ in ordered)
    )


def exception_key(position: int) -> str:
    """Return the key of an exception in ``PolicyTree.sources``, by position; no scope has it."""
    return f"exception {position}"
