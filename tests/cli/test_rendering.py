"""Text output: escapes, columns, excerpts, and YAML that reads back equal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratectl.diagnostics import Diagnostic, Span
from ratectl.policy.bundle import encode_policies
from ratectl.policy.format.tree_text import policy_lines
from ratectl.policy.language.labels import bucket_label
from ratectl.policy.loading.loader import load
from ratectl.runtime.wording import printable
from ratectl_cli.framework.terminal import Stream, cells
from ratectl_cli.framework.text import Aligned, Column, Styled, Table, plural, show
from ratectl_cli.render.diagnostics import diagnostic_blocks
from ratectl_cli.render.times import ago, wait

from cli_support import MemoryStream  # isort: skip
from drawn_policies import trees  # isort: skip

if TYPE_CHECKING:
    from ratectl.policy.language.model import PolicyTree

AT = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@given(trees)
def test_policies_read_back_the_same(tree: PolicyTree) -> None:
    if not tree.policies:
        return
    loaded = load(["-"], stdin="\n".join(policy_lines(tree)).encode())
    assert loaded.ok, loaded.diagnostics
    assert loaded.tree.policies == tree.policies
    assert encode_policies(loaded.tree) == encode_policies(tree)


@given(st.text())
def test_safe_text_is_one_printable_line(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert shown == text or not text.isprintable()


def test_wide_characters_line_up() -> None:
    out = MemoryStream()
    show(Stream.of(out, "never"), [Aligned([("日本", "x"), ("abc", "y")])])
    assert out.text() == "日本  x\nabc   y\n"


def test_plain_tables_are_not_cut() -> None:
    out = MemoryStream()
    table = Table([Column("A"), Column("B", 2, "number")])
    table.rows += [("x" * 300, "1"), (Styled("y", "red"), "22")]
    show(Stream.of(out, "never"), [table])
    first, second, third = out.text().splitlines()
    assert first == "A" + " " * 302 + "B"
    assert second == "x" * 300 + "   1"
    assert third == "y" + " " * 301 + "22"


@pytest.mark.parametrize(
    ("time", "said"),
    [
        ("2026-01-01T12:00:00Z", "just now"),
        ("2026-01-01T11:59:48.000Z", "12 s ago"),
        ("2026-01-01T11:00:00Z", "1 h ago"),
        ("2025-12-30T11:00:00Z", "2 days ago"),
        ("2026-01-01T12:05:00Z", "in 5 min (clock?)"),
        ("nonsense", "?"),
        (None, "?"),
    ],
)
def test_times_in_words(time: str | None, said: str) -> None:
    assert ago(time, AT) == said


@pytest.mark.parametrize(
    ("nanoseconds", "said"),
    [(1, "1 ns"), (1500, "1.5 µs"), (99_706_001, "99.707 ms"), (3 * 10**12, "3000 s")],
)
def test_waits_are_never_shown_too_short(nanoseconds: int, said: str) -> None:
    assert wait(nanoseconds) == said


def test_plurals() -> None:
    said = [plural(2, "scope"), plural(1, "scope"), plural(0, "match")]
    assert said == ["2 scopes", "1 scope", "0 matches"]


def _rendered(*found: Diagnostic, colour: str = "never") -> list[str]:
    out = MemoryStream()
    stream = Stream.of(out, colour)
    show(stream, diagnostic_blocks(found, stream))
    return out.text().splitlines()


def test_the_mark_is_below_the_value() -> None:
    line = '\tname: "日本", rate: 9/x'
    column = line.index("9/x") + 1
    found = Diagnostic(
        "RC1", "bad", Span("f", 3, column, column + 3), hint="mend it", source_line=line
    )
    source, mark = _rendered(found)[3:5]
    assert mark.rstrip() == "  |" + " " * (cells(source[: source.index("9/x")]) - 3) + "^^^ mend it"


def test_very_long_lines_are_cut_around_the_place() -> None:
    line = "a" * 5000 + "BAD" + "b" * 5000
    found = Diagnostic("RC1", "bad", Span("f", 1, 5001, 5004), source_line=line)
    source, mark = _rendered(found)[3:5]
    assert len(source) < 200
    assert source[mark.index("^") : mark.rindex("^") + 1] == "BAD"


def test_places_beyond_the_line_are_marked_at_its_end() -> None:
    found = Diagnostic("RC1", "bad", Span("f", 1, 99, 120), source_line="short")
    assert _rendered(found)[4].rstrip() == "  |      ^"


def test_very_many_findings_are_summed_up() -> None:
    found = [Diagnostic("RC1", f"bad {n}", Span("f")) for n in range(150)]
    lines = _rendered(*found)
    assert lines[-2] == "and 50 more: -v shows them, -o json holds them"


@pytest.mark.parametrize(
    ("overrides", "label"),
    [
        ((), "spike"),
        (("gold@/a",), "spike [gold]"),
        (("gold@/", "gold@/a"), "spike [gold@/, gold]"),
        (("exception@/a until 2026-11-30T00:00Z",), "spike [exception until 2026-11-30T00:00Z]"),
        (("exception@/ until 2026-11-30T00:00Z",), "spike [exception@/ until 2026-11-30T00:00Z]"),
    ],
)
def test_labels_of_different_buckets_differ(overrides: tuple[str, ...], label: str) -> None:
    assert bucket_label("spike", "/a", overrides) == label
