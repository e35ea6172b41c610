"""``ratectl panic``, and other commands that show a switch."""

from __future__ import annotations

import os
import shlex
import stat
from typing import TYPE_CHECKING

import pytest
from cli_support import limit_report, report_agent

import ratectl
from etcd_server import wait_for
from ratectl.kill_switch.switches import PANIC, Switch, Switches
from ratectl.records import HEAD, Obeyed
from ratectl.stores import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from cli_support import Cli

    from conftest import Golden

DEAD = "etcd://127.0.0.1:1/x"
ON = ("panic", "on", "--scope", "/shop", "--reason", "INC-42: checkout refuses everybody")
SEQUENCE = 1_000_000_000_000
"""As of 2001: whoever is behind it has been for long."""


def on_since(url: str, *switches: Switch) -> None:
    """Turn on switches at 11:58."""
    with open_store(url) as store:
        store.put(PANIC, Switches(SEQUENCE, switches).encode())


def switch(scope: str = "/shop", reason: str = "INC-42", mode: str = "open") -> Switch:
    assert mode in ("open", "shadow")
    return Switch(
        scope=scope,
        mode=mode,  # type: ignore[arg-type]
        reason=reason,
        author="Ada Tester <ada@example.org>",
        time="2026-11-23T11:58:00.000Z",
    )


def state_file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ratectl" / "panic.json"


def test_a_typical_session(cli: Cli, golden: Golden, published: str) -> None:
    report_agent(published, id="edge-1")
    said = []
    for words in (
        ("panic",),
        ON,
        ("panic", "on", "--scope", "/", "--reason", "INC-43", "--shadow"),
        ("panic",),
        ("panic", "off", "--scope", "/elsewhere"),
        ("panic", "off", "--scope", "/shop"),
        ("panic", "off"),
        ("panic", "off"),
    ):
        run = cli(*words)
        assert (run.code, run.err) == (0, "")
        said.append(f"$ ratectl {' '.join(words)}\n{run.out}")
    golden("panic", "\n".join(said))


@pytest.mark.parametrize("command", [("agents",), ("usage",), ("doctor",), ("panic",)])
def test_other_commands_show_the_switch(
    cli: Cli, golden: Golden, published: str, command: tuple[str, ...]
) -> None:
    store, file = (
        Obeyed(scope="/shop", mode="open", source=source) for source in ("store", "file")
    )
    on_since(published, switch(), switch("/small", mode="shadow"))
    now = "2026-11-23T11:59:59.000Z"
    report_agent(published, id="edge-1", panic=[store], panic_sequence=SEQUENCE, reported=now)
    report_agent(published, id="edge-2", panic=[file], panic_sequence=SEQUENCE, reported=now)
    report_agent(published, id="edge-3", reported=now, limits=[limit_report("/shop", "spike")])
    run = cli(*command)
    assert run.code == (1 if command == ("doctor",) else 0)
    golden(f"panic-{command[0]}", run.out)
    document = cli(*command, "-o", "json").document
    if command in (("agents",), ("usage",)):
        assert [each["scope"] for each in document["panic"]] == ["/shop", "/small"]
    if command == ("agents",):
        told = {each["id"]: each for each in document["agents"]}
        assert [told[f"edge-{n}"]["panic_behind"] for n in (1, 2, 3)] == [False, False, True]
        assert told["edge-2"]["panic"] == [{"scope": "/shop", "mode": "open", "source": "file"}]


@pytest.mark.parametrize(
    "words", [("plan", "policies"), ("apply", "policies", "--yes"), ("rollback", "--yes")]
)
def test_publishing_commands_warn(
    cli: Cli, tree: Path, published: str, words: tuple[str, ...]
) -> None:
    (tree / "more.yaml").write_text("{apiVersion: ratectl/v1, scope: /more}\n")
    assert cli("apply", "policies", "--yes").code == 0
    assert "panic" not in cli("plan", "policies").err
    on_since(published, switch())
    run = cli(*words)
    assert run.code == 0
    assert run.err == (
        "warning: limits are open at and below /shop: INC-42 (Ada Tester, 2 min ago). Undo: "
        "ratectl panic off --scope /shop\n"
    )


def test_waiting_for_agents_to_obey(cli: Cli, published: str, tmp_path: Path) -> None:
    assert cli(*ON, "--wait").code == 1
    with ratectl.Agent(published, state_dir=tmp_path / "agent", report_interval=0.1) as agent:
        wait_for(lambda: "serving" in cli("agents").out, "it reports")
        assert not all(agent.check("/small/tiny") for _ in range(9))
        run = cli("panic", "on", "--scope", "/small", "--reason", "INC-1", "--wait")
        assert (run.code, run.err) == (0, "")
        assert "obeyed by 1 of 1 agent\n" in run.out
        assert all(agent.check("/small/tiny") for _ in range(9))
        assert "obeyed by 1 of 1 agent\n" in cli("panic", "off", "--wait").out
        assert not all(agent.check("/small/tiny") for _ in range(9))


def test_an_agent_that_does_not_obey_in_time(cli: Cli, published: str) -> None:
    report_agent(published, id="edge-1")
    run = cli(*ON, "--wait", "--timeout", "1", "-o", "json")
    assert run.code == 124
    assert run.document["agents"] == {"outcome": "timeout", "obeying": [], "behind": ["edge-1"]}


def test_a_misspelt_scope_is_switched_on_with_a_warning(cli: Cli, published: str) -> None:
    run = cli("panic", "on", "--scope", "/shpo", "--reason", "INC-1")
    assert run.code == 0
    assert run.err == "warning: no policy is at or below /shpo: is the scope correct?\n"
    for scope in ("/shop", "/shop/cart", "/small", "/"):
        assert cli("panic", "on", "--scope", scope, "--reason", "INC-1").err == ""


@pytest.mark.parametrize("words", [ON, ("panic", "off")])
def test_an_unreadable_record_is_replaced(cli: Cli, published: str, words: tuple[str, ...]) -> None:
    with open_store(published) as store:
        store.put(PANIC, b"junk")
    assert cli("panic").code == 65
    for command in ("usage", "agents"):
        run = cli(command)
        assert run.code == 0
        assert "warning: the kill switch's record cannot be read" in run.err
    assert "failed   panic        the kill switch's record cannot be read" in cli("doctor").out
    run = cli(*words)
    assert run.code == 0
    assert run.err.startswith("warning: the kill switch's record cannot be read")
    assert "it was replaced" in run.err
    assert cli("panic").code == 0


def test_switches_are_shown_beside_a_damaged_head(cli: Cli, published: str) -> None:
    assert cli(*ON).code == 0
    with open_store(published) as store:
        store.put(HEAD, b"junk")
    run = cli("panic")
    assert (run.code, run.err) == (0, "")
    assert "INC-42" in run.out


# -- without a store


def test_a_local_file_works_without_a_store(cli: Cli, tmp_path: Path, golden: Golden) -> None:
    run = cli(*ON, "--store", DEAD)
    assert run.code == 69
    assert "hint: `ratectl panic on --local` needs no store: run it on each machine" in run.err
    (tmp_path / "state" / "ratectl" / "agents").mkdir(parents=True)
    run = cli(*ON, "--store", DEAD, "--local")
    assert (run.code, run.err) == (0, "")
    golden("panic-local", run.out.replace(str(tmp_path), "<tmp>"))
    with ratectl.Agent(DEAD, ready_timeout=0, on_error="deny") as agent:
        assert agent.check("/shop/cart")
        assert not agent.check("/")
        assert cli("panic", "off", "--local").code == 0
        wait_for(lambda: not agent.check("/shop/cart"), "it is off")
    assert not state_file(tmp_path).exists()


def test_the_printed_undo_command_works(cli: Cli, tmp_path: Path) -> None:
    place = tmp_path / "a place"
    run = cli(*ON, "--local", "--state-dir", str(place))
    undo = f"ratectl panic off --scope /shop --local --state-dir '{place}'"
    assert undo in run.out
    assert (place / "panic.json").exists()
    cli("panic", "off", "--scope", "/shop", "--local", "--state-dir", str(place))
    assert not (place / "panic.json").exists()


def test_a_file_that_no_agent_reads_gets_a_warning(cli: Cli, tmp_path: Path) -> None:
    run = cli(*ON, "--local")
    assert run.code == 0
    assert "no agent has used the state directory" in run.err
    assert cli("panic", "--local").out.splitlines()[0] == f"{state_file(tmp_path)}:"


def test_switches_of_a_file_add_up(cli: Cli, tmp_path: Path) -> None:
    cli(*ON, "--local")
    cli("panic", "on", "--scope", "/", "--reason", "INC-2", "--shadow", "--local")
    shown = cli("panic", "--local", "-o", "json").document["local"]
    assert [(each["scope"], each["mode"]) for each in shown["switches"]] == [
        ("/", "shadow"), ("/shop", "open"),
    ]  # fmt: skip
    cli("panic", "off", "--scope", "/", "--local")
    assert "/shop  open" in cli("panic", "--local").out


def test_an_invalid_file_is_replaced(cli: Cli, tmp_path: Path) -> None:
    path = state_file(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text("junk")
    assert "cannot be read" in cli("panic", "--local").out
    run = cli(*ON, "--local")
    assert run.code == 0
    assert "it was replaced" in run.err
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_file_that_cannot_be_written_is_an_error(cli: Cli, tmp_path: Path) -> None:
    blocker = tmp_path / "blocker"
    blocker.write_text("")
    run = cli(*ON, "--local", "--state-dir", str(blocker))
    assert run.code == 69
    assert str(blocker) in run.err
    os.mkfifo(tmp_path / "panic.json")
    run = cli(*ON, "--local", "--state-dir", str(tmp_path))
    assert run.code == 0, "what is there is no file, and replaced"
    assert (tmp_path / "panic.json").is_file()


# -- by the store, while a file says otherwise


def test_off_considers_switches_in_a_local_file(
    cli: Cli, published: str, golden: Golden, tmp_path: Path
) -> None:
    (tmp_path / "state" / "ratectl" / "agents").mkdir(parents=True)
    assert cli("panic", "on", "--scope", "/", "--reason", "INC-1", "--local").code == 0
    assert cli("panic", "on", "--scope", "/", "--reason", "INC-2").code == 0
    said = []
    for words in (("panic", "off"), ("panic", "off")):
        run = cli(*words)
        assert (run.code, run.err) == (0, "")
        said.append(f"$ ratectl {' '.join(words)}\n{run.out}")
    golden("panic-off-by-file", "\n".join(said))
    found = cli("panic", "off", "-o", "json").document
    assert found["switches"] == []
    assert [each["scope"] for each in found["local"]["switches"]] == ["/"]
    state_file(tmp_path).write_text("junk")
    assert f"warning: {state_file(tmp_path)}: the kill switch's record" in cli("panic", "off").out


def test_off_considers_switches_that_agents_report(cli: Cli, published: str) -> None:
    assert cli(*ON).code == 0
    obeyed = [Obeyed(scope="/", mode="open", source="file")]
    report_agent(published, id="edge-1", panic=obeyed)
    report_agent(published, id="edge-2")
    run = cli("panic", "off", "-o", "text")
    assert run.out == (
        "the switch at /shop is off\nalso on: edge-1 obeys a file on its machine: open /\n"
        f"where:  {published}\n"
    )
    assert cli("panic", "off", "-o", "json").document["obeying_files"] == ["edge-1"]


def test_off_in_a_file_ignores_the_store(cli: Cli) -> None:
    cli(*ON, "--local")
    out = cli("panic", "off", "--local", "--store", DEAD).out
    assert "is off: limits apply again there, unless a switch in the store is on\n" in out


def test_the_printed_follow_command_shows_the_switch(cli: Cli, tmp_path: Path) -> None:
    place = tmp_path / "a place"
    run = cli(*ON, "--local", "--state-dir", str(place))
    follow = next(line for line in run.out.splitlines() if line.startswith("follow: "))
    program, *words = shlex.split(follow.removeprefix("follow: "))
    assert program == "ratectl"
    assert "INC-42: checkout refuses everybody" in cli(*words).out


def test_names_and_reasons_are_escaped(cli: Cli, published: str) -> None:
    cli("panic", "on", "--scope", "/shop", "--reason", "a\x1b[2Jb\nc")
    for command in ("panic", "usage", "doctor"):
        run = cli(command)
        assert "\x1b" not in run.out
        assert "a\\x1b[2Jb\\nc" in run.out
