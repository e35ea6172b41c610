"""Tables of resets."""

from __future__ import annotations

from datetime import timedelta

from cli_support import AUTHOR, NOW
from example_contents import Contents, Example, limit_of, tree_of

from fleet.reports import agent
from ratectl.environments import Place
from ratectl.history.trees import LiveTree
from ratectl.records import PastReset
from ratectl.resets.finding import FoundKey
from ratectl.resets.reports import KeyReport
from ratectl_cli.render.resets import past_blocks, preview

__all__ = ["past_resets", "reset_preview"]


def past_resets(of: Contents) -> Example:
    past = PastReset(
        sequence=of.number, scope=of.scope, limit=of.name, budget=True, attributes=["client"],
        key_hash="b90907f2647649ce", reason=of.text, author=AUTHOR, time="2026-11-23T11:58:00Z",
        expires="2026-11-23T12:00:00Z", signed=True,
    )  # fmt: skip
    return Example(lambda _: past_blocks([past], NOW))


def reset_preview(of: Contents) -> Example:
    found = FoundKey(of.scope, limit_of(of), False, {"client": of.key, "route": None})
    report = KeyReport(agents=3, requests=of.number, use=1.0, refused=of.number)
    live, place = LiveTree(of.number, tree_of(of)), Place("sqlite:////rates.db", "production")
    agents = [agent(of.agent), agent("edge-1", reset_sequence=0)]
    lasts = timedelta(minutes=2)
    return Example(lambda _: preview(live, found, place, report, agents, lasts))
