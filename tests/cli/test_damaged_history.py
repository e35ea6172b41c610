"""An unreadable entry of the history or of rollouts is named by its key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ratectl.stores import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from cli_support import Cli


@pytest.fixture
def generations(cli: Cli, published: str, tree: Path) -> str:
    """A store with three generations."""
    for rate in ("60/s", "70/s"):
        text = (tree / "all.yaml").read_text().replace("50/s", rate).replace("60/s", rate)
        (tree / "all.yaml").write_text(text)
        assert cli("apply", "policies", "--yes").code == 0
    return published


@pytest.mark.parametrize("key", ["history/0000000001", "rollouts/0000000001"])
def test_history_shows_readable_entries(cli: Cli, generations: str, key: str) -> None:
    with open_store(generations) as store:
        store.put(key, b"garbage")
    run = cli("history", "-o", "json")
    assert run.code == 0, run.err
    assert f"warning: {key} is left out: not a readable" in run.err
    known = [each["generation"] for each in run.document["generations"]]
    assert known == ([3, 2] if key.startswith("history") else [3, 2, 1])


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (("rollback", "--yes"), "history/0000000001"),
        (("rollback", "--yes"), "rollouts/0000000001"),
        (("blame", "/"), "rollouts/0000000001"),
        (("rollout", "status"), "rollouts/0000000001"),
    ],
)
def test_commands_that_need_all_entries_name_the_damaged_one(
    cli: Cli, generations: str, words: tuple[str, ...], key: str
) -> None:
    with open_store(generations) as store:
        store.put(key, b"garbage")
    run = cli(*words)
    assert run.code == 65
    assert f"{key} is damaged (not a readable" in run.err


@pytest.mark.parametrize("key", ["history/0000000001", "rollouts/0000000001"])
def test_a_rollback_with_to_works(cli: Cli, generations: str, key: str) -> None:
    with open_store(generations) as store:
        store.put(key, b"garbage")
    run = cli("rollback", "--to", "2", "--yes")
    assert run.code == 0, run.err
