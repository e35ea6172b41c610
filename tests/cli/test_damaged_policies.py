"""Policies whose bytes are damaged in the store are repaired by applying them again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ratectl.history.generations import read_live
from ratectl.records import MANIFESTS, chunk_key
from ratectl.stores import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from cli_support import Cli


@pytest.mark.parametrize("part", ["chunk", "manifest"])
def test_damaged_live_policies_can_be_applied_again(
    cli: Cli, published: str, tree: Path, part: str
) -> None:
    with open_store(published) as store:
        head = read_live(store).head
        assert head is not None
        key = MANIFESTS + head.bundle if part == "manifest" else chunk_key(head.bundle, 0)
        store.put(key, b"garbage")
    run = cli("apply", "policies", "--yes")
    assert run.code == 0, run.err
    assert "generation 2 is live" in run.out
    again = cli("apply", "policies", "--yes")
    assert again.code == 0
    assert "generation 1" not in again.err, "it can be read"
    assert cli("diff", "policies").code == 0


def test_a_rollback_to_damaged_policies_names_the_key(cli: Cli, published: str, tree: Path) -> None:
    with open_store(published) as store:
        head = read_live(store).head
        assert head is not None
        (tree / "all.yaml").write_text((tree / "all.yaml").read_text().replace("50/s", "60/s"))
        assert cli("apply", "policies", "--yes").code == 0
        store.put(MANIFESTS + head.bundle, b"garbage")
    run = cli("rollback", "--to", "1", "--yes")
    assert run.code == 65
    assert f"{MANIFESTS}{head.bundle}" in run.err
