"""Content of a page, independent of where it was read: an environment, or one agent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "AgentRow", "Alert", "Fact", "Key", "LimitView", "Minute", "Place", "ScopeView", "Sourced",
    "UsageView", "Value", "View",
]  # fmt: skip

Rates = tuple[float, float, float]
"""Requests per second: in the last seconds, over a minute, over 15 minutes."""


class Fact(NamedTuple):
    """A named fact in the head of the page."""

    name: str
    text: str


class Alert(NamedTuple):
    """A message at the top of the page."""

    kind: Literal["danger", "warning"]
    title: str
    text: str


class Place(NamedTuple):
    """Origin of a value."""

    who: str
    """The scope, override or exception that sets the value."""
    file: str | None
    """``payments/team.yaml:8:17``; None if the place is not known."""


class Sourced(NamedTuple):
    """A value and its place; None for a default of ratectl."""

    value: str
    place: Place | None


class Value(NamedTuple):
    """One field of a limit: its value in force, and the values that it replaces."""

    name: str
    value: str
    place: Place | None
    """None for a default of ratectl."""
    cap: Sourced | None
    """The cap that lowered it; ``place`` is then that of the value asked for."""
    asked: str | None
    over: tuple[Sourced, ...]
    """Values that it replaces, nearest first."""


class Key(NamedTuple):
    """A busy or refused key, and the number of its requests or refusals."""

    key: str
    number: int
    error: int
    """Part of the number that may be other keys'."""
    use: float | None = None
    """Use of its fullest bucket, 0 to 1; None if unknown."""


class Minute(NamedTuple):
    """Requests of one minute, and use of the fullest bucket in it."""

    allowed: int
    refused: int
    peak: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageView:
    """Usage of one limit. Counts are of requests since the agents started; None means unknown."""

    agents: int
    peak: float | None
    """Use of the fullest bucket in the last minute, 0 to 1."""
    allowed: int
    refused: int
    never: int
    shadow_refused: int
    waited: int
    absent: int
    keys: int | None
    near_keys: int | None
    rates: Rates | None
    refused_rates: Rates | None
    trend: tuple[Minute, ...]
    """The last 15 minutes, newest last; empty if unknown."""
    busiest: tuple[Key, ...]
    most_refused: tuple[Key, ...]
    shared: str = ""
    """Sentence about a limit that is one for all processes; empty for others."""

    @property
    def all_refused(self) -> int:
        """Requests that were refused, or that the limit in shadow would have refused."""
        return self.refused + self.never + self.shadow_refused

    @property
    def decided(self) -> int:
        return self.allowed + self.all_refused

    @property
    def refused_share(self) -> float | None:
        """Share of requests refused, 0 to 1: of the last 15 minutes, or else of all."""
        if self.rates is not None and self.refused_rates is not None:
            return self.refused_rates[2] / self.rates[2] if self.rates[2] else 0.0
        return self.all_refused / self.decided if self.decided else None


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitView:
    """One limit or budget of a scope, or its buckets that certain overrides select."""

    scope: str
    name: str
    overrides: tuple[str, ...]
    budget: bool
    size: str | None
    """``100/s burst 200``; None if the policies do not have the limit any more."""
    per: tuple[str, ...]
    slots: bool
    """True if it counts requests in progress."""
    mode: str
    """``enforce``, ``shadow`` or ``off``."""
    clipped: bool
    values: tuple[Value, ...]
    """Its fields with their origins; empty if they are not known."""
    usage: UsageView | None
    """None if no agent reports any."""
    silence: str = "No agent reports this limit."
    """Why there is no usage."""
    tip: str = ""
    """Attributes with which ``ratectl explain --live`` shows the limit: `` --attr tier=gold``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeView:
    """One scope and its effective limits."""

    scope: str
    owner: str | None
    description: str | None
    declared: bool
    """False if the policies do not have the scope any more."""
    limits: tuple[LimitView, ...]
    budgets_above: tuple[str, ...] = ()
    """Budgets of scopes above that its requests draw from: ``fleet @ /payments``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRow:
    """One agent of an environment."""

    id: str
    host: str
    generation: int | None
    note: str
    """``behind``, ``candidate`` or nothing."""
    state: str
    error: str | None
    seen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Content of a page."""

    title: str
    subtitle: str
    facts: Sequence[Fact]
    alerts: Sequence[Alert]
    scopes: Sequence[ScopeView]
    agents: Sequence[AgentRow] | None
    """None for the page of one agent."""
    notes: Sequence[str]
    """Remarks at the end of the page."""
    selector: str = ""
    """Options that choose the store, for commands to copy: `` -e production``."""
    live: bool = False
    """True if the page is served: it can be asked for with and without refreshing."""
    refresh: int | None = None
    """Seconds until a browser loads the page again; None for never."""
    most_bytes: int = 4_500_000

    @property
    def one_agent(self) -> bool:
        """True for the page of one agent, False for that of an environment."""
        return self.agents is None
