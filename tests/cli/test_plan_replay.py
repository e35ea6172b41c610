"""``plan --replay``: effect of a plan on recorded traffic."""

from __future__ import annotations

import gzip
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli_support import TREE

from ratectl.records import BUNDLES
from ratectl.stores import open_store
from ratectl.traffic import Shape, format_line, generate

if TYPE_CHECKING:
    from cli_support import Cli

    from conftest import Golden

MAP = (
    "apiVersion: ratectl/v1\nkind: TrafficMap\nformat: combined\n"
    "scope: {field: path, rules: [{match: /files/*, scope: /shop/cart}, "
    "{match: '*', scope: /shop}]}\n"
    "attributes: {client: client, route: {field: path, segments: 1}}\n"
)
PLANNED = TREE.replace("5/min, mode: shadow", "5/min").replace("rate: 600/min", "rate: 30/min")
BY = ("--replay", "access.log", "--map", "web.map.yaml")
PLAN = ("plan", "policies", *BY)


def edit(tree: Path) -> None:
    """A log of ten minutes, and files with lower limits than ``TREE``."""
    lines = [format_line(request) for request in islice(generate(7, Shape(rate=2.0)), 1200)]
    lines[700] = "rubbish\x1b[31m"
    Path("access.log").write_text("\n".join(lines) + "\n")
    Path("web.map.yaml").write_text(MAP)
    (tree / "all.yaml").write_text(PLANNED)


@pytest.fixture
def place(tree: Path, published: str) -> str:
    """``TREE`` is live."""
    edit(tree)
    return published


def test_each_limit_before_and_after(cli: Cli, golden: Golden, place: str) -> None:
    run = cli(*PLAN)
    assert (run.code, run.err) == (0, "")
    golden("plan-replay", run.out)
    golden("plan-replay-markdown", cli(*PLAN, "--format", "markdown").out)


def test_the_document_agrees_with_simulate(cli: Cli, place: str) -> None:
    words = ("--log", "access.log", "--map", "web.map.yaml", "--against", "live")
    simulated = cli("simulate", "policies", *words, "-o", "json").document
    document = cli(*PLAN, "-o", "json").document
    found = document["replay"]
    for name in ("log", "map", "requests", "first", "last", "reading"):
        assert found[name] == simulated[name]
    assert found["requests"] == 1199
    assert found["reading"]["malformed"] == 1
    for side, other in (("before", "against"), ("after", "policies")):
        assert found[side] == {name: simulated[other][name] for name in found[side]}
        rows = {(row["scope"], row["limit"]): row for row in simulated[other]["limits"]}
        for each in found["limits"]:
            row = rows[each["scope"], each["limit"]]
            assert each[side]["refused"] == row["refused"]
            assert each[side]["shadow_refused"] == row["shadow_refused"]
            assert each[side]["requests"] == (
                row["admitted"] + row["refused"] + row["shadow_refused"]
            )
    changes = simulated["changes"]
    assert found["newly_refused"] == sum(each["newly_refused"] for each in changes) > 0
    assert found["newly_admitted"] == sum(each["newly_admitted"] for each in changes)
    probe = next(each for each in found["limits"] if each["limit"] == "probe")
    assert probe["before"]["shadow_refused"] == probe["after"]["refused"] > 0
    assert cli("plan", "policies", "-o", "json").document["replay"] is None


def test_limits_that_refused_nothing_are_counted_and_listed_with_v(cli: Cli, place: str) -> None:
    assert "more limits refused nothing (-v lists them)" in cli(*PLAN).out
    assert "\nspike " not in cli(*PLAN).out
    assert "\nspike " in cli(*PLAN, "-v").out


def test_a_log_through_a_pipe(cli: Cli, place: str) -> None:
    data = gzip.compress(Path("access.log").read_bytes())
    run = cli("plan", "policies", "--replay", "-", *BY[2:], stdin=data)
    assert run.code == 0
    assert "replayed 1199 requests of - ·" in run.out


def test_a_log_that_was_cut_off_is_replayed_as_far_as_it_goes(cli: Cli, place: str) -> None:
    lines = Path("access.log").read_bytes() * 9
    Path("access.log").write_bytes(gzip.compress(lines)[:-8])
    assert "\nthe log was not read to its end: the gzip data ends too early\n" in cli(*PLAN).out
    markdown = cli(*PLAN, "--format", "markdown").out
    assert "The log was not read to its end: the gzip data ends too early." in markdown


def test_a_plan_without_changes_is_replayed_too(cli: Cli, tree: Path, place: str) -> None:
    (tree / "all.yaml").write_text(TREE)
    run = cli(*PLAN, "--detailed-exitcode")
    assert run.code == 0
    assert "decided differently: 0 newly refused, 0 newly admitted" in run.out
    assert "**Replayed** 1199 requests" in cli(*PLAN, "--format", "markdown").out


def test_the_first_plan_is_compared_with_no_limits(cli: Cli, tree: Path, store_url: str) -> None:
    edit(tree)
    run = cli(*PLAN)
    assert run.code == 0, run.err
    assert "nothing live  admitted  1199  100.00%  refused  0 " in run.out
    found = cli(*PLAN, "-o", "json").document["replay"]
    assert found["before"] == {"refused": 0, "shadow": 0, "no_policy": 1199}
    assert found["newly_refused"] == found["after"]["refused"] > 0
    assert {each["before"] for each in found["limits"]} == {None}


def test_unreadable_live_policies_are_left_out(cli: Cli, place: str) -> None:
    with open_store(place) as store:
        for item in store.list(BUNDLES).items:
            store.put(item.key, b"{}")
    run = cli(*PLAN)
    assert run.code == 0
    assert "generation 1 cannot be read" in run.err
    assert "newly refused" not in run.out
    document = cli(*PLAN, "-o", "json").document["replay"]
    assert (document["before"], document["newly_refused"]) == (None, None)
    assert document["after"]["refused"] > 0
    assert "the live policies could not be read" in cli(*PLAN, "--format", "markdown").out


# -- bad input


def test_a_log_of_no_requests_saves_nothing(
    cli: Cli, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("access.log").write_text("what\nis this\n")
    monkeypatch.setenv("GITHUB_OUTPUT", "outputs")
    run = cli(*PLAN, "--out", "plan.json", "--github-output", "--detailed-exitcode")
    assert run.code == 1
    assert "error: no line of access.log could be replayed\nskipped: 2 malformed lines" in run.err
    assert "enforced" in run.out, "the plan itself is shown"
    assert "apply:" not in run.out
    assert not Path("plan.json").exists()
    assert not Path("outputs").exists()
    run = cli(*PLAN, "--out", "plan.json", "-o", "json")
    assert (run.code, run.err) == (1, "")
    assert (run.document["saved"], run.document["replay"]["requests"]) == (None, 0)
    markdown = cli(*PLAN, "--format", "markdown")
    assert (markdown.code, "could be replayed." in markdown.out) == (1, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (BY[2:], "--map needs --replay LOG"),
        (BY[:2], "--replay needs --map FILE"),
        (("--replay", "no", *BY[2:]), "--replay no: no such file or directory"),
        (("--replay", "policies", *BY[2:]), "--replay policies: is a directory"),
        ((*BY[:2], "--map", "no"), "--map no: no such file or directory"),
        ((*BY[:2], "--map", "policies/all.yaml"), "the traffic map policies/all.yaml is not valid"),
        (("--replay", "-", *BY[2:]), "--replay - reads standard input, which is a terminal"),
    ],
)
def test_wrong_arguments_publish_and_save_nothing(
    cli: Cli, place: str, words: tuple[str, ...], message: str
) -> None:
    run = cli("plan", "policies", "--out", "plan.json", *words, tty=True)
    assert (run.code, run.out) == (64, "")
    assert message in run.err
    assert not Path("plan.json").exists()


def test_standard_input_is_read_once(cli: Cli, place: str) -> None:
    run = cli("plan", "-", "--replay", "-", *BY[2:], stdin=PLANNED)
    assert run.code == 64
    assert "standard input can be read only once: give one -" in run.err


def test_log_text_is_escaped_in_markdown(cli: Cli, place: str) -> None:
    Path("a|b<i>.log").write_bytes(Path("access.log").read_bytes())
    out = cli("plan", "policies", "--replay", "a|b<i>.log", *BY[2:], "--format", "markdown").out
    (line,) = [each for each in out.splitlines() if each.startswith("**Replayed**")]
    assert "|" not in line
    assert "<i>" not in line
