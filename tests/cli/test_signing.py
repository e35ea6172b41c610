"""Keys and signed generations on the command line, with real agents."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from cli_support import PROGRAM, TREE

from etcd_server import wait_for
from ratectl import Agent
from ratectl.fleet.usage import read_agents
from ratectl.history.generations import read_live
from ratectl.signing.continuation import read_environment
from ratectl.stores import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from cli_support import Cli

QUICK = ("--bake", "0", "--min-requests", "0")


@pytest.mark.parametrize("name", ["", "keys/"])
def test_a_key_needs_a_name(cli: Cli, clean_place: Path, name: str) -> None:
    run = cli("key", "generate", name)
    assert run.code == 64
    assert "a key has a name" in run.err
    assert list(clean_place.iterdir()) == []


def test_a_key_for_one_environment(
    cli: Cli, edited: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = cli("key", "generate", "here", "--bind", "-o", "json").document
    with open_store(edited) as store:
        assert made["environment"] == read_environment(store).id  # type: ignore[union-attr]
    assert cli("apply", "policies", "--yes", "--sign", "here.key").code == 0
    monkeypatch.setenv("RATECTL_STORE", f"sqlite:///{tmp_path}/other.db")
    other = cli("apply", "policies", "--yes", "--sign", "here.key")
    assert other.code == 77
    assert "but the key is for" in other.err
    assert cli("history", "-o", "json").document["generations"] == []


def test_signed_from_end_to_end(
    cli: Cli, tree: Path, edited: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("key", "generate", "platform").code == 0
    assert cli("key", "generate", "platform").code == 64
    assert cli("apply", "policies", "--yes", "--sign", "nowhere.key").code == 64
    assert cli("apply", "policies", "--yes", "--sign", "platform.key").code == 0
    with Agent(
        edited, id="edge", state_dir=tmp_path / "agents", public_keys=["platform.pub"],
        report_interval=0.1,
    ) as agent:  # fmt: skip
        assert agent.generation == 2
        with open_store(edited) as store:
            environment = read_environment(store)
        assert environment is not None
        said = f"signature    generation 2 is signed, for environment {environment.id}"
        assert said in cli("doctor").out
        (tree / "all.yaml").write_text(TREE.replace("50/s", "52/s"))
        unsigned = cli("apply", "policies", "--yes")
        assert unsigned.code == 77
        assert "the live generation is signed" in unsigned.err
        assert "--allow-unsigned" in unsigned.err
        assert cli("rollback", "--yes").code == 77
        with open_store(edited) as store:
            wait_for(lambda: read_agents(store), "it reports")
        monkeypatch.setenv("RATECTL_SIGN_KEY", "platform.key")
        assert (
            cli("apply", "policies", "--yes", "--canary", "100%", "--band", "none", *QUICK).code
            == 0
        )
        assert agent.wait_for_generation(3, 5)
        assert cli("rollback", "--yes", "--to", "2").code == 0
        assert agent.wait_for_generation(4, 5)
        assert cli("panic", "on", "--scope", "/", "--reason", "INC-42", "--wait").code == 0
        assert cli("panic", "off", "--wait").code == 0
        monkeypatch.delenv("RATECTL_SIGN_KEY")
        assert cli("panic", "on", "--scope", "/", "--reason", "INC-42").code == 77
        ended = cli("apply", "policies", "--yes", "--allow-unsigned", "moving to mTLS")
        assert ended.code == 0
        wait_for(lambda: "not signed" in (agent.status.error or ""), "it is refused")
        assert agent.generation == 4
        with open_store(edited) as store:
            wait_for(lambda: read_agents(store)[0].state == "rejected", "that is reported")
        assert cli("doctor").code == 1
    passed = cli("history", "-o", "json").document["generations"][0]["passed"]
    assert passed == {"unsigned": "moving to mTLS"}


def test_an_agent_process_takes_public_keys(
    cli: Cli, tree: Path, edited: str, tmp_path: Path
) -> None:
    assert cli("key", "generate", "platform").code == 0
    words = ["agent", "run", "--id", "edge", "--public-key", "platform.pub"]
    with subprocess.Popen(
        [*PROGRAM, *words],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            with open_store(edited) as store:
                (record,) = wait_for(lambda: read_agents(store), "it reports", 20)
                wait_for(lambda: read_agents(store)[0].error, "it refuses what is not signed")
                assert cli("apply", "policies", "--yes", "--sign", "platform.key").code == 0
                wait_for(lambda: read_agents(store)[0].generation == 2, "it takes what is signed")
        finally:
            process.terminate()
    assert record.id == "edge"
    assert process.returncode == 0


def test_the_live_generation_can_be_signed_by_another_key(
    cli: Cli, published: str, tmp_path: Path
) -> None:
    """Signing starts, and keys are replaced, without a change of policies."""
    for name in ("old", "new"):
        assert cli("key", "generate", name).code == 0
    assert cli("apply", "policies", "--yes", "--sign", "nowhere.key").code == 64
    assert cli("apply", "policies", "--yes", "--sign", "old.pub").code == 64
    assert cli("apply", "policies", "--yes", "--sign", "old.key").code == 0
    with Agent(
        published, id="edge", state_dir=tmp_path / "agents", public_keys=["old.pub", "new.pub"]
    ) as agent:
        assert agent.generation == 2
        again = cli("apply", "policies", "--yes", "--sign", "old.key")
        assert "nothing to do: generation 2" in again.out
        assert "nothing to do" in cli("apply", "policies", "--yes").out, "no key is needed for that"
        assert cli("apply", "policies", "--yes", "--sign", "new.key", "--shadow").code == 77
        assert cli("apply", "policies", "--yes", "--sign", "new.key").code == 0
        assert agent.wait_for_generation(3, 5)
    refused = cli("rollback", "--yes", "--to", "1", "--sign", "new.key")
    assert "generation 1 is live" not in refused.err
    assert (
        cli("apply", "policies", "--yes", "--sign", "new.key", "--allow-unsigned", "x").code == 64
    )
    assert cli("apply", "policies", "--yes", "--allow-unsigned", "moving to mTLS").code == 0
    with open_store(published) as store:
        head = read_live(store).head
    assert head is not None
    assert (head.generation, head.signature) == (4, None)


def test_policies_signed_by_another_key_are_not_signed_again(
    cli: Cli, tree: Path, published: str
) -> None:
    for name in ("old", "new"):
        assert cli("key", "generate", name).code == 0
    for rate in ("51/s", "52/s"):
        (tree / "all.yaml").write_text(TREE.replace("50/s", rate))
        assert cli("apply", "policies", "--yes", "--sign", "old.key").code == 0
    run = cli("rollback", "--yes", "--sign", "new.key")
    assert run.code == 77
    assert "it was not signed by this key" in run.err
    assert "ratectl pull --generation 2" in run.err
    (tree / "all.yaml").write_text(TREE)
    shadow = cli("apply", "policies", "--yes", "--shadow", "--sign", "new.key")
    assert shadow.code == 77
    assert "Apply its files with this key first" in shadow.err
