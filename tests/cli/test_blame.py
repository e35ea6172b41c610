"""``blame``: the generation that last changed each effective value."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cli_support import TREE

from ratectl.policy.read import load_valid
from ratectl.publishing import _publish as publishing
from ratectl.publishing._publish import publish
from ratectl.publishing.provenance import Provenance
from ratectl.records import history_key
from ratectl.stores import open_store

if TYPE_CHECKING:
    from cli_support import Cli

    from conftest import Golden

LESS = TREE.replace("20/s", "10/s")
CHANGES = (
    ("Bea", "less", LESS),
    ("Cem", "spelt otherwise", TREE.replace("20/s", "600/min")),
    ("Dan", "a smaller burst", LESS.replace("burst: 100", "burst: 90")),
    ("Eve", "for clients", LESS.replace("per: [client, route]", "per: client")),
)


@pytest.fixture
def changed(published: str) -> str:
    for author, message, text in CHANGES:
        Path("next.yaml").write_text(text)
        with open_store(published) as store:
            tree = load_valid(["next.yaml"]).tree
            assert publish(store, tree, Provenance(author, message, "c0ffee" * 6))
    return published


def generations(cli: Cli, scope: str = "/shop") -> dict[tuple[str | None, str], int]:
    values: list[dict[str, Any]] = cli("blame", scope, "-o", "json").document["values"]
    return {(each["limit"], each["field"]): each["generation"] for each in values}


def test_the_generation_that_last_changed_each_value(
    cli: Cli, golden: Golden, changed: str
) -> None:
    golden("blame", cli("blame", "/shop").out)
    found = generations(cli)
    assert found[None, "on_error"] == 1
    assert found["spike", "rate"] == 2, "600/min is 10/s"
    assert found["spike", "burst"] == 5, "it went and came back"
    assert found["steady", "per"] == 5
    assert found["steady", "rate"] == 1


def test_equal_windows_in_other_words_are_no_change_for_any_command(
    cli: Cli, tree: Path, published: str
) -> None:
    (tree / "all.yaml").write_text(TREE.replace("600/min", "600/60s").replace("20/s", "19/s"))
    (change,) = [
        each
        for each in cli("plan", "policies", "-o", "json").document["changes"]
        if each["scope"] == "/shop"
    ]
    assert change["limit"] == "spike"
    assert cli("apply", "policies", "--yes").code == 0
    found = generations(cli)
    assert (found["steady", "rate"], found["spike", "rate"]) == (1, 2)


def test_the_generation_that_last_changed_who_shares_a_limit(
    cli: Cli, tree: Path, published: str
) -> None:
    shared = TREE.replace("20/s", "20/s, across: cluster")
    for text in (shared, shared.replace("cluster", "cluster, consistency: optimistic")):
        (tree / "all.yaml").write_text(text)
        assert cli("apply", "policies", "--yes").code == 0
    found = generations(cli)
    assert (found["spike", "across"], found["spike", "consistency"]) == (2, 3)
    assert ("steady", "consistency") not in found


def test_an_undeclared_scope_shows_inherited_values(cli: Cli, changed: str) -> None:
    assert generations(cli, "/shop/cart/item") == generations(cli, "/shop/cart")


def test_a_scope_that_was_removed_and_added_again(cli: Cli, tree: Path, published: str) -> None:
    why = ("--allow-removals", "a mistake", "--yes")
    (tree / "all.yaml").write_text(TREE.partition("---")[0])
    assert cli("apply", "policies", *why).code == 0
    assert cli("rollback", "--yes").code == 0
    found = generations(cli)
    assert found["steady", "rate"] == 3
    assert found["spike", "burst"] == 1, "/shop had inherited it all along"


def test_a_value_older_than_the_history_is_uncertain(
    cli: Cli, changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(changed) as store:
        store.delete(history_key(1))
    values = cli("blame", "/shop", "-o", "json").document["values"]
    of = {(each["limit"], each["field"]): (each["generation"], each["certain"]) for each in values}
    assert of["steady", "rate"] == (2, False)
    assert of["spike", "burst"] == (5, True)
    assert " ≤ 2 " in cli("blame", "/shop").out
    assert publishing.KEPT > 5


def test_a_scope_without_policy_is_an_error(cli: Cli, tree: Path, store_url: str) -> None:
    assert cli("blame", "/shop").code == 65
    (tree / "all.yaml").write_text(TREE.partition("---\n")[2])
    assert cli("apply", "policies", "--yes").code == 0
    run = cli("blame", "/elsewhere")
    assert run.code == 65
    assert "no policy of generation 1 covers /elsewhere" in run.err
    assert cli("blame", "nowhere").code == 64


def test_the_values_for_a_request_with_attributes(cli: Cli, tree: Path, published: str) -> None:
    """An override and an exception count for the requests that they match, and for no others."""
    gold = (
        "overrides:\n  - name: gold\n    match: {tier: gold}\n    limits: {spike: {rate: 30/s}}\n"
    )
    launch = (
        "---\napiVersion: ratectl/v1\nkind: Exception\nscope: /shop\nreason: launch\n"
        "until: 2026-11-24T00:00Z\nmatch: {client: acme}\nlimits: {steady: {rate: 900/min}}\n"
    )
    for text in (gold, gold.replace("30/s", "40/s"), gold.replace("30/s", "40/s") + launch):
        (tree / "shop.yaml").write_text(
            f"apiVersion: ratectl/v1\nscope: /shop/sale\nlimits: {{}}\n{text}"
        )
        assert cli("apply", "policies", "--yes").code == 0
    request = ("blame", "/shop/sale", "--attr", "tier=gold", "--attr", "client=acme")
    document = cli(*request, "-o", "json").document
    assert document["attributes"] == {"tier": "gold", "client": "acme"}
    values = {(each["limit"], each["field"]): each for each in document["values"]}
    spike, steady = values["spike", "rate"], values["steady", "rate"]
    assert (spike["value"], spike["generation"]) == ("40/s", 3)
    assert (steady["value"], steady["generation"]) == ("900/min", 4)
    assert generations(cli, "/shop/sale")["spike", "rate"] == 1, "without attributes as before"
    assert cli("blame", "/shop/sale", "--attr", "tier").code == 64
