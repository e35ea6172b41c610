"""Rollouts on the command line: what is said while one goes on, and of how it stands."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from ratectl_cli.framework.signals import ended_by_signals
from ratectl_cli.framework.text import Column, Styled, Table, bold, dim, plural
from ratectl_cli.render import times

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.history.generations import Live
    from ratectl.records import Controller, RolloutRecord
    from ratectl.rollout import Differences, Group, Progress, Terms, Underway, Verdict
    from ratectl.signing.signatures import Signer
    from ratectl.stores.base import Store
    from ratectl_cli.framework.session import Session
    from ratectl_cli.framework.text import Block

__all__ = ["answer_rollout", "controlled", "controller_text", "standing", "terms_of"]

_COLOURS = {"promoted": "green", "aborted": "red", "paused": "yellow"}
_NOBODY: Final = Styled("nobody controls it, so nobody new takes part", "yellow")


def terms_of(canary: str, bake: float | None, min_requests: int | None, band: str | None) -> Terms:
    """What ``--canary 1%,10%`` and its companions say; None for what was not said.

    :raises UsageError: one of them cannot be read.
    """
    from ratectl.errors import UsageError
    from ratectl.fleet.membership import EVERYBODY
    from ratectl.rollout import Terms

    try:
        stages = [_number(each.strip()) for each in canary.split(",")]
    except ValueError:
        raise UsageError(
            f"--canary takes shares of all agents, like 5% or 1%,10%,50%, not {canary!r}"
        ) from None
    said: dict[str, float | None] = {}
    if bake is not None:
        said["bake_seconds"] = bake
    if min_requests is not None:
        said["min_requests"] = min_requests
    if band is not None:
        try:
            said["band"] = None if band == "none" else _number(band)
        except ValueError:
            raise UsageError(
                f"--band takes percentage points, like 5, or none, not {band!r}"
            ) from None
    terms = Terms.of(stages, **said)
    if stages[0] == EVERYBODY and terms.compares:
        raise UsageError(
            "of 100% nobody is left to compare with: begin smaller, or say --band none as well"
        )
    return terms


def _number(text: str) -> float:
    """``5``, ``5%`` or ``0.5%``."""
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?%?", text):
        raise ValueError(text)
    return float(text.removesuffix("%"))


def controlled(session: Session, store: Store, rollout: Underway, signer: Signer | None) -> int:
    """Control a rollout until it is over, or the time is up, and print how it stands then.

    Says what happens meanwhile. Returns the exit code: 0 promoted, 1 aborted, 124 neither in time.
    """
    from ratectl.history.generations import read_live
    from ratectl.rollout import Controlling

    session.deadline.changing("ratectl rollout status")
    narrator = _Narrator(session)
    controlling = Controlling(store, rollout.record, signer=signer, tell=narrator.hear)
    try:
        with ended_by_signals():
            record = controlling.run(session.deadline.share())
    except KeyboardInterrupt:
        session.say(
            "nobody new takes part while nobody controls it: `ratectl rollout run` goes on, "
            "`ratectl rollout abort` ends it"
        )
        raise
    answer_rollout(session, record, read_live(store), narrator.verdict)
    return {"promoted": 0, "aborted": 1}.get(record.state, 124)


def standing(store: Store, rollout: Underway) -> Verdict:
    """How agents stand at this moment, without comparing: that takes a while."""
    import time

    from ratectl.fleet.usage import read_agents, read_beats
    from ratectl.rollout import Judge

    judge = Judge(rollout.record)
    return judge.look(
        time.monotonic(), rollout.record.percent, read_agents(store), read_beats(store)
    )


class _Narrator:
    """Says what is new, once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._said: object = None
        self.verdict: Verdict | None = None

    def hear(self, progress: Progress) -> None:
        record, verdict = progress.record, progress.verdict
        self.verdict = verdict or self.verdict
        joined = len(verdict.joined) if verdict else None
        news = (record.stage, record.state, joined, progress.waiting)
        if news == self._said or record.over:
            return
        self._said = news
        waiting = f": {progress.waiting}" if progress.waiting else ""
        who = "" if verdict is None else f", {_agents(verdict)}, {_traffic(verdict.candidates)}"
        self._session.say(f"{record.percent:g}%{who}{waiting}")


def _agents(verdict: Verdict) -> str:
    there = verdict.candidates.agents + verdict.others.agents
    return f"{len(verdict.joined)} of {plural(there, 'agent')}"


def _traffic(group: Group) -> str:
    if group.share is None:
        return "no requests yet"
    return f"{group.share:.1f}% of {plural(group.requests, 'request')} refused"


def answer_rollout(
    session: Session,
    record: RolloutRecord,
    live: Live,
    verdict: Verdict | None,
    differences: Differences | None = None,
    controller: Controller | None = None,
) -> None:
    """Print how a rollout stands; of one in shadow, what the candidate would do otherwise.

    ``controller``: who controls it now; None where nobody does.
    """
    session.answer(
        "Rollout",
        {
            **_data(record, live, verdict),
            "controller": _controller_data(controller),
            "shadow": _differences_data(differences),
        },
        lambda: _blocks(session, record, live, verdict, differences, controller),
    )


def _controller_data(found: Controller | None) -> dict[str, Any] | None:
    return None if found is None else {"host": found.host, "pid": found.pid, "since": found.since}


def controller_text(found: Controller) -> str:
    """``process 4711 on node-a, which began 3 min ago``."""
    return f"{found}, which began {times.ago(found.since, times.now())}"


def _differences_data(found: Differences | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "agents": found.agents,
        "requests": found.requests,
        "newly_refused": found.newly_refused,
        "newly_allowed": found.newly_allowed,
        "limits": [
            {"scope": scope, "limit": limit, "newly_refused": refused, "newly_allowed": allowed}
            for (scope, limit), (refused, allowed) in found.limits
        ],
    }


def _data(record: RolloutRecord, live: Live, verdict: Verdict | None) -> dict[str, Any]:
    return {
        "generation": record.generation,
        "base": record.base,
        "live": live.generation or None,
        "id": record.id,
        "mode": record.mode,
        "state": record.state,
        "reason": record.reason or None,
        "by": record.by or None,
        "stages": record.stages,
        "stage": record.stage,
        "percent": record.percent,
        "bake_seconds": record.bake_seconds,
        "min_requests": record.min_requests,
        "band": record.band,
        "author": record.author,
        "started": record.started,
        "updated": record.updated,
        "agents": None if verdict is None else _verdict_data(verdict),
    }


def _verdict_data(verdict: Verdict) -> dict[str, Any]:
    return {
        "expected": list(verdict.expected),
        "joined": list(verdict.joined),
        "candidates": _group_data(verdict.candidates),
        "others": _group_data(verdict.others),
        "trouble": verdict.trouble,
    }


def _group_data(group: Group) -> dict[str, Any]:
    return {"agents": group.agents, "requests": group.requests, "refused": group.refused}


def _blocks(
    session: Session,
    record: RolloutRecord,
    live: Live,
    verdict: Verdict | None,
    differences: Differences | None,
    controller: Controller | None,
) -> Iterator[Block]:
    state = bold(record.state, _COLOURS.get(record.state, "cyan"))
    how = "evaluated beside" if record.mode == "shadow" else "tried beside"
    where = "" if record.over or record.mode == "shadow" else f" at {record.percent:g}%"
    by = f" by {record.by}" if record.by else ""
    yield [
        bold(f"generation {record.generation}"), f", {how} generation {record.base}: ", state,
        f"{where}{by}",
    ]  # fmt: skip
    if record.reason:
        yield [dim("because:  "), record.reason]
    if record.mode != "shadow":
        yield [dim("stages:   "), _stages(record)]
        if not record.over:
            yield [dim("control:  "), controller_text(controller) if controller else _NOBODY]
    if differences is not None and not record.over:
        yield from _difference_blocks(differences, verdict)
    elif verdict is not None and not record.over:
        yield [dim("agents:   "), _agents(verdict)]
        if verdict.missing:
            yield [dim("missing:  "), ", ".join(verdict.missing[:10])]
    if verdict is not None and verdict.trouble and not record.over:
        yield [dim("trouble:  "), Styled(verdict.trouble, "red")]
    if session.options.quiet:
        return
    if record.state == "promoted" and live.generation == record.generation:
        yield [dim("undo:     "), f"ratectl rollback --to {record.base}"]
    elif not record.over:
        go_on = "promote" if record.mode == "shadow" else "run"
        yield [dim("go on:    "), f"ratectl rollout {go_on}"]
        yield [dim("end it:   "), "ratectl rollout abort --reason …"]


def _difference_blocks(found: Differences, verdict: Verdict | None) -> Iterator[Block]:
    there = found.agents
    if verdict is not None:
        there = max(there, verdict.candidates.agents + verdict.others.agents)
    asked = plural(found.requests, "request")
    yield [dim("agents:   "), f"evaluated in {found.agents} of {plural(there, 'agent')}, {asked}"]
    for number, what in (
        (found.newly_refused, "refused that pass"),
        (found.newly_allowed, "let pass that are refused"),
    ):
        share = f" ({number / found.requests:.2%})" if found.requests else ""
        yield [dim("would be: "), f"{number}{share} {what}"]
    if found.limits:
        table = Table(
            [Column("SCOPE"), Column("LIMIT"), Column("REFUSED", True), Column("LET PASS", True)]
        )
        table.rows += [
            (scope or "-", limit or "-", str(refused), str(allowed))
            for (scope, limit), (refused, allowed) in found.limits
        ]
        yield table


def _stages(record: RolloutRecord) -> str:
    shares = ", ".join(f"{each:g}%" for each in record.stages)
    band = "any difference" if record.band is None else f"{record.band:g} points apart at most"
    requests = plural(record.min_requests, "request")
    return f"{shares}; each {record.bake_seconds:g} s and {requests}, {band}"
