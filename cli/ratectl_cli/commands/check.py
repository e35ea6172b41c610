"""``ratectl check``."""

import time
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ratectl_cli.commands.explain import Attributes
from ratectl_cli.framework.session import session_of
from ratectl_cli.framework.text import Styled, aligned, bold, plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ratectl.engine.decision import Decision
    from ratectl_cli.framework.session import Session
    from ratectl_cli.framework.text import Block, Piece

_LISTED = 20
"""More decisions than these are summed up."""


def check(
    ctx: typer.Context,
    scope: Annotated[str, typer.Argument(metavar="SCOPE", help="Such as /payments/checkout.")],
    attr: Attributes = None,
    cost: Annotated[
        int, typer.Option("--cost", metavar="N", min=0, help="Units each request takes; 0 looks.")
    ] = 1,
    times: Annotated[
        int, typer.Option("-n", "--times", metavar="TIMES", min=1, max=1_000_000, help="Requests.")
    ] = 1,
    policies: Annotated[
        str | None,
        typer.Option(
            "--policies", metavar="DIR", help="Decide by these files.  [default: the live ones]"
        ),
    ] = None,
) -> int:
    """Decide requests as an agent would, from here.

    The requests are made one right after the other, in this process, on buckets of its own that
    start full: what agents have counted is neither seen nor touched. Slots of concurrency limits
    are held until the last request is decided.

    Examples:
      ratectl check /payments/checkout --attr client=acme
      ratectl check /web --attr client=203.0.113.7 -n 200 --policies policies/

    Exit codes:
      0   every request was allowed
      1   a request was refused
      64  wrong arguments
      65  invalid policies, or nothing is published
      69  store unreachable
    """
    from ratectl_cli.inputs.policies import attributes_of, scope_of

    session = session_of(ctx)
    scope_of(scope)
    attributes = attributes_of(attr or [])
    with session.busy("reading policies"):
        engine, generation = _engine(session, policies)
    with session.busy("deciding"):
        decisions = [engine.check(scope, attributes, cost) for _ in range(times)]
    data = _data(decisions)
    request = {"scope": scope, "attributes": attributes, "cost": cost, "times": times}
    source = policies or f"generation {generation}"
    named = {"generation": generation, "files": policies}
    session.answer("Check", {**named, **request, **data}, lambda: _blocks(scope, decisions, source))
    return 0 if all(decisions) else 1


def _engine(session: "Session", policies: str | None) -> tuple[Any, int | None]:
    """An engine that runs the policies, and their generation."""
    from ratectl.agent.wall_clock import WallClock
    from ratectl.compiler.activation import activate_tree
    from ratectl.engine import open_engine
    from ratectl.history.trees import live_tree
    from ratectl_cli.inputs.policies import read_valid
    from ratectl_cli.render.times import now_ns

    generation: int | None = None
    if policies is not None:
        tree = read_valid([policies]).tree
    else:
        with session.store() as store:
            generation, tree = live_tree(store)
    engine = open_engine(time.monotonic_ns)
    engine.swap(activate_tree(tree, generation or 1, WallClock(), now_ns()))
    return engine, generation


def _data(decisions: "Sequence[Decision]") -> dict[str, Any]:
    allowed = sum(1 for decision in decisions if decision)
    first = next((at for at, decision in enumerate(decisions, 1) if not decision), None)
    listed = decisions if len(decisions) <= _LISTED else ()
    return {
        "allowed": allowed,
        "refused": len(decisions) - allowed,
        "first_refused": first,
        "reasons": dict(Counter(decision.reason for decision in decisions)),
        "decisions": [_decision(decision) for decision in listed],
        "last": _decision(decisions[-1]),
    }


def _decision(decision: "Decision") -> dict[str, Any]:
    return {
        "allowed": decision.allowed,
        "reason": decision.reason,
        "limit": decision.limit,
        "scope": decision.scope,
        "capacity": decision.capacity,
        "remaining": decision.remaining,
        "retry_after": decision.retry_after,
        "reset_after": decision.reset_after,
    }


def _blocks(scope: str, decisions: "Sequence[Decision]", source: str) -> "Iterator[Block]":
    if len(decisions) == 1:
        yield [*_verdict(decisions[0]), f" · {source}"]
        return
    if len(decisions) <= _LISTED:
        rows: list[list[Piece]] = [
            [f"{at:>2}", *_words(decision)] for at, decision in enumerate(decisions, 1)
        ]
        yield from aligned(rows)
    allowed = sum(1 for decision in decisions if decision)
    refused = len(decisions) - allowed
    yield f"{scope} · {source} · {plural(len(decisions), 'request')}"
    yield [bold("allowed", "green"), f" {allowed}, ", bold("refused", "red"), f" {refused}"]
    first = next((at for at, decision in enumerate(decisions) if not decision), None)
    if first is not None:
        yield [f"first refused: request {first + 1}, ", *_verdict(decisions[first])]


def _verdict(decision: "Decision") -> "list[Piece]":
    verdict, by, *rest = _words(decision)
    return [verdict, " ", by, *(piece for word in rest for piece in (", ", word))]


def _words(decision: "Decision") -> "list[Piece]":
    """The verdict, what decided, and what is left or how long to wait."""
    from ratectl_cli.render.times import wait

    verdict = bold("allowed", "green") if decision else bold("refused", "red")
    if decision.reason == "no_policy":
        return [verdict, "no policy covers the scope"]
    if decision.limit is None:
        return [verdict, "by no limit"]
    words: list[Piece] = [verdict, f"by {decision.limit} @ {decision.scope}"]
    if decision.reason == "never":
        words.append("waiting does not help")
    elif decision.reason == "limited" and decision.retry_after_ns is None:
        words.append("until others release")
    elif decision.reason == "limited" and decision.retry_after_ns is not None:
        words.append(f"retry after {wait(decision.retry_after_ns)}")
    else:
        words.append(f"{decision.remaining} of {decision.capacity} left")
    if decision.reason == "shadow":
        words.append(Styled("SHADOW would refuse", "yellow"))
    return words


__all__ = ["check"]
