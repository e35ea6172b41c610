"""The GitLab pipeline that ``init`` writes: its shells in order, on a real repository."""

from __future__ import annotations

import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest
from ci_gitlab import Runner, jobs_of, script_of
from ci_support import JOBS, Machine, change, git, missing, with_pipeline

from etcd_server import wait_for
from ratectl import Agent
from ratectl.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ci_support import Done
    from cli_support import Cli

SCHEDULE = {"CI_PIPELINE_SOURCE": "schedule", "CI_COMMIT_BRANCH": "main"}
APPLY, PLAN, CHECK, DRIFT = (f"ratectl:{name}" for name in ("apply", "plan", "check", "drift"))


class Notes(BaseHTTPRequestHandler):
    """The part of GitLab's API that takes comments."""

    def do_POST(self) -> None:
        server: Any = self.server
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        allowed = self.headers["PRIVATE-TOKEN"] == "glpat-1"
        if allowed:
            server.notes.append((self.path, parse_qs(body)["body"][0]))
        self.send_response(201 if allowed else 401)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  its name there
        """Log nothing."""


@pytest.fixture
def notes() -> Iterator[Any]:
    """Real server on the loopback interface."""
    server: Any = HTTPServer(("127.0.0.1", 0), Notes)
    server.notes = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def machine(cli: Cli, clean_place: Path, tmp_path: Path) -> Machine:
    return with_pipeline(cli, clean_place, tmp_path / "tools", "gitlab")


@pytest.fixture
def runner(machine: Machine, store_url: str) -> Runner:
    return Runner(machine, {"RATECTL_STORE": store_url})


def merge_request(project: str = "acme/limits") -> dict[str, str]:
    return {
        "CI_PIPELINE_SOURCE": "merge_request_event",
        "CI_PROJECT_PATH": project,
        "CI_MERGE_REQUEST_PROJECT_PATH": "acme/limits",
        "CI_MERGE_REQUEST_DIFF_BASE_SHA": git("rev-parse", "main"),
        "CI_MERGE_REQUEST_IID": "7",
        "CI_PROJECT_ID": "42",
    }


def merged() -> dict[str, str]:
    return {
        "CI_PIPELINE_SOURCE": "push",
        "CI_COMMIT_BRANCH": "main",
        "CI_COMMIT_TITLE": git("log", "-1", "--format=%s"),
        "GITLAB_USER_NAME": "Ada Tester",
        "GITLAB_USER_EMAIL": "ada@example.org",
    }


def succeeded(jobs: dict[str, Done], *names: str) -> None:
    assert list(jobs) == list(names)
    for job in jobs.values():
        assert job.code == 0, job.out + job.err


def test_from_a_merge_request_to_agents_and_back_from_drift(
    cli: Cli, runner: Runner, store_url: str, clean_place: Path, tmp_path: Path
) -> None:
    succeeded(runner.run(**merge_request()), CHECK, PLAN)
    assert json.loads((clean_place / "gl-code-quality-report.json").read_text()) == []
    assert "<testsuites" in (clean_place / "ratectl-tests.xml").read_text()
    assert (clean_place / "ratectl-plan.md").read_text().startswith("### ratectl plan: 4 changes")

    git("switch", "-q", "main")
    git("merge", "-q", "--ff-only", "limits")
    with Agent(store_url, id="edge", state_dir=tmp_path / "agent", report_interval=0.05) as agent:
        wait_for(lambda: cli("agents", "-o", "json").document["agents"], "it is there")
        succeeded(runner.run(**merged()), APPLY)
        assert agent.generation == 1
        (entry,) = cli("history", "-o", "json").document["generations"]
        assert entry["author"] == "Ada Tester <ada@example.org>"
        assert (entry["message"], entry["commit"]) == (
            "limits: a start",
            git("rev-parse", "HEAD"),
        )
        succeeded(runner.run(**merge_request()), CHECK, PLAN)
        assert "has the same policies" in (clean_place / "ratectl-plan.md").read_text()

        succeeded(runner.run(**SCHEDULE), DRIFT)
        hand = tmp_path / "hand.yaml"
        hand.write_text("{apiVersion: ratectl/v1, scope: /, limits: {spike: {rate: 1/s}}}")
        assert cli("apply", str(hand), "--yes", "--allow-removals", "at night").code == 0
        (drift,) = runner.run(**SCHEDULE).values()
        assert drift.code == 1
        assert "spike" in drift.out
        succeeded(runner.run(**merged()), APPLY)
        succeeded(runner.run(**SCHEDULE), DRIFT)
    scripts = [script_of(job) for job in jobs_of(JOBS.read_text(), {}).values()]
    assert missing(runner.machine, scripts) == []
    assert f"pip install --quiet ratectl=={__version__}" in runner.machine.calls


def test_a_guard_is_passed_by_a_pipeline_with_a_reason(
    cli: Cli, runner: Runner, clean_place: Path
) -> None:
    change(clean_place, "owner: team-platform", "owner: team-platform\nprotected: true")
    assert cli("apply", "policies", "--yes").code == 0
    change(clean_place, "rate: 50/s", "rate: 40/s")
    (refused,) = runner.run(**merged()).values()
    assert refused.code == 77
    given = {"RATECTL_ALLOW": "protected removals", "RATECTL_REASON": "it's agreed"}
    (passed,) = runner.run(**merged(), **given).values()
    assert passed.code == 1, "published; but no agent is there"
    (entry, _) = cli("history", "-o", "json").document["generations"]
    assert entry["passed"] == {"protected": "it's agreed"}


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_a_plan_is_a_comment_if_a_token_is_set(
    cli: Cli, runner: Runner, notes: Any, clean_place: Path
) -> None:
    runner.machine.environment = {
        "CI_API_V4_URL": f"http://127.0.0.1:{notes.server_port}/api/v4",
        "RATECTL_COMMENT_TOKEN": "glpat-1",
        "no_proxy": "127.0.0.1",
    }
    succeeded(runner.run(**merge_request()), CHECK, PLAN)
    plan = (clean_place / "ratectl-plan.md").read_text()
    assert notes.notes == [("/api/v4/projects/42/merge_requests/7/notes", plan)]
    runner.machine.environment["RATECTL_COMMENT_TOKEN"] = "wrong"
    assert runner.run(**merge_request())[PLAN].code == 22, "curl's: the comment was refused"
    assert cli("apply", "policies", "--yes").code == 0
    succeeded(runner.run(**merge_request()), CHECK, PLAN)
    assert len(notes.notes) == 1, "where nothing changes there is nothing to say"


def test_forks_are_not_planned_and_other_branches_not_published(runner: Runner) -> None:
    """No plan for a fork, which has no variables; no publication from another branch."""
    succeeded(runner.run(**merge_request("mallory/limits")), CHECK)
    assert not runner.run(CI_PIPELINE_SOURCE="push", CI_COMMIT_BRANCH="limits")


def test_findings_are_in_the_report_and_in_the_log(runner: Runner, clean_place: Path) -> None:
    change(clean_place, "burst: 400", "bursts: 400")
    (check,) = runner.run(**merge_request()).values()
    assert check.code == 1
    assert "policies/shop/cart.yaml:" in check.out
    report = json.loads((clean_place / "gl-code-quality-report.json").read_text())
    assert "policies/shop/cart.yaml" in {each["location"]["path"] for each in report}


def test_a_failed_plan_fails_the_job(runner: Runner, clean_place: Path) -> None:
    """Exit codes 0 and 2 are answers; with any other code the job fails."""
    runner.settings = {"RATECTL_STORE": "etcd://127.0.0.1:1/prod"}
    assert runner.run(**merge_request())[PLAN].code == 69


@pytest.mark.parametrize("variables", [merged, lambda: SCHEDULE], ids=["apply", "diff"])
def test_a_missing_store_variable_does_not_create_a_file(machine: Machine, variables: Any) -> None:
    (job,) = Runner(machine, {}).run(**variables()).values()
    assert job.code != 0
    assert "RATECTL_STORE: is not set" in job.err
    assert machine.calls == []
