"""The GitHub workflow that ``init`` writes: its shells in order, on a real repository."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ci_github import Job, Runner
from ci_support import ACTION, Machine, change, git, missing, with_pipeline

from etcd_server import wait_for
from ratectl import Agent
from ratectl.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cli_support import Cli

PUSH = {"event_name": "push", "ref": "refs/heads/main"}
BY_HAND = {"event_name": "workflow_dispatch", "ref": "refs/heads/main"}
SCHEDULE = {"event_name": "schedule", "ref": "refs/heads/main"}


def pull_request(repository: str = "acme/limits") -> dict[str, Any]:
    base = git("rev-parse", "main")
    of = {"number": 7, "base": {"sha": base}, "head": {"repo": {"full_name": repository}}}
    return {
        "event_name": "pull_request",
        "ref": "refs/pull/7/merge",
        "event": {"pull_request": of},
    }


@pytest.fixture
def machine(cli: Cli, clean_place: Path, tmp_path: Path) -> Machine:
    return with_pipeline(cli, clean_place, tmp_path / "tools", "github")


@pytest.fixture
def runner(machine: Machine, store_url: str) -> Runner:
    return Runner(machine, {"RATECTL_STORE": store_url})


@pytest.fixture
def agent(store_url: str, tmp_path: Path) -> Iterator[Agent]:
    """Agent that reports to the store."""
    with Agent(store_url, id="edge", state_dir=tmp_path / "agent", report_interval=0.05) as agent:
        yield agent


def posted(runner: Runner) -> list[str]:
    return [each["body"] for each in json.loads(runner.comments.read_text())]


def succeeded(jobs: dict[str, Job], *names: str) -> None:
    assert list(jobs) == list(names)
    for job in jobs.values():
        assert job.code == 0, job.out


def test_from_a_pull_request_to_agents_and_back_from_drift(
    cli: Cli, runner: Runner, agent: Agent, clean_place: Path
) -> None:
    machine = runner.machine
    jobs = runner.run(pull_request())
    succeeded(jobs, "check", "plan")
    assert jobs["plan"].outputs == {"has_changes": "true", "changes": "4", "base": "0"}
    (comment,) = posted(runner)
    assert comment.startswith("### ratectl plan: 4 changes: 4 added\n")
    assert runner.summary.read_text().endswith(comment)
    assert cli("history", "-o", "json").document["generations"] == []

    # Pushed again: the comment is updated.
    change(clean_place, "rate: 50/s", "rate: 60/s")
    git("commit", "-q", "-am", "limits: a little more")
    succeeded(runner.run(pull_request()), "check", "plan")
    (again,) = posted(runner)
    assert "60/s" in again

    git("switch", "-q", "main")
    git("merge", "-q", "--ff-only", "limits")
    wait_for(lambda: cli("agents", "-o", "json").document["agents"], "it is there")
    jobs = runner.run(PUSH)
    succeeded(jobs, "apply")
    assert "it runs in 1 of 1 agent\n" in jobs["apply"].out
    assert agent.generation == 1
    (entry,) = cli("history", "-o", "json").document["generations"]
    assert (entry["author"], entry["message"]) == ("ada", "limits: a little more")
    assert entry["commit"] == git("rev-parse", "HEAD")

    succeeded(runner.run(SCHEDULE), "drift")
    (clean_place.parent / "hand.yaml").write_text(
        "{apiVersion: ratectl/v1, scope: /, limits: {spike: {rate: 1/s}}}"
    )
    hand = str(clean_place.parent / "hand.yaml")
    assert cli("apply", hand, "--yes", "--allow-removals", "at night").code == 0
    (drift,) = runner.run(SCHEDULE).values()
    assert drift.code == 1
    assert "spike" in drift.out

    succeeded(runner.run(PUSH), "apply")
    succeeded(runner.run(SCHEDULE), "drift")
    steps = yaml.safe_load(ACTION.read_text())["runs"]["steps"]
    assert missing(machine, [step["run"] for step in steps if "run" in step]) == []
    assert f"python -m pip install --quiet ratectl=={__version__}" in machine.calls


def test_a_guard_is_passed_by_hand_with_a_reason(
    cli: Cli, runner: Runner, agent: Agent, clean_place: Path
) -> None:
    git("switch", "-q", "-C", "main")
    change(clean_place, "owner: team-platform", "owner: team-platform\nprotected: true")
    git("commit", "-q", "-am", "limits: protected")
    wait_for(lambda: cli("agents", "-o", "json").document["agents"], "it is there")
    succeeded(runner.run(PUSH), "apply")
    change(clean_place, "rate: 50/s", "rate: 40/s")
    git("commit", "-q", "-am", "limits: less")
    (refused,) = runner.run(PUSH).values()
    assert refused.code == 77
    assert "--allow-protected REASON" in refused.out
    (unexplained,) = runner.run(BY_HAND, allow="protected").values()
    assert unexplained.code == 77
    (unknown,) = runner.run(BY_HAND, allow="everything", reason="in a hurry").values()
    assert unknown.code == 64
    assert agent.generation == 1
    succeeded(runner.run(BY_HAND, allow="protected removals", reason="it's agreed"), "apply")
    (entry, _) = cli("history", "-o", "json").document["generations"]
    assert entry["passed"] == {"protected": "it's agreed"}


def test_forks_are_not_planned_and_other_branches_not_published(runner: Runner) -> None:
    """No plan for a fork, which has no secrets; no publication from another branch."""
    succeeded(runner.run(pull_request("mallory/limits")), "check")
    assert not runner.run({"event_name": "workflow_dispatch", "ref": "refs/heads/limits"})


def test_findings_stop_the_job_before_the_plan(runner: Runner, clean_place: Path) -> None:
    change(clean_place, "burst: 400", "bursts: 400")
    git("commit", "-q", "-am", "limits: mistyped")
    (check,) = runner.run(pull_request()).values()
    assert check.code == 1
    assert "::error file=policies/shop/cart.yaml,line=" in check.out


def test_failing_tests_publish_nothing(cli: Cli, runner: Runner, clean_place: Path) -> None:
    change(clean_place, "allowed: 200", "allowed: 190")
    (check,) = runner.run(pull_request()).values()
    assert check.code == 1
    (apply,) = runner.run(PUSH).values()
    assert apply.code == 1
    assert not cli("history", "-o", "json").document["generations"]


@pytest.mark.parametrize("event", [PUSH, SCHEDULE], ids=["apply", "diff"])
def test_a_missing_store_variable_does_not_create_a_file(
    machine: Machine, event: dict[str, str]
) -> None:
    (job,) = Runner(machine, {}).run(event).values()
    assert job.code != 0
    assert "RATECTL_STORE: is not set" in job.out
    assert machine.calls == []


def test_an_unknown_command_fails(runner: Runner) -> None:
    job = Job()
    runner.use({"command": "publish"}, {"github": {"repository": "a/b"}}, {}, job)
    assert job.code == 64
    assert "command is publish, but can be check, plan, apply or diff" in job.out


def test_waiting_for_an_absent_agent_fails(cli: Cli, runner: Runner) -> None:
    (apply,) = runner.run(PUSH).values()
    assert apply.code == 1
    assert "no agent is running" in apply.out
    assert len(cli("history", "-o", "json").document["generations"]) == 1
