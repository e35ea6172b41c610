"""``ratectl simulate``: its output and its exit codes."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli_support import EXAMPLES

from ratectl.traffic import Shape, format_line, generate, write_log
from ratectl_cli.render.sparkline import gathered, sparkline

if TYPE_CHECKING:
    from cli_support import Cli

    from conftest import Golden

HEAD = "apiVersion: ratectl/v1\nkind: TrafficMap\n"
MAP = HEAD + (
    "format: combined\n"
    "scope: {field: path, rules: [{match: /files/*, scope: /shop/cart}, "
    "{match: '*', scope: /shop}]}\n"
    "attributes: {client: client, route: {field: path, segments: 1}}\n"
)
TIGHT = """\
apiVersion: ratectl/v1
scope: /
limits:
  spike: {rate: 30/min, burst: 4, per: client}
---
apiVersion: ratectl/v1
scope: /shop/cart
limits:
  probe: {rate: 5/min, mode: shadow}
"""
BY = ("--log", "access.log", "--map", "web.map.yaml")


DOCS = Path(__file__).parents[2] / "docs"
UPDATE = os.environ.get("RATECTL_UPDATE_GOLDEN") == "1"


@pytest.fixture
def place(clean_place: Path, tree: Path) -> Path:
    """A log, a map, and two sets of policies."""
    lines = [format_line(request) for request in islice(generate(7, Shape(rate=2.0)), 1200)]
    lines[300:310] = reversed(lines[300:310])
    lines[700] = "rubbish\x1b[31m"
    (clean_place / "access.log").write_text("\n".join(lines) + "\n")
    (clean_place / "web.map.yaml").write_text(MAP)
    (clean_place / "tight").mkdir()
    (clean_place / "tight" / "all.yaml").write_text(TIGHT)
    return clean_place


def test_help(cli: Cli, golden: Golden) -> None:
    golden("simulate-help", cli("simulate", "--help").out)


def test_text(cli: Cli, golden: Golden, place: Path) -> None:
    run = cli("simulate", "tight", *BY)
    assert (run.code, run.err) == (0, "")
    golden("simulate", run.out)


def test_unfolded(cli: Cli, golden: Golden, place: Path) -> None:
    """Limits that refused nothing, and scopes beyond the first twenty."""
    rules = ", ".join(f"{{match: '{n}', scope: /many/s{n}}}" for n in range(30))
    made = "format: jsonl\ntime: {field: at, format: unix}\n"
    made += f"scope: {{field: part, rules: [{rules}]}}\n"
    (place / "many.map.yaml").write_text(HEAD + made)
    (place / "many.yaml").write_text(
        "---\n".join(f"apiVersion: ratectl/v1\nscope: /many/s{n}\n" for n in range(30))
    )
    lines = [json.dumps({"at": 1_800_000_000, "part": str(n)}) for n in range(30) for _ in range(2)]
    words = ("simulate", "many.yaml", "--map", "many.map.yaml", "--log", "-")
    run = cli(*words, stdin="\n".join(lines))
    assert "10 more scopes with fewer refusals (-v lists them)" in run.out
    assert cli(*words, "-v", stdin="\n".join(lines)).out.count("/many/s") == 30
    golden("simulate-unfolded", cli("simulate", "tight", *BY, "-v").out)


def test_against(cli: Cli, golden: Golden, place: Path, published: str) -> None:
    by_files = cli("simulate", "tight", *BY, "--against", "policies")
    assert by_files.code == 0
    golden("simulate-against", by_files.out)
    live = cli("simulate", "tight", *BY, "--against", "live")
    assert live.out.splitlines()[0].startswith("tight against generation 1 · 1199 requests")
    as_files, as_live = (
        cli("simulate", "tight", *BY, "--against", source, "-o", "json").document["against"]
        for source in ("policies", "live")
    )
    assert as_files["limits"] == as_live["limits"]


def test_assertions(cli: Cli, golden: Golden, place: Path) -> None:
    words = ("--assert", "refused < 50%", "--assert", "shadow[probe]>=1%")
    held = cli("simulate", "tight", *BY, *words)
    assert held.code == 0
    failed = cli("simulate", "tight", *BY, *words, "--assert", "refused[spike@/shop] == 0")
    assert failed.code == 1
    golden("simulate-assert", "".join(failed.out.partition("\nholds")[1:]))
    document = cli("simulate", "tight", *BY, "--assert", "refused == 0", "-o", "json").document
    (found,) = document["assertions"]
    assert (found["assertion"], found["holds"]) == ("refused == 0", False)
    assert found["count"] == document["policies"]["refused"] > 0


def test_units_of_the_map_and_of_the_policies(cli: Cli, place: Path) -> None:
    tokens = TIGHT + "  tokens: {rate: 10/min, per: client, unit: tokens}\n"
    (place / "tight" / "all.yaml").write_text(tokens)
    silent = cli("simulate", "tight", *BY)
    assert silent.code == 0
    assert "has no cost of tokens: limits that count tokens refuse nothing" in silent.err
    (place / "web.map.yaml").write_text(MAP + "cost: {tokens: {field: bytes}}\n")
    assert cli("simulate", "tight", *BY).err == ""
    (place / "web.map.yaml").write_text(MAP + "cost: {tokns: {field: bytes}}\n")
    misspelt = cli("simulate", "tight", *BY)
    assert misspelt.code == 64
    assert "no limit of the policies counts the unit 'tokns'" in misspelt.err
    assert "write tokens" in misspelt.err


def test_the_document(cli: Cli, golden: Golden, place: Path) -> None:
    run = cli("simulate", "tight", *BY, "--against", "policies", "-o", "json")
    assert (run.code, run.err) == (0, "")
    document = run.document
    assert (document["apiVersion"], document["kind"]) == ("ratectl/v1", "Simulation")
    golden("simulate-json", json.dumps(document, indent=1) + "\n")
    buckets = document["timeline"]["buckets"]
    assert sum(each["requests"] for each in buckets) == document["requests"] == 1199
    new, old = document["policies"], document["against"]
    assert sum(each["refused"] for each in buckets) == new["refused"]
    changes = document["changes"]
    newly = sum(each["newly_refused"] - each["newly_admitted"] for each in changes)
    assert newly == new["refused"] - old["refused"]
    assert sum(row["requests"] for row in new["scopes"]) == 1199


def test_standard_input_and_gzip(cli: Cli, place: Path) -> None:
    data = (place / "access.log").read_bytes()
    expected = cli("simulate", "tight", *BY, "-o", "json").document
    piped = ("simulate", "tight", "--log", "-", "--map", "web.map.yaml", "-o", "json")
    for stdin in (data, gzip.compress(data)):
        assert {**cli(*piped, stdin=stdin).document, "log": "access.log"} == expected
    (place / "any.name").write_bytes(gzip.compress(data))
    packed = cli("simulate", "tight", "--log", "any.name", *BY[2:], "-o", "json").document
    assert {**packed, "log": "access.log"} == expected


def test_policies_from_standard_input(cli: Cli, place: Path) -> None:
    run = cli("simulate", "-", *BY, stdin=TIGHT)
    assert run.code == 0
    assert run.out.splitlines()[1:] == cli("simulate", "tight", *BY).out.splitlines()[1:]


def test_a_log_without_requests(cli: Cli, golden: Golden, place: Path) -> None:
    (place / "access.log").write_text("what\nis this\n")
    run = cli("simulate", "tight", *BY)
    assert (run.code, run.out) == (1, "")
    golden("simulate-nothing", run.err)
    (place / "access.log").write_text("")
    assert cli("simulate", "tight", *BY).err == (
        "error: no line of access.log could be replayed\nthe log has no lines\n"
    )
    run = cli("simulate", "tight", *BY, "-o", "json", "--assert", "refused == 0")
    assert (run.code, run.err) == (1, "")
    assert (run.document["requests"], run.document["first"]) == (0, None)
    assert run.document["assertions"][0]["holds"] is False


def test_damaged_and_late(cli: Cli, place: Path) -> None:
    lines = (place / "access.log").read_text().splitlines(keepends=True)
    many = "".join(lines * 9)
    (place / "access.log").write_bytes(gzip.compress(many.encode())[:-8])
    run = cli("simulate", "tight", *BY)
    assert run.code == 0
    assert "\nout of order: " in run.out
    assert "\nthe log was not read to its end: the gzip data ends too early\n" in run.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("simulate", "tight"), "--log and --map are missing"),
        (
            ("simulate", "-", "--log", "-", "--map", "web.map.yaml"),
            "standard input can be read only once: give one -",
        ),
        (("simulate", "tight", *BY, "--assert", "refused"), "'refused' is not an assertion"),
        (("simulate", "tight", "--log", "no", *BY[2:]), "--log no: no such file or directory"),
        (("simulate", "tight", *BY[:2], "--map", "tight"), "--map tight: is a directory"),
        (("simulate", "tight", *BY, "--window", "-1"), "--window"),
        (("simulate", "tight", *BY[:2], "--map", "bad"), "the traffic map bad is not valid"),
        (("simulate", "tight", "--log", "-", *BY[2:]), "standard input, which is a terminal"),
    ],
)
def test_wrong_arguments(cli: Cli, place: Path, words: tuple[str, ...], message: str) -> None:
    (place / "bad").write_text("scope: 5\n")
    run = cli(*words, tty="-" in words)
    assert (run.code, run.out) == (64, "")
    assert message in run.err


def test_a_map_is_explained_like_policies(cli: Cli, golden: Golden, place: Path) -> None:
    (place / "web.map.yaml").write_text(MAP.replace("client: client", "client: clent"))
    run = cli("simulate", "tight", *BY)
    golden("simulate-map", run.err)
    document = cli("simulate", "tight", *BY, "-o", "json").document
    assert (document["kind"], document["exit_code"]) == ("Error", 64)
    assert document["diagnostics"][0]["source_line"].startswith("attributes: {client: clent")


def test_unreadable_inputs(cli: Cli, place: Path, store_url: str) -> None:
    (place / "wrong.yaml").write_text("scope: 5\n")
    assert cli("simulate", "wrong.yaml", *BY).code == 65
    assert cli("simulate", "tight", *BY, "--against", "wrong.yaml").code == 65
    assert cli("simulate", "tight", *BY, "--against", "live").code == 65
    unreachable = ("--against", "live", "--store", "etcd://127.0.0.1:1/x")
    assert cli("simulate", "tight", *BY, *unreachable).code == 69


def test_on_a_terminal(cli: Cli, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A progress bar for long work, and none left in the result."""
    monkeypatch.setattr("ratectl_cli.framework.progress._PATIENCE", 0.0)
    run = cli("simulate", "tight", *BY, tty=True)
    assert run.code == 0
    assert "replaying access.log" in run.err
    assert "replaying" not in run.out
    assert cli("simulate", "tight", *BY, "-q", tty=True).err == ""


def test_without_symbols(cli: Cli, place: Path) -> None:
    run = cli("simulate", "tight", *BY, encoding="ascii")
    assert run.out.isascii()
    assert "\\u" not in run.out
    assert "@" in run.out.splitlines()[3]


def test_sparkline() -> None:
    assert sparkline([0, 1, 50, 100], symbols=True) == " ▁▄█"
    assert sparkline([0, 1, 50, 100], symbols=False) == " .=@"
    assert sparkline([0, 0], symbols=True) == "  "
    assert gathered([1, 2, 3, 4, 5], 2) == ([6, 9], 3)
    assert gathered([1, 2], 60) == ([1, 2], 1)


def test_the_documentation_shows_the_real_output(cli: Cli, clean_place: Path) -> None:
    """RATECTL_UPDATE_GOLDEN=1 writes it."""
    with (clean_place / "access.log").open("w") as file:
        write_log(islice(generate(seed=7, shape=Shape(rate=100.0)), 50_000), file)
    shutil.copy(DOCS / "examples" / "web.map.yaml", clean_place)
    shutil.copytree(EXAMPLES, clean_place / "policies")
    shutil.copytree(EXAMPLES, clean_place / "tighter")
    site = clean_place / "tighter" / "web" / "site.yaml"
    text = re.sub(r"spike: \{.*\}", "spike: {rate: 1/s, burst: 10}", site.read_text(), count=1)
    site.write_text(text)

    def printed(match: re.Match[str]) -> str:
        words = [word.strip("'") for word in re.findall(r"'[^']*'|\S+", match[1])]
        return f"```text\n$ ratectl {match[1]}\n{cli(*words).out}```\n"

    page = DOCS / "simulate.md"
    shown = page.read_text(encoding="utf-8")
    real = re.sub(r"```text\n\$ ratectl (.*)\n[^`]*```\n", printed, shown)
    if UPDATE:
        page.write_text(real, encoding="utf-8")
        shown = real
    assert shown == real
    assert (DOCS / "examples" / "web.map.yaml").read_text().partition("\n")[2] in shown


WITH_OVERRIDES = """\
apiVersion: ratectl/v1
scope: /
limits:
  spike: {rate: 30/min, burst: 4, per: client}
budgets:
  fleet: {rate: 100/s}
overrides:
  - name: guests
    match: {client: 198.18.*}
    limits: {spike: {burst: 2}}
"""


def test_rows_by_the_overrides_that_select_a_bucket(cli: Cli, golden: Golden, place: Path) -> None:
    (place / "tight" / "all.yaml").write_text(WITH_OVERRIDES)
    whole = cli("simulate", "tight", *BY, "-o", "json").document["policies"]
    rows = {(row["limit"], *row["overrides"]): row for row in whole["limits"]}
    assert set(rows) == {("fleet",), ("spike",), ("spike", "guests@/")}
    assert rows["fleet",]["budget"] is True
    refused = sum(row["refused"] for row in rows.values())
    assert refused == whole["refused"] > rows["spike",]["refused"]
    # An assertion names the limit, and so all of its rows.
    golden(
        "simulate-overrides",
        cli("simulate", "tight", *BY, "-v", "--assert", f"refused[spike] == {refused}").out,
    )
