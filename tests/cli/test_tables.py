"""Every table at 60, 80, 120 and 200 columns: nothing is too wide, no number is cut."""

from __future__ import annotations

import ast
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli_support import PROGRAM, Cli, MemoryStream, limit_report, report_agent
from rich.cells import cell_len
from table_examples import CONTENTS, EXAMPLES

from ratectl_cli.framework.styled import cell_of, painted
from ratectl_cli.framework.terminal import Stream
from ratectl_cli.framework.text import Aligned, Column, Styled, Table, show
from syntax_trees import syntax_tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from table_examples import Example

    from conftest import Golden
    from ratectl_cli.framework.text import Block

WIDTHS = (60, 80, 120, 200)
CLI = Path(__file__).parents[2] / "cli" / "ratectl_cli"
FIXED = {"version.py", "story.py"}
"""Modules whose rows are the same in every run, and narrow."""

SEPARATORS = "/,;=|-_."
ON_TERMINALS = ("TREND", "@")
"""Words that are not in pipes."""
SUMS = re.compile(r"max +\d+|^each column .*", re.MULTILINE)
"""Numbers of a timeline: they depend on its width."""


@pytest.fixture(params=WIDTHS)
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("COLUMNS", str(request.param))
    assert isinstance(request.param, int)
    return request.param


@pytest.fixture(params=CONTENTS)
def contents(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


def stream_of(*, tty: bool, encoding: str = "utf-8") -> tuple[MemoryStream, Stream]:
    out = MemoryStream(tty=tty, encoding=encoding)
    return out, Stream.of(out, "never")


def rendered(example: Example, *, tty: bool = True, encoding: str = "utf-8") -> str:
    out, stream = stream_of(tty=tty, encoding=encoding)
    show(stream, example.blocks(stream))
    return out.text()


def shown(blocks: Sequence[Block], *, tty: bool = True) -> list[str]:
    out, stream = stream_of(tty=tty)
    show(stream, blocks)
    return out.text().splitlines()


NOTE = re.compile(
    r"^hidden: (.*?) \(in\s+a\s+wider\s+terminal,\s+or\s+-o\s+json\)$", re.MULTILINE | re.DOTALL
)


def hidden_titles(text: str) -> list[str]:
    return [title for note in NOTE.findall(text) for title in " ".join(note.split()).split(", ")]


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_no_line_is_wider_than_the_terminal(
    name: str, contents: str, width: int, encoding: str
) -> None:
    text = rendered(EXAMPLES[name](CONTENTS[contents]), encoding=encoding)
    assert text
    assert [line for line in text.splitlines() if cell_len(line) > width] == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_number_is_cut(name: str, contents: str, width: int) -> None:
    """Each number of the document is in the text, or its column is named as hidden."""
    example = EXAMPLES[name](CONTENTS[contents])
    text = rendered(example)
    hidden = hidden_titles(text)
    for title, number in example.numbers:
        whole = re.search(rf"(?<![\w.]){re.escape(number)}(?![\w.]*\d)", text)
        assert whole or title in hidden, f"{title} {number} is missing"


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_cell_of_a_number_is_whole_or_hidden(name: str, contents: str, width: int) -> None:
    """As above for each table by itself: several tables may have columns of one title."""
    _, stream = stream_of(tty=True)
    for table in EXAMPLES[name](CONTENTS[contents]).blocks(stream):
        if isinstance(table, Table):
            lines = shown([table])
            hidden = Counter(hidden_titles("\n".join(lines)))
            for at, column in reversed(list(enumerate(table.columns))):
                if hidden[column.title]:
                    hidden[column.title] -= 1
                elif column.kind == "number":
                    cells = [painted(cell_of(row[at], stream), colour=False) for row in table.rows]
                    assert [cell for cell in cells if not _stands_alone(cell, lines)] == []


def _stands_alone(cell: str, lines: Sequence[str]) -> bool:
    """Return True if a cell is in a line, with the space between columns on both sides."""
    pattern = re.compile(rf"(?:^|  ) *{re.escape(cell)}(?=  |$)")
    return any(pattern.search(line) for line in lines)


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_word_is_broken(name: str, contents: str, width: int) -> None:
    example = EXAMPLES[name](CONTENTS[contents])
    words = {*rendered(example, tty=False).split(), *ON_TERMINALS}
    for word in re.sub(SUMS, "", NOTE.sub("", rendered(example))).split():
        known = word in words or _is_part(word, words) or _is_shortened(word, words)
        assert known or not word.isascii() or set(word) <= set("─"), word


def _is_part(word: str, words: set[str]) -> bool:
    """Return True for a part of a long word, such as a scope, that is divided at separators."""
    for whole in words:
        for found in re.finditer(re.escape(word), whole):
            begins = not found.start() or whole[found.start() - 1] in SEPARATORS
            ends = found.end() == len(whole) or word[-1] in SEPARATORS
            if begins and ends:
                return True
    return False


def _is_shortened(word: str, words: set[str]) -> bool:
    """Return True for a whole word with an ellipsis, or for the start of a word that is long."""
    start = word.removesuffix("…")
    if start == word:
        return False
    return start in words or any(whole.startswith(start) and len(start) >= 4 for whole in words)


@pytest.mark.parametrize("name", EXAMPLES)
def test_in_a_pipe_nothing_is_cut(name: str) -> None:
    example = EXAMPLES[name](CONTENTS["extreme"])
    out, stream = stream_of(tty=False)
    blocks = list(example.blocks(stream))
    show(stream, blocks)
    assert hidden_titles(out.text()) == []
    for table in blocks:
        if isinstance(table, (Table, Aligned)):
            cells = [
                painted(cell_of(cell, stream), colour=False) for row in table.rows for cell in row
            ]
            assert [cell for cell in cells if cell.rstrip() not in out.text()] == []


def test_every_table_has_an_example() -> None:
    drawing = {
        path.name
        for path in CLI.rglob("*.py")
        if path.parent.name != "framework"
        for node in ast.walk(syntax_tree(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("Table", "Aligned")
    }
    examples = {f"{name.partition('-')[0]}.py" for name in EXAMPLES}
    assert drawing <= examples | FIXED


@pytest.mark.parametrize(
    "name", ["usage", "hot_keys", "history", "agents", "changes", "simulation-against"]
)
@pytest.mark.parametrize("which", CONTENTS)
def test_tables_at_80_columns(
    name: str, which: str, golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    golden(f"table-{name}-{which}", rendered(EXAMPLES[name](CONTENTS[which])))


# Single rules -----------------------------------------------------------------------------------


def test_texts_are_shortened_before_columns_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(
        [Column("SCOPE"), Column("USED", 2, "number"), Column("WHY", 3, "text", least=10)],
        [("/shop", "100%", "because of the sale on Friday")],
    )
    for columns, row in (
        (60, "/shop  100%  because of the sale on Friday"),
        (30, "/shop  100%  because of the…"),
        (23, "/shop  100%  because…"),
        (22, "/shop  100%"),
    ):
        monkeypatch.setenv("COLUMNS", str(columns))
        lines = shown([table])
        assert lines[2] == row
        assert any("hidden: WHY" in line for line in lines) == (columns == 22)


def test_columns_of_one_rank_are_hidden_together(monkeypatch: pytest.MonkeyPatch) -> None:
    titles = [("SCOPE", 1), ("REFUSED", 2), ("SHADOW", 3), ("SHARE", 3)]
    table = Table([Column(title, rank, "number") for title, rank in titles], [("9",) * 4])
    monkeypatch.setenv("COLUMNS", "27")
    assert shown([table])[0] == "SCOPE  REFUSED"


def test_the_first_column_is_never_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table([Column("SCOPE", 9), Column("USED", 1, "number")], [("/a/b/c/d/e/f", "9" * 30)])
    monkeypatch.setenv("COLUMNS", "10")
    assert shown([table])[:4] == ["SCOPE", "─" * 10, "/a/b/c/d/", "e/f"]


def test_a_text_never_ends_inside_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table([Column("A"), Column("WHY", 2, "text", least=8)], [("x", "of123456789")])
    monkeypatch.setenv("COLUMNS", "12")
    assert shown([table])[2] == "x  of…"


def test_a_long_path_goes_below_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    rows = [("rate", "10/s", "policies/shop.yaml:1:2"), ("per", "client", "default")]
    assert shown([Aligned(rows)]) == [
        "rate  10/s",
        "      policies/shop.yaml:1:2",
        "per   client  default",
    ]


def test_styles_survive_wrapping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "10")
    out = MemoryStream(tty=True)
    cell = [Styled("red words", "red"), " and plain"]
    show(Stream.of(out, "always"), [Table([Column("A", least=5)], [(cell,)])])
    assert out.text().splitlines()[2:] == ["\x1b[31mred words\x1b[0m", "and plain"]


def test_the_width_is_the_one_of_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "0")
    assert stream_of(tty=True)[1].width == 80
    monkeypatch.setenv("COLUMNS", "72")
    assert stream_of(tty=True)[1].width == 72
    assert stream_of(tty=False)[1].width is None


def test_a_plan_at_80_columns(
    cli: Cli, golden: Golden, edited: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    golden("plan-80", cli("plan", "policies", "--color", "never", tty=True).out)


@pytest.mark.parametrize("columns", [60, 80])
def test_the_width_of_a_real_terminal(
    published: str, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.delenv("COLUMNS")
    report_agent(published, limits=[limit_report("/shop", "spike", peak=1.0)])
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen([*PROGRAM, "usage", "--color", "never"], stdout=there)
    os.close(there)
    assert process.wait(30) == 0
    lines = os.read(here, 2**16).decode().splitlines()
    os.close(here)
    assert max(map(cell_len, lines)) <= columns
    assert "100%" in lines[4]
    assert "RATE/S" in lines[1]
    assert ("RULE" in lines[1]) == (columns == 80)
