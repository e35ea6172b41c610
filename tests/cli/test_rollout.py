"""``apply --canary``, ``apply --shadow`` and ``rollout``, with real agents."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest
from cli_support import PROGRAM, TREE, report_agent

from etcd_server import wait_for
from ratectl import Agent
from ratectl.fleet.usage import read_agents
from ratectl.history.generations import read_live
from ratectl.rollout import Controlling, Terms, controller_of, read_rollout
from ratectl.rollout._start import start
from ratectl.stores import open_store
from support import ME, POISON, policies

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cli_support import Cli

    from conftest import Golden

QUICK = ("--bake", "0", "--min-requests", "0")


@pytest.fixture
def agents(published: str, tmp_path: Path) -> Iterator[list[Agent]]:
    made = [
        Agent(published, id=f"edge-{number}", state_dir=tmp_path / "agents", report_interval=0.1)
        for number in range(3)
    ]
    with open_store(published) as store:
        wait_for(lambda: len(read_agents(store)) == 3, "every agent reports")
    yield made
    for agent in made:
        agent.close()


def test_a_canary_goes_through_its_stages_and_becomes_live(
    cli: Cli, edited: str, agents: list[Agent]
) -> None:
    run = cli("apply", "policies", "--yes", "--canary", "10%", *QUICK, "-m", "CHG-1")
    assert run.code == 0
    assert "spike  loosened" in run.out
    assert "generation 2, tried beside generation 1: promoted by the controller" in run.out
    assert "undo:     ratectl rollback --to 1" in run.out
    assert [line.split("%")[0] for line in run.err.splitlines()][-1] == "100"
    for agent in agents:
        assert agent.wait_for_generation(2, 5)
    history = cli("history")
    assert "canary, promoted" in history.out
    assert cli("history", "-o", "json").document["generations"][0]["rollout"] == "promoted"
    assert cli("rollout", "status").code == 0
    assert "undo:     ratectl rollback --to 1" in cli("rollout", "status").out
    assert cli("rollback", "--yes").code == 0
    assert cli("history", "-o", "json").document["generations"][0]["rollback_of"] == 1
    assert "undo:" not in cli("rollout", "status").out, "something else is live"


def test_it_prints_one_document(cli: Cli, edited: str, agents: list[Agent]) -> None:
    run = cli("apply", "policies", "--yes", "--canary", "50%,100%", *QUICK, "-o", "json")
    document = run.document
    assert document["kind"] == "Rollout"
    assert (document["state"], document["live"], document["base"]) == ("promoted", 2, 1)
    assert document["stages"] == [50.0, 100.0]
    assert sorted(document["agents"]["joined"]) == ["edge-0", "edge-1", "edge-2"]


def test_a_canary_without_agents_fails(cli: Cli, edited: str) -> None:
    run = cli("apply", "policies", "--yes", "--canary", "5%")
    assert run.code == 1
    assert "no agent is running to try it" in run.err
    assert cli("history", "-o", "json").document["generations"][0]["generation"] == 1


def test_a_candidate_that_an_agent_rejects_is_aborted(
    cli: Cli, edited: str, agents: list[Agent]
) -> None:
    with open_store(edited) as store:
        start(store, POISON, ME, Terms.of([100.0], min_requests=0))
    run = cli("rollout", "run")
    assert run.code == 1
    assert "aborted by the controller" in run.out
    assert "has no rate" in run.out
    assert cli("rollout", "status").code == 1
    assert cli("rollout", "run").code == 75
    listed = cli("history").out
    assert "canary, aborted" in listed
    assert cli("apply", "policies", "--yes").code == 0, "the way is free again"
    assert cli("history", "-o", "json").document["live"] == 3
    assert cli("rollback", "--yes", "-o", "json").document["generation"] == 4
    rolled = cli("history", "-o", "json").document["generations"][0]
    assert rolled["rollback_of"] == 1, "what was aborted is nothing to go back to"


def test_a_timeout_leaves_a_candidate_that_can_be_ended(
    cli: Cli, edited: str, agents: list[Agent]
) -> None:
    words = ("apply", "policies", "--yes", "--canary", "100%", "--band", "none", "--timeout", "3")
    run = cli(*words)
    assert run.code == 124
    assert "generation 2, tried beside generation 1: running at 100%" in run.out
    assert "continue: ratectl rollout run" in run.out
    again = cli("apply", "policies", "--yes")
    assert again.code == 75
    assert "`ratectl rollout promote` or `ratectl rollout abort` first" in again.err
    assert "candidate 2" in cli("agents").out
    assert cli("doctor").code == 0
    paused = cli("rollout", "pause", "--reason", "lunch")
    assert "paused at 100%" in paused.out
    ended = cli("rollout", "abort", "--reason", "enough", "-o", "json")
    assert ended.code == 0
    assert (ended.document["state"], ended.document["reason"]) == ("aborted", "enough")
    assert cli("rollout", "abort").code == 75
    wait_for(lambda: {agent.generation for agent in agents} == {1}, "all are back")


def test_resume_while_another_process_controls_it(
    cli: Cli, edited: str, agents: list[Agent]
) -> None:
    with open_store(edited) as store:
        start(store, policies(**{"/": {}}), ME, Terms.of([100.0], bake_seconds=3600))
        control = Controlling(store, read_rollout(store).record)
        thread = threading.Thread(target=control.run, args=(60,))
        thread.start()
        wait_for(lambda: {agent.generation for agent in agents} == {2}, "all take part")
        assert cli("rollout", "pause").code == 0
        run = cli("rollout", "run")
        assert run.code == 0
        assert "controls it, and continues" in run.err
        assert "running at 100%" in run.out
        assert cli("rollout", "abort", "--reason", "enough").code == 0
        thread.join(20)
    assert not thread.is_alive()


def test_promoted_by_hand(cli: Cli, edited: str, agents: list[Agent]) -> None:
    assert cli("apply", "policies", "--yes", "--shadow").code == 0
    assert cli("rollout", "run").code == 77, "nothing to control"
    assert cli("rollout", "promote").code == 64, "nobody to ask"
    run = cli("rollout", "promote", "--yes", "--reason", "looks right")
    assert run.code == 0
    assert "promoted by Ada Tester" in run.out
    for agent in agents:
        assert agent.wait_for_generation(2, 5)


def test_blame_ignores_candidates_that_did_not_go_live(
    cli: Cli, edited: str, tree: Path, agents: list[Agent]
) -> None:
    assert cli("apply", "policies", "--yes", "--shadow").code == 0
    assert cli("rollout", "abort").code == 0
    (tree / "all.yaml").write_text(TREE.replace("600/min", "601/min"))
    assert cli("apply", "policies", "--yes").code == 0
    values = cli("blame", "/shop", "-o", "json").document["values"]
    assert {each["generation"] for each in values} == {1, 3}


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_leaves_the_rollout_and_hints_how_to_continue(
    edited: str, agents: list[Agent], number: signal.Signals, code: int
) -> None:
    words = ["apply", "policies", "--yes", "--canary", "100%", "--band", "none"]
    with subprocess.Popen(
        [*PROGRAM, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline().startswith("100%")
            process.send_signal(number)
            process.send_signal(number)  # a wrapper passes on what the whole group got already
            _, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == code
    assert "`ratectl rollout run` continues" in err
    assert err.endswith("error: interrupted\n")
    with open_store(edited) as store:
        assert controller_of(store) is None, "another one need not wait for its lease"
    with open_store(edited) as store:
        assert read_rollout(store).record.state == "running"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--canary", "0%"), "from 0.01% to 100%"),
        (("--canary", "half"), "--canary takes shares"),
        (("--canary", "1e1"), "--canary takes shares"),
        (("--canary", "-5%"), "--canary takes shares"),
        (("--canary", "5%", "--bake", "inf"), "0 seconds or more"),
        (("--canary", "10%,5%"), "larger than the one before"),
        (("--canary", "5%", "--band", "0"), "percentage points"),
        (("--canary", "100%"), "leaves no control group"),
        (("--canary", "5%", "--band", "wide"), "--band takes percentage points"),
        (("--canary", "5%", "--bake", "-1"), "--bake"),
        (("--canary", "5%", "--shadow"), "choose one"),
        (("--shadow", "--wait"), "--wait"),
        (("--canary", "5%", "--wait"), "--wait"),
        (("--bake", "5"), "--canary"),
        (("--band", "none"), "--canary"),
        (("--min-requests", "5", "--shadow"), "--canary"),
    ],
)
def test_invalid_terms_are_refused(
    cli: Cli, edited: str, words: tuple[str, ...], said: str
) -> None:
    report_agent(edited)
    run = cli("apply", "policies", "--yes", *words)
    assert run.code == 64
    assert said in run.err
    with open_store(edited) as store:
        assert read_live(store).next == 2


def test_one_agent_alone_is_refused(cli: Cli, edited: str) -> None:
    report_agent(edited)
    run = cli("apply", "policies", "--yes", "--canary", "5%")
    assert run.code == 1
    assert "edge-1 is the only agent" in run.err
    assert "--band none" in run.err
    with open_store(edited) as store:
        assert read_live(store).next == 2
    alone = cli("apply", "policies", "--yes", "--canary", "5%", "--band", "none", "--timeout", "1")
    assert alone.code == 124


def test_changes_are_shown_and_a_question_is_asked(cli: Cli, edited: str) -> None:
    report_agent(edited)
    report_agent(edited, id="edge-2")
    assert cli("apply", "policies", "--canary", "5%").code == 64, "nobody to ask"
    dry = cli("apply", "policies", "--canary", "5%", "--dry-run")
    assert dry.code == 0
    assert "not published (--dry-run)" in dry.out
    declined = cli("apply", "policies", "--canary", "5%", stdin="n\n", tty=True)
    assert declined.code == 1
    assert "Try generation 2 in 5% of all agents of sqlite:///" in declined.err


def test_status_of_a_running_one(
    cli: Cli, edited: str, golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ratectl.rollout._start._fresh_id", lambda: f"{15:032x}")  # tries edge-2
    report_agent(edited)
    report_agent(edited, id="edge-2")
    cli("apply", "policies", "--yes", "--canary", "5%", "--timeout", "1")
    golden("rollout_status", cli("rollout", "status").out)


def test_the_document_of_a_rollout(cli: Cli, edited: str) -> None:
    report_agent(edited)
    report_agent(edited, id="edge-2")
    started = time.monotonic()
    run = cli("apply", "policies", "--yes", "--canary", "5%", "--timeout", "1", "-o", "json")
    assert time.monotonic() - started < 5
    assert run.code == 124
    assert json.loads(run.out)["state"] == "running"


def test_effect_of_a_candidate_in_shadow(
    cli: Cli, tree: Path, published: str, agents: list[Agent]
) -> None:
    (tree / "all.yaml").write_text(TREE.replace("rate: 20/s", "rate: 20/s, burst: 3"))
    begun = cli("apply", "policies", "--yes", "--shadow")
    assert begun.code == 0
    assert "generation 2, evaluated beside generation 1: running" in begun.out
    wait_for(lambda: all(agent._following.shadow.rollout for agent in agents), "all evaluate it")
    for agent in agents:
        assert [agent.check("/shop", {"client": "a"}).allowed for _ in range(5)] == [True] * 5
    wait_for(
        lambda: cli("rollout", "status", "-o", "json").document["shadow"]["requests"] == 15,
        "all have reported",
    )
    out = cli("rollout", "status").out
    assert "evaluated in 3 of 3 agents, 15 requests" in out
    assert "6 (40.00%) refused that are allowed now" in out
    assert "/shop  spike        6        0" in out
    shadow = cli("rollout", "status", "-o", "json").document["shadow"]
    assert shadow["limits"] == [
        {"scope": "/shop", "limit": "spike", "newly_refused": 6, "newly_allowed": 0}
    ]
    assert {agent.generation for agent in agents} == {1}


def test_a_shadow_candidate_cannot_be_paused(cli: Cli, edited: str) -> None:
    assert cli("apply", "policies", "--yes", "--shadow").code == 0
    run = cli("rollout", "pause")
    assert run.code == 77
    assert "has no stages" in run.err
