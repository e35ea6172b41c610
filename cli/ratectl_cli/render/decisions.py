"""Decisions of an engine, as text and as data."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from ratectl.engine.cost import REQUESTS
from ratectl.policy.language.labels import bucket_label
from ratectl_cli.framework.text import Aligned, Styled, bold, paragraph, plural
from ratectl_cli.render.times import wait

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ratectl.engine.cost import Cost
    from ratectl.engine.decision import Decision
    from ratectl_cli.framework.text import Block, Piece

    Overrides = Mapping[tuple[str, str], tuple[str, ...]]
    """Overrides that give a request its limits, by scope and name of each limit."""

__all__ = ["decisions_blocks", "decisions_data"]

_LISTED: Final = 20
"""More decisions than these are summed up."""


def decisions_data(decisions: Sequence[Decision], overrides: Overrides) -> dict[str, Any]:
    """Return decisions for programs: counts, the first refusal, and each decision if few."""
    allowed = sum(1 for decision in decisions if decision)
    first = next((at for at, decision in enumerate(decisions, 1) if not decision), None)
    listed = decisions if len(decisions) <= _LISTED else ()
    return {
        "allowed": allowed,
        "refused": len(decisions) - allowed,
        "first_refused": first,
        "reasons": dict(Counter(decision.reason for decision in decisions)),
        "decisions": [_decision_data(decision, overrides) for decision in listed],
        "last": _decision_data(decisions[-1], overrides),
    }


def _decision_data(decision: Decision, overrides: Overrides) -> dict[str, Any]:
    return {
        "allowed": decision.allowed,
        "reason": decision.reason,
        "limit": decision.limit,
        "scope": decision.scope,
        "overrides": list(_overrides_of(decision, overrides)),
        "unit": decision.unit,
        "capacity": decision.capacity,
        "remaining": decision.remaining,
        "retry_after": decision.retry_after,
        "reset_after": decision.reset_after,
    }


def _overrides_of(decision: Decision, overrides: Overrides) -> tuple[str, ...]:
    return overrides.get((decision.scope or "", decision.limit or ""), ())


def decisions_blocks(
    scope: str, decisions: Sequence[Decision], source: str, overrides: Overrides, cost: Cost
) -> Iterator[Block]:
    """Yield decisions for people; ``source`` names the policies, ``cost`` is that of a request."""
    if len(decisions) == 1:
        yield paragraph([*_verdict(decisions[0], overrides, cost), f" · {source}"])
        return
    if len(decisions) <= _LISTED:
        rows: list[list[Piece]] = [
            [f"{at:>2}", *_words(decision, overrides, cost)]
            for at, decision in enumerate(decisions, 1)
        ]
        yield Aligned(rows)
    allowed = sum(1 for decision in decisions if decision)
    refused = len(decisions) - allowed
    yield paragraph(f"{scope} · {source} · {plural(len(decisions), 'request')}")
    yield [bold("allowed", "green"), f" {allowed}, ", bold("refused", "red"), f" {refused}"]
    first = next((at for at, decision in enumerate(decisions) if not decision), None)
    if first is not None:
        yield paragraph(
            [f"first refused: request {first + 1}, ", *_verdict(decisions[first], overrides, cost)]
        )


def _verdict(decision: Decision, overrides: Overrides, cost: Cost) -> list[Piece]:
    verdict, by, *rest = _words(decision, overrides, cost)
    return [verdict, " ", by, *(piece for word in rest for piece in (", ", word))]


def _words(decision: Decision, overrides: Overrides, cost: Cost) -> list[Piece]:
    """Return the verdict, the limit that decided, and what is left or how long to wait."""
    verdict = bold("allowed", "green") if decision else bold("refused", "red")
    if decision.reason == "no_policy":
        return [verdict, "no policy covers the scope"]
    if decision.limit is None:
        return [verdict, "by no limit"]
    limit = bucket_label(decision.limit, decision.scope or "", _overrides_of(decision, overrides))
    words: list[Piece] = [verdict, f"by {limit} @ {decision.scope}"]
    if decision.reason == "never":
        words.append(f"waiting does not help{_too_much(decision, cost)}")
    elif decision.reason == "limited" and decision.retry_after_ns is None:
        words.append("until a slot is released")
    elif decision.reason == "limited" and decision.retry_after_ns is not None:
        words.append(f"retry after {wait(decision.retry_after_ns)}")
    else:
        unit = "" if decision.unit == REQUESTS else f" {decision.unit}"
        words.append(f"{decision.remaining} of {decision.capacity}{unit} left")
    if decision.reason == "shadow":
        words.append(Styled("SHADOW would refuse", "yellow"))
    return words


def _too_much(decision: Decision, cost: Cost) -> str:
    """Return the reason why waiting does not help, if the cost is more than a full bucket holds."""
    asked = cost if isinstance(cost, int) else cost.get(decision.unit or REQUESTS, 1)
    if decision.capacity is None or asked <= decision.capacity:
        return ""
    return f": the cost is {asked}, and a full bucket has {decision.capacity}"
