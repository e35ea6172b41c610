"""docs/runbook.md: a section for each alert, with commands and names that exist."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout
from functools import cache

import pytest
from monitoring_files import ALERTS, CONCERNS, RUNBOOK, rules
from promql import EXPOSED

from ratectl_cli.app import COMMANDS, run

PAGE = RUNBOOK.read_text("utf-8")
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


def commands() -> list[str]:
    """Commands in the page and in the texts of alerts."""
    text = " ".join((PAGE + ALERTS.read_text("utf-8")).split())
    return sorted(set(re.findall(r"`(ratectl [^`]+)`", text)) - {"ratectl"})


@cache
def help_of(*words: str) -> str:
    """Help of a command. It fails for a command that does not exist."""
    with redirect_stdout(io.StringIO()) as output:
        assert run(["help", *words]) == 0, words
    return output.getvalue()


def test_every_alert_has_a_section_in_the_order_of_the_file() -> None:
    assert list(SECTIONS) == list(rules())


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_says_what_it_means_where_to_look_and_what_to_do(name: str) -> None:
    assert re.findall(r"^- \*\*(\w+):\*\*", SECTIONS[name], re.MULTILINE) == ["Means", "Look", "Do"]


@pytest.mark.parametrize("line", commands())
def test_commands_and_their_options_exist(line: str) -> None:
    _, name, *rest = line.split()
    assert name in COMMANDS
    listed = re.findall(r"^  ([a-z]+)  ", help_of(name), re.MULTILINE)
    # `usage` shows usage, and `usage reset` is below it.
    inner = rest[:1] if rest and "Commands:" in help_of(name) else []
    if name == "usage":
        inner = [word for word in inner if word in listed]
    assert set(inner) <= set(listed)
    shown = help_of(name, *inner)
    for option in re.findall(r"(?<=\s)--?[a-z][\w-]*", line):
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", shown), f"{option} of {line}"


def test_metrics_and_concerns_of_the_page_exist() -> None:
    assert {name for name in re.findall(r"`(ratectl_\w+)", PAGE) if name not in EXPOSED} == set()
    listed = re.findall(r"^\| (`[^|]+) \|", SECTIONS["RatectlProblem"], re.MULTILINE)
    names = {name for cell in listed for name in re.findall(r"`([\w-]+)", cell)}
    shown_elsewhere = {"store", "report", "decisions"}
    assert {each for each in CONCERNS if not each.startswith("panic-")} - names == shown_elsewhere
