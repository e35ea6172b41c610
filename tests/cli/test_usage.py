"""Options of ``ratectl usage`` and ``ratectl top``, as text and as documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from cli_support import TREE, limit_report, report_agent
from live_support import detailed

from ratectl.health import hot_keys, usage_selection
from ratectl_cli.commands import top, usage
from ratectl_cli.render.sparkline import gauge_line

if TYPE_CHECKING:
    from pathlib import Path

    from cli_support import Cli

    from conftest import Golden

EVIL = "evil\x1b[2J\r\nkey\u202e"


@pytest.fixture
def reported(published: str) -> str:
    """Two agents of this version, and one of an older version that reports fewer numbers."""
    for name, peak in (("edge-1", 0.93), ("edge-2", 0.41)):
        report_agent(
            published,
            id=name,
            limits=[
                detailed("/shop", "spike", peak=peak),
                detailed("/shop", "steady", peak=0.2, refused=0, top_refused=[], near_keys=0),
                detailed("/shop/cart", "probe", shadow=True, peak=0.1, recent_allowed=60_000),
            ],
        )
    report_agent(published, id="old", limits=[limit_report("/shop", "steady", peak=0.85)])
    return published


@pytest.fixture
def rootless(cli: Cli, tree: Path, reported: str) -> str:
    """Agents as in ``reported``, and policies at and below /shop only."""
    _, *others = TREE.split("---\n")
    (tree / "all.yaml").write_text(
        "---\n".join(others).replace("{rate: 20/s}", "{rate: 20/s, burst: 100, per: client}")
    )
    applied = cli("apply", "policies", "--yes", "-q")
    assert applied.code == 0, applied.err
    return reported


def rows(text: str) -> list[list[str]]:
    """Cells of the rows of the first table."""
    lines = text.splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("SCOPE")) + 1
    return [line.split() for line in lines[start:] if line.startswith("/")]


def names(text: str) -> list[str]:
    return [f"{row[0]} {row[1]}" for row in rows(text)]


# Tables -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [60, 80, 120, 200])
def test_usage_on_terminals(
    cli: Cli, golden: Golden, reported: str, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    plain = ("--color", "never")
    golden(f"usage-{columns}", cli("usage", *plain, tty=True).out)
    golden(f"usage-top-{columns}", cli("usage", "/shop", "--top", "2", *plain, tty=True).out)
    golden(f"top-{columns}", cli("top", *plain, tty=True).out)


def test_usage_in_pipes(cli: Cli, golden: Golden, reported: str) -> None:
    golden("usage-pipe", cli("usage").out)
    golden("usage-top-pipe", cli("usage", "/shop", "--top", "2").out)
    golden("usage-near-pipe", cli("usage", "--near", "80%", "--since", "15m").out)
    golden("top-pipe", cli("top").out)


def test_a_trend_in_ascii(cli: Cli, reported: str) -> None:
    run = cli("usage", "--color", "never", tty=True, encoding="ascii")
    assert run.out.isascii()
    assert "TREND" in run.out
    assert gauge_line([None, 0, 0.5, 1], symbols=False) in "_.=@"
    assert gauge_line([None, 0, 0.5, 0.99, 1], symbols=True) == "·▁▄▇█"


def test_numbers_of_older_agents_are_unknown_and_never_0(cli: Cli, published: str) -> None:
    report_agent(published, limits=[limit_report("/shop", "spike")])
    (row,) = rows(cli("usage").out)
    assert row[-6] == "?", "NEAR"
    assert "?" in cli("usage", "--since", "5m").out.splitlines()[2].split()[-5], "RATE/S"
    report_agent(published, id="b", limits=[detailed("/shop", "spike", near_keys=0)])
    assert rows(cli("usage").out)[0][-6] == "?", "0 in one agent, unknown in the other"
    report_agent(published, id="b", limits=[detailed("/shop", "spike", near_keys=2)])
    (row,) = rows(cli("usage", "--since", "15m").out)
    assert (row[-7], row[-6], row[-5]) == ("≥71%", "≥2", "≥12.0")


def test_a_limit_that_is_not_full_is_not_used_100_percent(cli: Cli, published: str) -> None:
    keys = [("acme", 7_000, 0, 0.996)]
    report_agent(published, limits=[detailed("/shop", "spike", peak=0.996, busiest=keys)])
    for words in (("usage", "--fail-near"), ("usage", "--top", "1"), ("top",)):
        for tty in (False, True):
            run = cli(*words, tty=tty)
            assert "99%" in run.out
            assert "100%" not in run.out.replace("100%  ", "", 1) + run.err, words


def test_a_rate_that_is_almost_0_is_not_0(cli: Cli, published: str) -> None:
    report_agent(
        published, limits=[limit_report("/shop", "spike", recent_allowed=1, recent_refused=0)]
    )
    assert "<0.1" in rows(cli("usage").out)[0]


def test_agents_without_a_report_are_named(cli: Cli, reported: str) -> None:
    from ratectl.stores import open_store

    with open_store(reported) as store:
        store.delete("usage/edge-2")
    lines = cli("usage").out.splitlines()
    assert "2/3 agents" in lines[0]
    assert lines[1] == "no report from edge-2"
    assert cli("usage", "-o", "json").document["silent"] == ["edge-2"]


@pytest.mark.parametrize("command", ["usage", "top"])
def test_foreign_keys_are_escaped(cli: Cli, published: str, command: str) -> None:
    keys = {"busiest": [(EVIL, 5, 0, None)], "top_refused": [(EVIL, 5)]}
    report_agent(published, limits=[detailed("/shop", "spike", **keys)])
    for tty in (False, True):
        words = ("--top", "1") if command == "usage" else ()
        out = cli(command, *words, "--color", "never", tty=tty).out
        assert r"evil\x1b[2J\r\nkey\u202e" in out
        assert all(line.isprintable() for line in out.splitlines())


def test_a_thousand_limits(cli: Cli, published: str) -> None:
    limits = [detailed(f"/team-{at % 50}", f"limit-{at}", peak=at / 1000) for at in range(1000)]
    report_agent(published, limits=limits)
    out = cli("usage", "--sort", "used", "-o", "json").document
    assert len(out["limits"]) == 1000
    assert out["limits"][0]["limit"] == "limit-999"
    text = cli("usage", "--near", "99%", tty=True).out
    assert "not shown: 990 limits below 99%" in text
    assert len(cli("top", "-n", "7").out.splitlines()) == 1 + 1 + 7 + 1


# Options of usage -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("scope", ["/shop spike", "/shop steady", "/shop/cart probe"]),
        ("used", ["/shop spike", "/shop steady", "/shop/cart probe"]),
        ("rate", ["/shop/cart probe", "/shop steady", "/shop spike"]),
        ("refused", ["/shop spike", "/shop/cart probe", "/shop steady"]),
    ],
)
def test_sort(cli: Cli, reported: str, sort: str, order: list[str]) -> None:
    assert names(cli("usage", "--sort", sort).out) == order


def test_the_column_of_the_order_is_hidden_last(
    cli: Cli, reported: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    for sort, title in (("used", "USED"), ("rate", "RATE/S"), ("refused", "REFUSED")):
        lines = cli("usage", "--sort", sort, "--color", "never", tty=True).out.splitlines()
        head = next(line for line in lines if line.startswith("SCOPE"))
        assert title in head.split()


@pytest.mark.parametrize("near", ["80%", "0.8", "80.0%", ".8", " 80% "])
def test_near(cli: Cli, reported: str, near: str) -> None:
    run = cli("usage", "--near", near)
    if near == ".8":
        assert run.code == 64
        return
    assert names(run.out) == ["/shop spike", "/shop steady"]
    assert "not shown: 1 limit below 80%\n" in run.out
    document = cli("usage", "--near", near, "-o", "json").document
    assert (document["near"], document["below_near"], document["unknown_use"]) == (0.8, 1, 0)


def test_nothing_is_near(cli: Cli, reported: str) -> None:
    run = cli("usage", "--near", "100%")
    assert (run.code, run.out.splitlines()[1:]) == (
        0, ["no limit was used 100% or more in the last minute", "not shown: 3 limits below 100%"],
    )  # fmt: skip
    assert "in the last 5 minutes" in cli("usage", "--near", "1", "--since", "5m").out


@pytest.mark.parametrize(
    ("near", "hint"),
    [("80", "--near 80%"), ("0", "80%"), ("0%", "80%"), ("101%", "80%"), ("1.5", "--near 1.5%"),
     ("-1", "80%"), ("nan", "80%"), ("", "80%"), ("eighty", "80%"), ("8e1", "80%")],
)  # fmt: skip
def test_bad_near(cli: Cli, reported: str, near: str, hint: str) -> None:
    run = cli("usage", f"--near={near}")
    assert (run.code, run.out) == (64, "")
    assert "--near must be above 0% and at most 100%" in run.err
    assert hint in run.err


def test_fail_near(cli: Cli, reported: str) -> None:
    run = cli("usage", "--fail-near")
    assert run.code == 1
    assert len(rows(run.out)) == 3, "all limits are shown"
    assert run.err == (
        "--fail-near: 2 limits are used 80% or more: spike @ /shop 93%, steady @ /shop 85%\n"
    )
    run = cli("usage", "--fail-near", "--near", "0.9", "-o", "json")
    assert (run.code, len(run.document["limits"])) == (1, 1)
    assert cli("usage", "--fail-near", "--near", "95%").code == 0
    assert cli("usage", "/shop/cart", "--fail-near").code == 0
    assert cli("usage", "--near", "80%").code == 0


def test_fail_near_fails_if_nobody_reports(cli: Cli, published: str) -> None:
    run = cli("usage", "--fail-near")
    assert run.code == 1
    assert "it is unknown how full the limits are" in run.err


@pytest.mark.parametrize("what", ["reported", "published"])
def test_the_reason_of_fail_near_is_shown_with_quiet(
    cli: Cli, what: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(what)
    run = cli("usage", "--fail-near", "-q")
    assert run.code == 1
    assert run.err.startswith("--fail-near: ")


@pytest.mark.parametrize("words", [("usage",), ("top",)])
@pytest.mark.parametrize(
    ("scope", "hint"), [("/shpo", ": did you mean /shop?"), ("/elsewhere/entirely", "")]
)
def test_a_scope_that_no_policy_covers_is_named(
    cli: Cli, rootless: str, words: tuple[str, ...], scope: str, hint: str
) -> None:
    said = f"no policy covers {scope}{hint}\n"
    run = cli(*words, scope)
    assert (run.code, run.out.endswith(said)) == (0, True), run.out
    run = cli(*words, scope, "-o", "json")
    assert (run.code, run.err) == (0, said)
    assert "no policy covers" not in cli(*words, "/shop/below").out
    assert "no policy covers" not in cli(*words, "/").out


def test_fail_near_fails_for_a_scope_that_no_policy_covers(cli: Cli, rootless: str) -> None:
    run = cli("usage", "/shpo", "--fail-near", "-q")
    assert run.code == 1
    assert run.err == "--fail-near: no policy covers /shpo: did you mean /shop?\n"


@pytest.mark.parametrize(
    ("since", "rate"), [("1m", "32.0"), ("5m", "32.4"), ("15m", "24.0"), ("15min", "24.0")]
)
def test_since(cli: Cli, reported: str, since: str, rate: str) -> None:
    run = cli("usage", "--since", since)
    row = rows(run.out)[0]
    assert (row[-5], row[-7]) == (rate, "93%")
    assert ("last 15 min" in run.out) == since.startswith("15")
    recent = cli("usage", "--since", since, "-o", "json").document["limits"][0]["recent"]
    assert f"{recent['rate_per_second']:.1f}" == rate
    assert (recent["rate_agents"], recent["used_agents"]) == (2, 2)


@pytest.mark.parametrize("since", ["0m", "16m", "15", "15s", "1h", "-1m", "1.5m", "", "soon"])
def test_bad_since(cli: Cli, reported: str, since: str) -> None:
    run = cli("usage", f"--since={since}")
    assert (run.code, run.out) == (64, "")
    assert "--since must be 1m to 15m" in run.err
    assert "hint: write whole minutes, like --since 5m" in run.err


def test_top_keys_of_each_limit(cli: Cli, reported: str) -> None:
    out = cli("usage", "/shop/cart", "--top", "1").out
    assert "KEY" in out.splitlines()[-2]
    assert out.splitlines()[-1].split() == (
        ["/shop/cart", "probe", "acme", "14000", "73%", "1000", "71%"]
    )  # fmt: skip
    keys = cli("usage", "--top", "1", "-o", "json").document["limits"][0]["top_keys"]
    assert keys == [
        {
            "key": "acme", "requests": 14000, "requests_error": 0, "share": 0.729167,
            "used": 0.71, "refused": 1000, "refused_error": 0, "agents": 2,
        }
    ]  # fmt: skip
    assert "no agent reports a key" in cli("usage", "/small", "--top", "3").out


@pytest.mark.parametrize(
    ("words", "given"),
    [
        (("--fail-near",), "--fail-near"), (("--top", "3", "--since", "5m"), "--top and --since"),
        (("--sort", "used"), "--sort"), (("--near", "80%"), "--near"),
    ],
)  # fmt: skip
def test_options_that_a_page_on_standard_output_lacks(
    cli: Cli, reported: str, words: tuple[str, ...], given: str
) -> None:
    run = cli("usage", "--html", "-", *words)
    assert (run.code, run.out) == (64, "")
    assert f"--html - prints only the page, which takes no {given}\n" in run.err


@pytest.mark.parametrize("option", ["-n", "--limit"])
def test_a_bad_number_names_the_option_as_it_was_typed(
    cli: Cli, published: str, option: str
) -> None:
    run = cli("top", option, "0")
    assert run.err == (
        f"error: {option} must be at least 1, not 0\n  hint: write a number, like {option} 1\n"
    )


@pytest.mark.parametrize("words", [("--top", "0"), ("--top", "x"), ("--sort", "size")])
def test_bad_options_of_usage(cli: Cli, reported: str, words: tuple[str, ...]) -> None:
    run = cli("usage", *words)
    assert (run.code, run.out) == (64, "")
    assert words[0] in run.err


# top --------------------------------------------------------------------------------------------


def test_orders_of_keys(cli: Cli, published: str) -> None:
    busiest = [("a", 900, 0, 0.1), ("b", 500, 20, 0.9), ("c", 100, 0, None)]
    changes: dict[str, Any] = {"busiest": busiest, "top_refused": [("c", 590), ("b", 10)]}
    report_agent(published, limits=[detailed("/shop", "spike", **changes)])
    for sort, order in (("requests", "abc"), ("refused", "cba"), ("used", "bac")):
        document = cli("top", "--sort", sort, "-o", "json").document
        assert "".join(key["key"] for key in document["keys"]) == order
        assert document["sort"] == sort
    first = cli("top", "-n", "1")
    assert first.out.splitlines()[2].split() == ["a", "spike", "/shop", "900", "9%", "0", "10%"]
    assert first.out.splitlines()[3] == "2 more keys: -n 3"
    assert "500±20" in cli("top").out


def test_limits_without_keys(cli: Cli, published: str) -> None:
    report_agent(published, limits=[limit_report("/shop", "spike", top_refused=[])])
    run = cli("top", "/shop")
    assert (run.code, run.out.splitlines()[1:]) == (0, ["no agent reports a key of these limits"])
    assert cli("top", "/shop", "-o", "json").document["keys"] == []


@pytest.mark.parametrize("words", [("-n", "0"), ("--sort", "rate"), ("shop",), ("/a", "/b")])
def test_bad_options_of_top(cli: Cli, published: str, words: tuple[str, ...]) -> None:
    run = cli("top", *words)
    assert (run.code, run.out) == (64, "")


def test_the_orders_are_those_of_the_library() -> None:
    assert tuple(usage.Sort) == usage_selection.SORTS
    assert tuple(top.Sort) == hot_keys.SORTS
