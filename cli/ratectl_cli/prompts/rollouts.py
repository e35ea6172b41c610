"""Rollouts on the command line: their terms, and controlling one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ratectl.errors import UsageError
from ratectl.fleet.membership import EVERYBODY
from ratectl.history.generations import read_live
from ratectl.rollout import Controlling, RolloutStatus, Terms
from ratectl_cli.framework.signals import ended_by_signals
from ratectl_cli.render.rollout import agents_text, rollout_blocks, rollout_data, traffic_text

if TYPE_CHECKING:
    from ratectl.rollout import Progress, Underway, Verdict
    from ratectl.signing.signatures import Signer
    from ratectl.stores.base import Store
    from ratectl_cli.framework.session import Session

__all__ = ["answer_rollout", "controlled", "terms_of"]


def terms_of(canary: str, bake: float | None, min_requests: int | None, band: str | None) -> Terms:
    """What ``--canary 1%,10%`` and its companions say; None for what was not said.

    :raises UsageError: one of them cannot be read.
    """
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
    answer_rollout(session, RolloutStatus(record, read_live(store), narrator.verdict))
    return {"promoted": 0, "aborted": 1}.get(record.state, 124)


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
        who = (
            ""
            if verdict is None
            else f", {agents_text(verdict)}, {traffic_text(verdict.candidates)}"
        )
        self._session.say(f"{record.percent:g}%{who}{waiting}")


def answer_rollout(session: Session, status: RolloutStatus) -> None:
    """Print how a rollout stands."""
    quiet = session.options.quiet
    session.answer("Rollout", rollout_data(status), lambda: rollout_blocks(status, quiet=quiet))
