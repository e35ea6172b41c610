"""Saved plans are applied as they were saved, or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cli_support import TREE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ratectl.errors import BundleError
from ratectl.publishing.saved_plan import SavedPlan, checksum

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cli_support import Cli

OTHER = "apiVersion: ratectl/v1\nscope: /other\nlimits: {x: {rate: 1/s}}\n"
EDGE = "apiVersion: ratectl/v1\nscope: /\nlimits: {spike: {rate: 50/s}}\n"
WEB = "apiVersion: ratectl/v1\nscope: /web\nlimits: {spike: {rate: 60/s}}\n"
SALE = (
    "apiVersion: ratectl/v1\nkind: Exception\nscope: /web\nreason: sale\n"
    "until: 2040-01-01T00:00Z\nlimits: {spike: {rate: 70/s}}\n"
)
REMOVALS = ("--allow-removals", "moved")


def write(name: str, *documents: str) -> None:
    Path(name).mkdir(exist_ok=True)
    (Path(name) / "all.yaml").write_text("---\n".join(documents))


@pytest.fixture
def planned(cli: Cli, tree: Path, published: str) -> Path:
    """A saved plan with lower limits than ``TREE``, which is live."""
    (tree / "all.yaml").write_text(TREE.replace("50/s, burst: 100", "40/s, burst: 60"))
    assert cli("plan", "policies", "--out", "plan.json").code == 0
    return Path("plan.json")


@pytest.fixture
def sets(cli: Cli, store_url: str, still: None) -> None:
    """``edge`` and ``web`` are live, and each owns a part."""
    write("edge", EDGE)
    write("web", WEB, SALE, OTHER)
    for name in ("edge", "web"):
        assert cli("apply", name, "--set", name, "--yes").code == 0


def sealed(value: dict[str, Any]) -> str:
    """Return a plan with changed content and a matching checksum."""
    return json.dumps({**value, "sha256": checksum(value)}, indent=1)


def refused(cli: Cli, plan: Path) -> str:
    """Return the message for a damaged plan."""
    run = cli("apply", str(plan), "--yes")
    assert run.code == 65, run.err
    assert len(cli("history", "-o", "json").document["generations"]) == 1
    assert run.err.startswith(f"error: {plan}: ")
    return run.err


# -- whole


EDITS: list[Any] = ["", "x", 0, 1, 1.0, -1, True, False, None, [], {}]


def edited(value: Any) -> Iterator[Any]:
    """Return ``value`` with one element changed."""
    yield from (each for each in EDITS if json.dumps(each) != json.dumps(value))
    if isinstance(value, str):
        yield f"{value} "
        yield value[:-1]
    if isinstance(value, dict):
        yield {**value, "more": None}
        for name, each in value.items():
            yield {other: kept for other, kept in value.items() if other != name}
            yield from ({**value, name: changed} for changed in edited(each))
    if isinstance(value, list):
        yield [*value, None]
        for at, each in enumerate(value):
            yield value[:at] + value[at + 1 :]
            yield from ([*value[:at], changed, *value[at + 1 :]] for changed in edited(each))


def test_a_plan_with_any_edit_is_refused(cli: Cli, sets: None) -> None:
    write("third", WEB, SALE)
    words = ("third", "--set", "third", "--take-ownership", "/web", "--out", "plan.json")
    assert cli("plan", *words, "-m", "why").code == 0
    saved = json.loads(Path("plan.json").read_text())
    assert all(saved[name] for name in ("documents", "owners", "moved", "origins", "base"))
    count = 0
    for value in edited(saved):
        count += 1
        with pytest.raises(BundleError):
            SavedPlan.decode(json.dumps(value).encode())
    assert count > 500
    SavedPlan.decode(json.dumps(dict(reversed(saved.items()))).encode())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_byte_is_detected_if_it_changes_the_meaning(
    planned: Path, data: st.DataObject
) -> None:
    saved = planned.read_bytes()
    at = data.draw(st.integers(0, len(saved) - 1))
    damaged = bytearray(saved)
    damaged[at] = data.draw(st.integers(0, 255))
    try:
        found = SavedPlan.decode(bytes(damaged))
    except BundleError:
        return
    assert found == SavedPlan.decode(saved)


@pytest.mark.parametrize(
    "change",
    [
        {"source": "main"},
        {"created": "2020-01-01T00:00:00.000Z"},
        {"bundle": "0" * 64},
        {"provenance": {"author": "Eve", "message": "x", "commit": "0" * 40}},
        {"owners": {"a": 1}},
        {"sha256": "0" * 64},
        {"sha256": None},
    ],
    ids=str,
)
def test_a_plan_that_was_changed_is_refused(
    cli: Cli, planned: Path, change: dict[str, Any]
) -> None:
    saved = json.loads(planned.read_text())
    planned.write_text(json.dumps({**saved, **change}, indent=1))
    assert "it was changed or damaged since it was saved" in refused(cli, planned)


def test_a_plan_that_was_cut_off_is_refused(cli: Cli, planned: Path) -> None:
    planned.write_bytes(planned.read_bytes()[:-40])
    refused(cli, planned)


def test_a_plan_with_too_deep_nesting_is_refused(cli: Cli, planned: Path) -> None:
    planned.write_text('{"kind": "SavedPlan", "more": ' + "[" * 200_000)
    assert "not a readable plan" in refused(cli, planned)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"apiVersion": "ratectl/v2"}, "another version"),
        ({"extra": 1}, "another version"),
        ({"base": {"generation": 1}}, "base has to have generation, bundle"),
        ({"base": [1]}, "base has to have generation, bundle"),
        ({"base": {"generation": 1, "bundle": "", "x": 1}}, "base has to have generation, bundle"),
        ({"base": {"bundle": "", "generation": "1"}}, "the generation of a base is a whole number"),
        ({"base": {"bundle": 1, "generation": 1}}, "the bundle of a base is no text: 1"),
        ({"provenance": {"author": 5}}, "provenance has to have author, message,"),
        ({"policies": None}, "policies is no text: None"),
        ({"origins": 1}, "origins is no text: 1"),
        ({"environment": 7}, "environment is no text: 7"),
        ({"identity": 7}, "identity is no text: 7"),
        ({"store": None}, "store is no text: None"),
        ({"documents": 1}, "documents are a list of files"),
        ({"documents": [{"path": "a.yaml"}]}, "files have path, text, set"),
        ({"documents": [{"path": 1, "text": ""}]}, "files have a path and a text"),
        ({"owners": []}, "owners are of scopes, and of exceptions"),
        ({"owners": {"a": 1}}, "owners of scopes are missing"),
        ({"owners": {"scopes": {}}}, "owners of exceptions are missing"),
        ({"owners": {"scopes": {"/": []}, "exceptions": {}}}, "[] is no name of a set"),
        ({"moved": {}}, "documents of a set are left, pruned, taken"),
        (
            {"moved": {"left": [], "pruned": [], "taken": [], "lost": []}},
            "documents of a set are left, pruned, taken",
        ),
        ({"moved": {"left": 1, "pruned": [], "taken": []}}, "documents of a set are lists"),
        ({"moved": {"left": [1], "pruned": [], "taken": []}}, "a document of a set has kind,"),
    ],
    ids=str,
)
def test_the_message_names_the_defect_of_a_plan(
    cli: Cli, planned: Path, change: dict[str, Any], words: str
) -> None:
    planned.write_text(sealed({**json.loads(planned.read_text()), **change}))
    assert words in refused(cli, planned)


@pytest.mark.parametrize("name", ["base", "sha256", "moved"])
def test_a_plan_without_a_field_is_of_another_version(cli: Cli, planned: Path, name: str) -> None:
    saved = json.loads(planned.read_text())
    del saved[name]
    planned.write_text(json.dumps(saved, indent=1))
    assert "another version of ratectl: plan again" in refused(cli, planned)


@pytest.mark.parametrize("change", [{"generation": 9}, {"bundle": "0" * 64}], ids=str)
def test_another_generation_with_the_same_number_makes_a_plan_stale(
    cli: Cli, planned: Path, change: dict[str, Any]
) -> None:
    """For example in a store that was restored from a backup."""
    saved = json.loads(planned.read_text())
    planned.write_text(sealed({**saved, "base": {**saved["base"], **change}}))
    assert cli("apply", "plan.json", "--yes").code == 75


# -- of a set


def said_of_sets(text: str) -> list[str]:
    words = ("taken: ", "pruned: ", "left: ")
    return [line for line in text.splitlines() if line.startswith(words)]


@pytest.mark.parametrize(
    ("documents", "words", "said"),
    [
        ((WEB, SALE), ("third", "--take-ownership", "/web"), ["taken"]),
        ((WEB, SALE), ("web", "--prune"), ["pruned"]),
        ((OTHER,), ("web",), ["left"]),
        ((OTHER, EDGE), ("web", "--prune", "--take-ownership", "/"), ["pruned", "taken"]),
    ],
    ids=str,
)
def test_plan_and_apply_report_the_same_effects_on_sets(
    cli: Cli, sets: None, documents: tuple[str, ...], words: tuple[str, ...], said: list[str]
) -> None:
    write("part", *documents)
    words = ("part", "--set", *words)
    shown = said_of_sets(cli("plan", *words, "--out", "plan.json").out)
    assert sorted(line.partition(":")[0] for line in shown) == said
    document = cli("plan", *words, "-o", "json").document
    what = {name: document[name] for name in ("set", "left", "pruned", "taken")}
    dry = ("--dry-run", *REMOVALS)
    assert said_of_sets(cli("apply", "plan.json", *dry).out) == shown
    again = cli("apply", "plan.json", *dry, "-o", "json").document
    assert {name: again[name] for name in what} == what
    run = cli("apply", "plan.json", "--yes", *REMOVALS)
    assert run.code == 0, run.err
    assert said_of_sets(run.out) == shown


def test_a_plan_applied_again_takes_nothing_and_prunes_nothing(cli: Cli, sets: None) -> None:
    write("part", OTHER, EDGE)
    words = ("part", "--set", "web", "--prune", "--take-ownership", "/", "--out", "plan.json")
    assert cli("plan", *words).code == 0
    assert cli("apply", "plan.json", "--yes", *REMOVALS).code == 0
    assert said_of_sets(cli("apply", "plan.json").out) == []
    document = cli("apply", "plan.json", "-o", "json").document
    assert (document["published"], document["pruned"], document["taken"]) == (False, [], [])
