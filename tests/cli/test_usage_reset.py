"""``ratectl usage reset``, and the history of resets."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest
from cli_support import limit_report, report_agent
from terminal_support import Terminal

import ratectl
from agent.reset_support import stored
from etcd_server import wait_for
from fleet.reports import agent
from ratectl.fleet.convergence import Standing
from ratectl.records import utc_now
from ratectl.resets.orders import RESETS, key_hash
from ratectl.stores import open_store
from support import policies, publish_policies

if TYPE_CHECKING:
    from pathlib import Path

    from cli_support import Cli

    from conftest import Golden
    from ratectl.resets.orders import Reset

WHY = ("--reason", "INC-42: their retry storm")
SPIKE = ("usage", "reset", "/shop", "--limit", "spike", "--key", "acme", *WHY)
STEADY = ("usage", "reset", "/shop", "--limit", "steady", *WHY)


def test_a_typical_session(cli: Cli, golden: Golden, published: str) -> None:
    busiest = [("acme", 940, 10, 1.0), ("zeta", 90, 0, None)]
    limits = [limit_report("/shop", "spike", busiest=busiest), limit_report("/", "spike")]
    report_agent(published, id="edge-1", limits=limits, reset_sequence=0)
    report_agent(published, id="edge-2", limits=limits, reset_sequence=0)
    report_agent(published, id="old-1")
    said = []
    for words in (
        (*SPIKE, "--yes"),
        (*STEADY, "-a", "client=a b", "--absent", "route", "--yes", "-q"),
        ("history",),
        ("history", "-n", "1"),
    ):
        run = cli(*words)
        assert (run.code, run.err) == (0, "")
        said.append(f"$ ratectl {' '.join(words)}\n{run.out}")
    golden("usage-reset", "\n".join(said))


def test_the_key_is_in_the_history_as_a_hash_only(cli: Cli, published: str) -> None:
    document = cli(*SPIKE, "--yes", "-o", "json").document
    assert (document["key"], document["key_hash"]) == (
        {"client": "acme"}, key_hash({"client": "acme"})
    )  # fmt: skip
    history = cli("history", "-o", "json")
    assert "acme" not in history.out
    (past,) = history.document["resets"]
    assert past["key_hash"] == document["key_hash"]
    assert (past["scope"], past["limit"], past["attributes"]) == ("/shop", "spike", ["client"])
    assert (past["sequence"], past["signed"]) == (document["sequence"], False)


def test_limits_across_the_cluster_are_not_filled_by_a_reset(cli: Cli, store_url: str) -> None:
    shared = {"rate": "9/s", "across": "cluster"}
    limits = {"one": shared, "each": {**shared, "per": "tenant"}, "own": {"rate": "9/s"}}
    with open_store(store_url) as store:
        publish_policies(store, policies(**{"/": {"limits": limits}}))

    def warned(*words: str) -> str:
        return cli("usage", "reset", "/", "--limit", *words, *WHY, "--yes").err

    before = "is one limit for all processes: a reset does not fill its owner's pool, and "
    assert f"one {before}takes away the tokens that agents have now" in warned("one")
    assert f"each {before}makes full only what agents have of the key" in warned(
        "each", "--key", "a"
    )
    assert warned("own") == ""


def test_nobody_to_ask_and_no_yes(cli: Cli, published: str) -> None:
    run = cli(*SPIKE)
    assert run.code == 64
    assert "add --yes to go on without the question" in run.err
    assert "client=acme" in run.out, "the preview"
    assert stored(published) == ()
    assert cli(*SPIKE, "-o", "json").code == 64


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1), ("", 1)])
def test_question_on_a_terminal(published: str, answer: str, code: int) -> None:
    terminal = Terminal(*SPIKE)
    terminal.read_until("Make the buckets of this key full in sqlite:")
    terminal.type(f"{answer}\n")
    assert terminal.finish() == code
    assert len(stored(published)) == 1 - code


def test_agents_obey_and_are_waited_for(
    cli: Cli, published: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ratectl.resets.ordering.utc_now", utc_now)  # agents have the real clock
    assert cli(*SPIKE, "--yes", "--wait").code == 1, "there is no agent"
    key = {"client": "acme"}
    agents = [
        ratectl.Agent(published, id=name, state_dir=tmp_path / name, report_interval=0.1)
        for name in ("one", "two")
    ]
    with agents[0], agents[1]:
        wait_for(lambda: cli("agents").out.count("serving") == 2, "both report")
        for agent in agents:
            while agent.check("/shop", key):
                pass
        run = cli("usage", "reset", "/shop", "--limit", "spike", "--key", "acme", *WHY, "--yes",
                  "--wait")  # fmt: skip
        assert (run.code, run.err) == (0, "")
        assert "obeyed by 2 of 2 agents\n" in run.out
        assert "2 will obey, each once, within 2 min" in run.out


def test_agent_that_does_not_obey_in_time(cli: Cli, published: str) -> None:
    report_agent(published, id="edge-1", reset_sequence=7)
    run = cli(*SPIKE, "--yes", "--wait", "--timeout", "1", "-o", "json")
    assert run.code == 124
    assert run.document["agents"] == {
        "outcome": "timeout", "obeyed": [], "behind": ["edge-1"], "shared": []
    }  # fmt: skip
    shown = cli(*SPIKE, "--yes", "--wait", "--timeout", "1").out
    assert "not yet: edge-1" in shown
    assert re.search(r"^obeyed by 0 of 1 agent after 0\.[0-9]+ s$", shown, re.MULTILINE)


def test_time_that_is_up_after_the_order_does_not_leave_it_in_doubt(
    cli: Cli, published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(*_: object) -> None:
        time.sleep(60)

    monkeypatch.setattr("ratectl_cli.prompts.resetting.wait_until_obeyed", wait)
    run = cli(*SPIKE, "--yes", "--wait", "-q", "--timeout", "2")
    assert (run.code, len(stored(published))) == (124, 1)
    assert run.err.endswith("hint: the change was made: see `ratectl history`\n")


def test_shared_bucket_is_warned_of(
    cli: Cli, published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(_: object, reset: Reset, seconds: float) -> tuple[str, Standing]:
        full = agent("edge-1", reset_sequence=reset.sequence, reset_shared=1)
        return "reached", Standing([full, agent("edge-2", reset_sequence=reset.sequence)], [], [])

    monkeypatch.setattr("ratectl_cli.prompts.resetting.wait_until_obeyed", wait)
    run = cli(*SPIKE, "--yes", "--wait")
    assert (run.code, "obeyed by 2 of 2 agents" in run.out) == (0, True)
    assert run.err.startswith("warning: edge-1 is out of room: the key shares an overflow bucket")
    document = cli(*SPIKE, "--yes", "--wait", "-o", "json").document
    assert document["agents"]["shared"] == ["edge-1"]


def test_unreadable_record_is_replaced_with_a_warning(cli: Cli, published: str) -> None:
    with open_store(published) as store:
        store.put(RESETS, b"junk")
    run = cli(*SPIKE, "--yes")
    assert run.code == 0
    assert run.err.startswith("warning: the record of resets cannot be read")
    assert len(stored(published)) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--limit", "spkie", "--key", "a"), "did you mean spike?"),
        (("--limit", "steady", "--key", "a"), "add --attr client=VALUE --attr route=VALUE"),
        (("--limit", "spike", "-a", "clinet=a"), "did you mean client?"),
        (("--limit", "spike"), "add --key VALUE"),
        (("--limit", "spike", "--key", "a", "--expires", "11min"), "ten minutes at most"),
        (("--limit", "spike", "--key", "a", "--expires", "1h"), "from 1s to 10min, like --expires"),
        (("--limit", "spike", "--key", "a", "--expires", "soon"), "--expires: 'soon' is not a"),
        (("--limit", "spike", "--key", "a", "--reason", " "), "--reason is empty"),
        (("--limit", "spike", "--key", "a", "--confirm", "production"), "is not the name of"),
    ],
)
def test_mistakes(cli: Cli, published: str, words: tuple[str, ...], message: str) -> None:
    run = cli("usage", "reset", "/shop", *WHY, *words, "--yes")
    assert (run.code, run.out) == (64, "")
    assert message in run.err
    assert stored(published) == ()


def test_misspelt_scope(cli: Cli, published: str) -> None:
    run = cli("usage", "reset", "/shpo", "--limit", "spike", "--key", "a", *WHY, "--yes")
    assert (run.code, "did you mean /shop?" in run.err) == (64, True)


def test_nothing_is_published(cli: Cli, store_url: str) -> None:
    run = cli(*SPIKE, "--yes")
    assert (run.code, "ratectl apply" in run.err) == (65, True)


def test_usage_takes_scopes_as_before(cli: Cli, published: str) -> None:
    assert cli("usage", "/shop").code == cli("usage").code == 0
    assert "Usage: ratectl usage [OPTIONS] [SCOPE]" in cli("usage", "--help").out
    assert "Usage: ratectl usage reset [OPTIONS] {SCOPE}" in cli("usage", "reset", "--help").out
    assert "Usage: ratectl usage reset [OPTIONS] {SCOPE}" in cli("help", "usage", "reset").out


class TestProtection:
    def test_name_as_confirmation(self, cli: Cli, project: Path) -> None:
        name = ("-e", "production", "--confirm", "production")
        assert cli("apply", *name).code == 0
        run = cli(*SPIKE, "--yes", "-e", "production")
        assert (run.code, "add --confirm production" in run.err) == (64, True)
        run = cli(*SPIKE, *name)
        assert run.code == 0
        assert "in production (sqlite:" in run.out
        assert run.out.splitlines()[-1].startswith("where:  production (sqlite:")

    def test_signature(self, cli: Cli, published: str) -> None:
        assert cli("key", "generate", "me").code == 0
        assert cli("env", "protect", "shop", "--sign-required", "--store", published).code == 0
        run = cli(*SPIKE, "--yes")
        assert (run.code, "add --sign KEY" in run.err) == (77, True)
        assert stored(published) == ()
        assert cli(*SPIKE, "--yes", "--sign", "me.key").code == 0
        assert stored(published)[0].signature is not None

    def test_signed_generation(self, cli: Cli, published: str) -> None:
        assert cli("key", "generate", "me").code == 0
        assert cli("apply", "policies", "--yes", "--sign", "me.key").code == 0
        run = cli(*SPIKE, "--yes")
        assert (run.code, "the live generation is signed" in run.err) == (77, True)
