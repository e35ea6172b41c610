"""``rollback``: its target, and its messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cli_support import TREE

from ratectl.errors import Conflict
from ratectl.history.generations import read_live
from ratectl.publishing._publish import publish
from ratectl.publishing._publish import rollback as publish_again
from ratectl.publishing.provenance import Provenance
from ratectl.stores import open_store
from support import simple

if TYPE_CHECKING:
    from pathlib import Path

    from cli_support import Cli


@pytest.fixture
def three(cli: Cli, tree: Path, published: str) -> str:
    """Three generations; the last one is bad."""
    for rate in ("51/s", "52/s"):
        (tree / "all.yaml").write_text(TREE.replace("50/s", rate))
        assert cli("apply", "policies", "--yes").code == 0
    return published


def test_a_second_rollback_does_not_bring_the_bad_generation_back(cli: Cli, three: str) -> None:
    assert cli("rollback", "--yes").code == 0
    run = cli("rollback", "--yes")
    assert (run.code, run.out) == (64, "")
    assert run.err == (
        "error: generation 4, which is live, is a rollback from generation 3 to 2: name "
        "the one to publish now with --to GEN\n"
        "  hint: --to 3 brings back what was rolled back; --to 1 goes back further\n"
    )
    assert cli("history", "-o", "json").document["live"] == 4
    assert cli("rollback", "--yes", "--to", "1").code == 0
    run = cli("rollback", "--yes")
    assert run.code == 64
    assert "is a rollback from generation 4 to 1" in run.err
    assert "--to 4 brings back what was rolled back; none older than 1 is kept" in run.err


def test_a_generation_applied_after_a_rollback_can_be_rolled_back(
    cli: Cli, tree: Path, three: str
) -> None:
    assert cli("rollback", "--yes").code == 0
    (tree / "all.yaml").write_text(TREE.replace("50/s", "53/s"))
    assert cli("apply", "policies", "--yes").code == 0
    assert cli("rollback", "--yes").code == 0
    assert cli("history", "-o", "json").document["generations"][0]["rollback_of"] == 4


def test_a_rollback_to_an_aborted_candidate_warns(cli: Cli, tree: Path, three: str) -> None:
    (tree / "all.yaml").write_text(TREE.replace("50/s", "53/s"))
    assert cli("apply", "policies", "--yes", "--shadow").code == 0
    refused = cli("rollback", "--to", "1")
    assert refused.code == 75, "before anybody is asked"
    assert "generation 4 is being tried" in refused.err
    assert cli("rollout", "abort", "--reason", "refuses readers").code == 0
    run = cli("rollback", "--to", "4", "--yes")
    assert run.code == 0
    assert run.err == (
        "warning: generation 4 was never live: Ada Tester <ada@example.org> aborted it: refuses "
        "readers\n"
    )
    assert cli("rollback", "--to", "2", "--yes").err == ""


def test_sets_that_lose_policies_are_named(cli: Cli, tree: Path, published: str) -> None:
    words = ("apply", "policies", "--yes", "--set", "shop", "--take-ownership", "/")
    assert cli(*words).code == 0
    run = cli("rollback", "--yes")
    assert run.code == 0
    assert run.err == "warning: set shop loses what it owns: it owns nothing in generation 1\n"
    assert cli("rollback", "--to", "2", "--yes").err == ""


def test_a_lost_race_hints_to_repeat_the_rollback(three: str) -> None:
    with open_store(three) as store:
        base = read_live(store)
        publish(store, simple("9/s"), Provenance("Eve", ""))
        with pytest.raises(Conflict, match="look at the change and roll back again"):
            publish_again(store, 1, Provenance("Ada", ""), base=base)
        with pytest.raises(Conflict, match="look at the change and apply again"):
            publish(store, simple("8/s"), Provenance("Ada", ""), base=base)
