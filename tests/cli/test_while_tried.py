"""Other commands while a candidate is being tried."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

import pytest
from cli_support import TREE, report_agent

from ratectl.rollout import read_rollout
from ratectl.rollout.presence import Presence
from ratectl.stores import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from cli_support import Cli

FIRST = "generation 2 is being tried beside generation 1"


@pytest.fixture
def tried(cli: Cli, tree: Path, published: str) -> str:
    """Generation 2 is evaluated beside generation 1, and the files contain a third."""
    (tree / "all.yaml").write_text(TREE.replace("50/s", "51/s"))
    assert cli("apply", "policies", "--yes", "--shadow").code == 0
    (tree / "all.yaml").write_text(TREE.replace("50/s", "52/s"))
    return published


def test_a_dry_run_is_refused_like_apply(cli: Cli, tried: str) -> None:
    for words in (("--dry-run",), ("--dry-run", "--shadow"), ("--yes",), ()):
        run = cli("apply", "policies", *words)
        assert run.code == 75, "also before anybody is asked"
        assert FIRST in run.err
        assert "it would be generation" not in run.out
    assert cli("rollout", "abort").code == 0
    assert "it would be generation 3" in cli("apply", "policies", "--dry-run").out


def test_a_plan_notes_that_it_cannot_be_applied_yet(cli: Cli, tree: Path, tried: str) -> None:
    for text in (TREE.replace("50/s", "52/s"), TREE):
        (tree / "all.yaml").write_text(text)
        run = cli("plan", "policies")
        assert run.code == 0
        assert f"notice: {FIRST}: `ratectl rollout promote` or" in run.out
        assert f"**Notice**: {FIRST}: " in cli("plan", "policies", "--format", "markdown").out
        assert cli("plan", "policies", "-o", "json").document["candidate"] == 2
    assert cli("rollout", "abort").code == 0
    assert FIRST not in cli("plan", "policies").out
    assert cli("plan", "policies", "-o", "json").document["candidate"] is None


@pytest.fixture
def abandoned(cli: Cli, tree: Path, published: str) -> str:
    """Generation 2 is tried in every agent, and its controller has ended."""
    report_agent(published)
    (tree / "all.yaml").write_text(TREE.replace("50/s", "51/s"))
    words = ("--canary", "100%", "--band", "none", "--timeout", "0.5")
    assert cli("apply", "policies", "--yes", *words).code == 124
    return published


def test_a_candidate_without_a_controller_gets_a_warning(cli: Cli, abandoned: str) -> None:
    nobody = "control:  no process controls it, so no more agents join\n"
    assert nobody in cli("rollout", "status").out
    assert cli("rollout", "status", "-o", "json").document["controller"] is None
    said = (
        "warning  rollout      generation 2 is tried at 100%, and nobody controls it: `ratectl "
        "rollout run` goes on, `ratectl rollout abort` ends it\n"
    )
    assert said in cli("doctor").out
    with open_store(abandoned) as store:
        presence = Presence(store, read_rollout(store).record.id, time.monotonic)
        assert presence.keep()
        here = f"process {os.getpid()} on {socket.gethostname()}, started "
        assert f"control:  {here}" in cli("rollout", "status").out
        found = cli("rollout", "status", "-o", "json").document["controller"]
        assert (found["host"], found["pid"]) == (socket.gethostname(), os.getpid())
        assert f"ok       rollout      generation 2 is tried at 100%, controlled by {here}" in (
            cli("doctor").out
        )
        presence.leave()
    assert cli("rollout", "abort").code == 0
    assert "control:" not in cli("rollout", "status").out
    assert " rollout   " not in cli("doctor").out


def test_a_shadow_candidate_needs_no_controller(cli: Cli, tried: str) -> None:
    assert "control:" not in cli("rollout", "status").out
    assert " rollout   " not in cli("doctor").out


def test_waiting_for_another_controller_is_reported(cli: Cli, abandoned: str) -> None:
    with open_store(abandoned) as store:
        presence = Presence(store, read_rollout(store).record.id, time.monotonic)
        assert presence.keep()
        run = cli("rollout", "run", "--timeout", "0.5")
        presence.leave()
    assert run.code == 124
    who = f"process {os.getpid()} on {socket.gethostname()}"
    assert run.err == f"100%: waiting to see if its controller, {who}, is still alive\n"
