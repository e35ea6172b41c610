"""Rollouts on the command line: their terms, their steps, and a controller."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from ratectl.environments import place_of
from ratectl.errors import UsageError
from ratectl.fleet.membership import EVERYBODY
from ratectl.history.generations import read_live
from ratectl.publishing.provenance import gather
from ratectl.rollout import (
    Controlling,
    RolloutStatus,
    Terms,
    controller_of,
    read_rollout,
    require_stages,
    resume,
    status_of,
)
from ratectl.rollout import abort as abort_rollout
from ratectl.rollout import pause as pause_rollout
from ratectl.rollout import promote as promote_candidate
from ratectl.signing.continuation import require_signer
from ratectl_cli.framework import clock
from ratectl_cli.framework.signals import ended_by_signals
from ratectl_cli.inputs.signing import key_of
from ratectl_cli.prompts.confirming import confirmed
from ratectl_cli.render.rollout import agents_text, rollout_blocks, rollout_data, traffic_text

if TYPE_CHECKING:
    from ratectl.rollout import Progress, Underway, Verdict
    from ratectl.signing.signatures import Signer
    from ratectl.stores.base import Store
    from ratectl_cli.framework.session import Session

__all__ = [
    "abort", "answer_rollout", "controlled", "pause", "promote", "run", "show_status", "terms_of",
]  # fmt: skip

_TELLS: Final = "ratectl rollout status"
"""Command that shows what a step changed, after an interruption."""


def terms_of(canary: str, bake: float | None, min_requests: int | None, band: str | None) -> Terms:
    """Return the terms of ``--canary 1%,10%`` and its companions; None means the default.

    :raises UsageError: one of them cannot be read.
    """
    try:
        stages = [_number(share.strip()) for share in canary.split(",")]
    except ValueError:
        raise UsageError(
            f"--canary takes shares of all agents, like 5% or 1%,10%,50%, not {canary!r}"
        ) from None
    terms: dict[str, Any] = {}
    if bake is not None:
        terms["bake_seconds"] = bake
    if min_requests is not None:
        terms["min_requests"] = min_requests
    if band is not None:
        try:
            terms["band"] = None if band == "none" else _number(band)
        except ValueError:
            raise UsageError(
                f"--band takes percentage points, like 5, or none, not {band!r}"
            ) from None
    result = Terms.of(stages, **terms)
    if stages[0] == EVERYBODY and result.compares:
        raise UsageError("--canary 100% leaves no control group: start smaller, or add --band none")
    return result


def _number(text: str) -> float:
    """Return ``5``, ``5%`` or ``0.5%`` as a number."""
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?%?", text):
        raise ValueError(text)
    return float(text.removesuffix("%"))


def controlled(session: Session, store: Store, rollout: Underway, signer: Signer | None) -> int:
    """Control a rollout until it has ended or the time is up, and print its state then.

    Prints what happens meanwhile. Returns the exit code: 0 promoted, 1 aborted, 124 out of time.
    """
    session.deadline.changing(_TELLS)
    narrator = _Narrator(session)
    controlling = Controlling(store, rollout.record, signer=signer, tell=narrator.hear)
    try:
        with ended_by_signals():
            record = controlling.run(session.deadline.share())
    except KeyboardInterrupt:
        text = (
            "no more agents join while no process controls it: `ratectl rollout run` continues, "
            "`ratectl rollout abort` ends it"
        )
        session.say(session.selector.repeated(text))
        raise
    answer_rollout(session, RolloutStatus(record, read_live(store), narrator.verdict))
    return {"promoted": 0, "aborted": 1}.get(record.state, 124)


class _Narrator:
    """Prints progress of a rollout, each change once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._last_news: object = None
        self.verdict: Verdict | None = None

    def hear(self, progress: Progress) -> None:
        record, verdict = progress.record, progress.verdict
        self.verdict = verdict or self.verdict
        joined = len(verdict.joined) if verdict else None
        news = (record.stage, record.state, joined, progress.waiting)
        if news == self._last_news or record.over:
            return
        self._last_news = news
        waiting = f": {progress.waiting}" if progress.waiting else ""
        who = (
            ""
            if verdict is None
            else f", {agents_text(verdict)}, {traffic_text(verdict.candidates)}"
        )
        self._session.say(f"{record.percent:g}%{who}{waiting}")


def answer_rollout(session: Session, status: RolloutStatus) -> None:
    """Print the state of a rollout."""
    quiet, selector = session.options.quiet, session.selector
    session.answer(
        "Rollout",
        rollout_data(status),
        lambda: rollout_blocks(status, clock.now(), selector=selector, quiet=quiet),
    )


# Steps of `ratectl rollout` ----------------------------------------------------------------------


def show_status(session: Session) -> int:
    """Print how the last rollout stands; return 1 if it was aborted, else 0."""
    with session.store() as store:
        rollout = read_rollout(store)
        _answer(session, store, rollout)
    return 1 if rollout.record.state == "aborted" else 0


def run(session: Session, sign: str | None) -> int:
    """Resume a rollout that is paused, and control it unless another process does.

    ``sign``: file of the private key. Returns the exit code.
    """
    with session.store() as store:
        rollout = read_rollout(store)
        _ = rollout.candidate  # there must be one
        require_stages(rollout)
        signer = _key(session, store, rollout, sign)
        if rollout.record.state == "paused":
            session.deadline.changing(_TELLS)
            resume(store, rollout, _author())
            rollout = read_rollout(store, rollout.record.generation)
            other = controller_of(store, rollout.record.id)
            if other is not None:
                session.say(f"{other} controls it, and continues")
                _answer(session, store, rollout)
                return 0
        return controlled(session, store, rollout, signer)


def pause(session: Session, reason: str) -> None:
    """Keep a rollout in its stage."""
    with session.store() as store:
        session.changes(place_of(store, session.target, urgent=True))
        rollout = read_rollout(store)
        session.deadline.changing(_TELLS)
        pause_rollout(store, rollout, _author(), reason)
        _answer(session, store, read_rollout(store))


def promote(
    session: Session, reason: str, sign: str | None, *, yes: bool, confirm: str | None
) -> None:
    """Ask, then make the candidate live in every agent."""
    with session.store() as store:
        rollout = read_rollout(store)
        generation = rollout.candidate.generation
        signer = _key(session, store, rollout, sign)
        place = place_of(store, session.target)
        question = f"Make generation {generation} live in every agent of {place}?"
        name = confirmed(session, place, question, yes=yes, name=confirm)
        session.deadline.changing(_TELLS)
        promote_candidate(store, rollout, _author(), reason, signer, confirmed=name)
        _answer(session, store, read_rollout(store, generation))


def abort(session: Session, reason: str, sign: str | None) -> None:
    """Send every agent back to the live generation."""
    with session.store() as store:
        rollout = read_rollout(store)
        signer = _key(session, store, rollout, sign, urgent=True)
        session.deadline.changing(_TELLS)
        abort_rollout(store, rollout, _author(), reason, signer)
        _answer(session, store, read_rollout(store, rollout.record.generation))


def _key(
    session: Session, store: Store, rollout: Underway, sign: str | None, *, urgent: bool = False
) -> Signer | None:
    """Note which environment is changed, and return the key to sign with.

    :raises Refused: a signature is needed, and no key is named.
    """
    place, signer = place_of(store, session.target, urgent=urgent), key_of(session, sign)
    session.changes(place)
    require_signer(store, rollout.live.head, signer)
    place.require_signer(signer)
    return signer


def _author() -> str:
    return gather(".").author


def _answer(session: Session, store: Store, rollout: Underway) -> None:
    answer_rollout(session, status_of(store, rollout, session.warn))
