"""Every table and every list of aligned rows of the command line, with usual and extreme contents.

An example is made of values, as the render functions take them: no store and no clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli_support import AUTHOR, NOW
from example_contents import CONTENTS, Contents, Example, texts, tree_of
from reset_examples import past_resets, reset_preview
from usage_examples import busy_keys, key_in_agents, keys_of_limits, sorted_usage, usage

from fleet.reports import agent, rollout
from ratectl.agent.cluster import TIMING
from ratectl.changes.limits import Change
from ratectl.cluster.sizing import Plan, Sizing
from ratectl.diagnostics import Span
from ratectl.engine.decision import Decision
from ratectl.environments import Protection, Surveyed, Target
from ratectl.health import Check
from ratectl.health.cluster import Cluster, ClusterMember
from ratectl.health.cluster_limits import ClusterLimit
from ratectl.health.fleet import Fleet
from ratectl.history.blame import Blamed
from ratectl.history.generations import Live
from ratectl.kill_switch.switches import Switch, Switches
from ratectl.policy.language.rates import Rate
from ratectl.policy.resolution.resolver import Resolver
from ratectl.records import HistoryEntry, OwnerHint
from ratectl.rollout import Differences, RolloutStatus
from ratectl.simulate import LimitCount, Report, Side
from ratectl.simulate.report import Change as SideChange
from ratectl.simulate.report import ScopeCount, Slice
from ratectl.simulate.sources import Reading
from ratectl.testing import Coverage, Item, Share
from ratectl.testing import Report as TestReport
from ratectl.testing.results import Result
from ratectl_cli.framework.recommended import Selector
from ratectl_cli.prompts.live.view import keys_block
from ratectl_cli.render.agents import agents_blocks, fleet_data
from ratectl_cli.render.blame import blame_data, blame_table
from ratectl_cli.render.changes import change_blocks
from ratectl_cli.render.cluster import status_blocks as cluster_blocks
from ratectl_cli.render.cluster_size import size_blocks
from ratectl_cli.render.decisions import decisions_blocks
from ratectl_cli.render.environments import Listing, listing_blocks
from ratectl_cli.render.explanation import explanation_blocks, explanation_data
from ratectl_cli.render.health import checks_blocks
from ratectl_cli.render.history import entry_data, history_blocks
from ratectl_cli.render.panic import status_blocks
from ratectl_cli.render.replayed import Replayed, replayed_blocks, replayed_data
from ratectl_cli.render.rollout import rollout_blocks, rollout_data
from ratectl_cli.render.simulation import Inputs, simulation_blocks, simulation_data
from ratectl_cli.render.testing import report_blocks, report_data
from ratectl_cli.render.timeline import timeline_blocks
from ratectl_cli.render.topics import topics, topics_blocks

if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["CONTENTS", "EXAMPLES", "Contents", "Example"]


def _entry(of: Contents) -> HistoryEntry:
    return HistoryEntry(
        generation=of.number, bundle="b", origins=None, action="apply", author=AUTHOR,
        time="2026-11-23T11:58:00Z", message=of.text, commit="3f2a1bc9d0ff", dirty=True,
        summary={"added": of.number, "removed": 7, "changed": of.number}, request="r",
        passed={"below-use": of.text}, set="payments",
    )  # fmt: skip


def _history(of: Contents) -> Example:
    entry = _entry(of)
    data = entry_data(entry, live=entry.generation)
    summary = data["summary"]
    numbers = [
        ("GENERATION", data["generation"]), ("CHANGE", f"+{summary['added']}"),
        ("CHANGE", f"-{summary['removed']}"), ("CHANGE", f"~{summary['changed']}"),
    ]  # fmt: skip
    states = {entry.generation: "canary at 5%"}
    return Example(lambda _: history_blocks([entry], entry.generation, states, NOW), texts(numbers))


def _blame(of: Contents) -> Example:
    values = [
        Blamed(of.name, "burst", str(of.burst), _entry(of), None, certain=False),
        Blamed(
            f"budget {of.name} of {of.scope}", "mode", "enforce", _entry(of), None, certain=True
        ),
    ]
    row = blame_data(values)[0]
    numbers = [("VALUE", row["value"]), ("GENERATION", row["generation"])]
    return Example(lambda _: [blame_table(values, NOW)], texts(numbers))


def _switch(of: Contents) -> Switch:
    return Switch(
        scope=of.scope, mode="open", reason=of.text, author=AUTHOR, time="2026-11-23T11:58:00Z"
    )


def _agents(of: Contents) -> Example:
    record = agent(
        of.agent, state="rejected", error=of.text, host=f"ip-10-0-12-113.{of.agent}",
        pid=of.number, swap_ms=of.number + 0.25, generation=of.number,
    )  # fmt: skip
    on = (_switch(of),)
    fleet = Fleet(Live(None, 0), [record], {of.agent: "2026-11-23T11:59:58Z"}, Switches(1, on))
    rows = fleet_data(fleet)["agents"]
    row = rows[0]
    numbers = [
        ("GENERATION", row["generation"]), ("PID", row["pid"]),
        ("SWAP MS", f"{row['swap_ms']:.1f}"),
    ]  # fmt: skip
    return Example(lambda _: agents_blocks(rows, NOW), texts(numbers))


def _panic(of: Contents) -> Example:
    on = (_switch(of),)
    return Example(lambda _: status_blocks(Switches(1, on), None, [agent(of.agent)], NOW))


def _cluster(of: Contents) -> Example:
    owners = [
        OwnerHint(member=name, owner=f"{shard}.{name}", address="unix:/tmp/a.sock")
        for shard, name in enumerate(("a.1a2b3c4d", f"{of.agent}.5e6f7a8b"))
    ]
    members = [
        ClusterMember("a.1a2b3c4d", "reporting", 333_333, True, "unix:/tmp/a.sock", "", "a", None),
        ClusterMember(
            f"{of.agent}.5e6f7a8b", "silent", 666_667, False, "10.0.0.5:7946", of.agent, None, None
        ),
    ]
    limits = [ClusterLimit(of.scope, of.name, True, None), ClusterLimit("/", "b", False, of.text)]
    cluster = Cluster(members, owners, [], 1_000_000, 0, [])
    return Example(lambda _: cluster_blocks(cluster, limits, NOW))


def _cluster_size(of: Contents) -> Example:
    rate = Rate.parse(of.rate)
    plan = Plan(rate.numerator, rate.denominator * 10**9, of.burst, 20, 2_000_000)
    return Example(lambda _: size_blocks(Sizing(plan, TIMING, 30 * 10**9), rate))


def _environments(of: Contents) -> Example:
    down = Surveyed(Target("etcd://db-1:2379,db-2:2379/production", "production"), "no answer")
    live = Surveyed(
        Target("sqlite:///rates.db", "staging", Protection(True, True)), None, of.number
    )
    listing = Listing("ratectl.yaml", "policies", (down, live), None, "two environments")
    return Example(lambda _: listing_blocks(listing), texts([("STATE", of.number)]))


def _rollout(of: Contents) -> Example:
    limits = [((of.scope, of.name), (of.number, 4)), (("", ""), (1, 2))]
    found = Differences(2, of.number, of.number, 4, limits)
    status = RolloutStatus(rollout(mode="shadow", state="running"), Live(None, 0), None, found)
    row = rollout_data(status)["shadow"]["limits"][0]
    numbers = [("REFUSED", row["newly_refused"]), ("ALLOWED", row["newly_allowed"])]
    return Example(
        lambda _: rollout_blocks(status, NOW, selector=Selector(), quiet=False), texts(numbers)
    )


def _report(of: Contents, *names: str) -> Report:
    count, shadow = of.number, 2 * of.number
    side = [
        Side(
            name,
            (ScopeCount(of.scope, 4 * count, count - at, shadow),),
            (
                LimitCount(
                    of.scope, of.name, True, count, count - at, 0, shadow, ((of.key, count),)
                ),
            ),
        )
        for at, name in enumerate(names)
    ]
    slices = tuple(Slice(count + at, (count,) * len(names), (0,) * len(names)) for at in range(200))
    reading = Reading(count, 1, 0, 2, 5, [(701, "not a line of an access log", of.text)])
    changes = (SideChange(of.scope, 1, 0),)
    return Report(reading, 4 * count, 0, 10**13, tuple(side), changes, 0, 10**9, slices)


def _simulation(of: Contents) -> Example:
    report, inputs = _report(of, "policies"), Inputs("policies", "access.log", "web.map.yaml", None)
    row = simulation_data(inputs, report, [])["policies"]
    scope, limit = row["scopes"][0], row["limits"][0]
    numbers = [
        ("REQUESTS", scope["requests"]), ("REFUSED", scope["refused"]), ("SHARE", "25.00%"),
        ("SHADOW", scope["shadow"]), ("SHARE", "50.00%"),
        ("DECIDED", limit["admitted"] + limit["refused"] + limit["shadow_refused"]),
        ("SHADOW", limit["shadow_refused"]),
    ]  # fmt: skip
    return Example(lambda stream: simulation_blocks(inputs, report, [], stream), texts(numbers))


def _timeline(of: Contents) -> Example:
    report = _report(of, "policies", "generation 1")
    return Example(lambda stream: timeline_blocks(report, stream))


def _comparison(of: Contents) -> Example:
    report = _report(of, "policies", "generation 1")
    inputs = Inputs("policies", "access.log", "web.map.yaml", "generation 1")
    data = simulation_data(inputs, report, [])
    numbers = [
        ("REFUSED", data["against"]["scopes"][0]["refused"]),
        ("NOW", data["policies"]["scopes"][0]["refused"]),
        ("CHANGE", "+1"),
        ("SHADOW", data["against"]["scopes"][0]["shadow"]),
    ]
    return Example(lambda stream: simulation_blocks(inputs, report, [], stream), texts(numbers))


def _replayed(of: Contents) -> Example:
    replayed = Replayed("access.log", "web.map.yaml", _report(of, "policies", "generation 1"))
    data = replayed_data(replayed)
    assert data is not None
    row = data["limits"][0]
    numbers = [("REFUSED", row["before"]["refused"]), ("AFTER", row["after"]["refused"])]
    return Example(lambda _: replayed_blocks(replayed, unfold=True), texts(numbers))


def _tests(of: Contents) -> Example:
    missed = tuple(Item(of.scope, f"{of.name}-{at}") for at in range(3))
    part = Share(of.burst, missed)
    report = TestReport(
        (Result(of.text, Span(f"{of.scope[1:]}.yaml", 12, 1), 1, 1, 0.1, ()),),
        Coverage(part, part, part, part),
    )
    row = report_data(report, tree_of(of), None, None)["coverage"]["scopes"]
    numbers = [("MET", row["covered"]), ("OF", row["total"])]
    return Example(
        lambda stream: report_blocks(
            report, tree_of(of), stream, coverage=True, threshold=None, unfold=True
        ),
        texts(numbers),
    )


def _changes(of: Contents) -> Example:
    value = f"token-bucket {of.rate} burst {of.burst} per client, route"
    changes = [
        Change(of.scope, of.name, "tightened", value, f"{value} where tier=[gold, platinum]"),
        Change(of.scope, f"budget {of.name}", "added", None, value, via=f"gold@{of.scope}"),
    ]
    notes = (f"defined at policies{of.scope}.yaml:12:24", of.text)
    return Example(lambda _: change_blocks(changes, notes=lambda _: notes))


def _explanation(of: Contents) -> Example:
    tree = tree_of(of)
    attributes = {"client": of.key, "tier": "gold"}
    resolved = Resolver(tree, 0).select(of.scope, attributes)
    data = explanation_data(tree, f"{of.scope}", resolved, attributes, 0)
    return Example(lambda _: explanation_blocks(data, "policies"))


def _unmatched(of: Contents) -> Example:
    tree = tree_of(of)
    data = explanation_data(tree, f"{of.scope}", Resolver(tree, 0).at(of.scope), {}, 0)
    return Example(lambda _: explanation_blocks(data, "policies"))


def _doctor(of: Contents) -> Example:
    checks = [Check("agents", "failed", f"{of.agent}: {of.text}"), Check("store", "ok", "sqlite")]
    return Example(lambda _: checks_blocks(checks))


def _decisions(of: Contents) -> Example:
    counts = (of.name, of.scope, of.burst, of.burst - 1)
    decisions = [
        Decision(True, "ok", 1, *counts),
        Decision(True, "shadow", 1, *counts),
        Decision(False, "limited", 1, *counts, retry_after_ns=of.number),
    ]
    overrides = {(of.scope, of.name): (f"gold@{of.scope}", "charges@/")}
    return Example(lambda _: decisions_blocks(of.scope, decisions, "policies", overrides, 1))


EXAMPLES: dict[str, Callable[[Contents], Example]] = {
    "usage": usage,
    "usage-sorted": sorted_usage,
    "usage-keys": keys_of_limits,
    "hot_keys": busy_keys,
    "key_usage": key_in_agents,
    "history": _history,
    "blame": _blame,
    "agents": _agents,
    "panic": _panic,
    "cluster": _cluster,
    "cluster_size": _cluster_size,
    "environments": _environments,
    "rollout": _rollout,
    "simulation": _simulation,
    "simulation-against": _comparison,
    "timeline": _timeline,
    "replayed": _replayed,
    "testing": _tests,
    "changes": _changes,
    "explanation": _explanation,
    "conditions": _unmatched,
    "decisions": _decisions,
    "health": _doctor,
    "view": lambda _: Example(lambda _: [keys_block()]),
    "resets": past_resets,
    "resets-preview": reset_preview,
    "topics": lambda _: Example(lambda _: topics_blocks(topics())),
}
"""Examples by name; the part before ``-`` is a module."""
