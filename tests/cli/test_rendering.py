"""Pieces of text: what is escaped, how columns line up, and YAML that reads back the same."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratectl.policy.bundle import encode_policies
from ratectl.policy.diagnostics import Diagnostic, Span
from ratectl.policy.instants import Instant
from ratectl.policy.loader import load
from ratectl.policy.model import Exemption, Policy, PolicyTree, with_exceptions
from ratectl_cli.render.diagnostics import diagnostic_blocks
from ratectl_cli.render.labels import bucket_label
from ratectl_cli.render.policy_yaml import policy_lines
from ratectl_cli.render.times import ago, wait
from ratectl_cli.terminal import Stream, cells, pad, safe
from ratectl_cli.text import Column, Styled, Table, aligned, plural, show

from cli_support import MemoryStream  # isort: skip

AT = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)

tricky = st.sampled_from(
    ["no", "yes", "on", "y", "N", "null", "1e3", "010", "0x1F", "1_000", "12.30", "1.5", "7",
     "true", "inf", ".inf", "a-b", "spike", "x_", "-", "2026-01-01", "nan", "0o7"]
)  # fmt: skip
names = tricky.filter(lambda name: "." not in name and name[0].isalnum()) | st.from_regex(
    r"[A-Za-z0-9][A-Za-z0-9_-]{0,8}", fullmatch=True
)
rates = st.builds(
    lambda count, multiple, unit: f"{count}/{multiple}{unit}",
    st.integers(0, 10**6),
    st.sampled_from(["", "7", "30"]),
    st.sampled_from(["s", "min", "h", "day", "week"]),
) | st.sampled_from(["unlimited", "0.5/s", "0/s"])
words = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cf", "Zl", "Zp", "Cs", "Cn"])
)
limits = st.dictionaries(
    names,
    st.fixed_dictionaries(
        {"rate": rates},
        optional={
            "burst": st.integers(0, 10**9),
            "per": st.lists(names, unique=True, max_size=3),
            "mode": st.sampled_from(["enforce", "shadow", "off"]),
        },
    ),
    max_size=4,
)
texts = words.map(lambda text: text[:20]) | tricky | st.sampled_from(["*", "/v1/*", "a: b", ""])
matchers = st.one_of(
    texts,
    st.lists(texts, min_size=2, max_size=3, unique=True),
    texts.map(lambda text: {"not": text}),
    st.lists(texts, min_size=1, max_size=2, unique=True).map(lambda many: {"not": many}),
    st.sampled_from([{"cidr": "10.0.0.0/8"}, {"not": {"cidr": ["::1", "10.0.0.0/24"]}}]),
    st.booleans().map(lambda there: {"exists": there}),
)
matches = st.dictionaries(names, matchers, min_size=1, max_size=2)
some_limits = limits.filter(bool)
overrides = st.fixed_dictionaries(
    {"name": names, "match": matches, "limits": some_limits}, optional={"description": words}
)
instants = st.builds(
    lambda count, unit: Instant((31_536_000 * 10**6 + count * unit) * 1_000),
    st.integers(0, 10**7),
    st.sampled_from([1, 10**6, 60 * 10**6]),
)
exceptions = st.fixed_dictionaries(
    {
        "scope": st.sampled_from(["/", "/a", "/no"]),
        "reason": words.filter(bool) | tricky,
        "until": instants,
        "limits": limits,
    },
    optional={"owner": words, "from": instants, "match": matches, "budgets": limits},
)
said = st.fixed_dictionaries(
    {},
    optional={
        "description": words | tricky,
        "owner": words | tricky,
        "on_error": st.sampled_from(["allow", "deny"]),
        "protected": st.booleans(),
        "unset": st.lists(names, unique=True, max_size=3),
        "limits": limits,
        "caps": st.dictionaries(names, st.fixed_dictionaries({"burst": st.integers(0, 9)})),
        "overrides": st.lists(overrides, max_size=3, unique_by=lambda override: override["name"]),
    },
)
trees = st.dictionaries(st.sampled_from(["/", "/a", "/1", "/no", "/a/1.5", "/a/b"]), said)


@given(trees, st.lists(exceptions, max_size=3))
def test_policies_read_back_the_same(
    scopes: dict[str, dict[str, object]], amended: list[dict[str, object]]
) -> None:
    if not scopes:
        return
    policies = [Policy.model_validate({"scope": scope, **said}) for scope, said in scopes.items()]
    tree = with_exceptions(
        PolicyTree({policy.scope: policy for policy in policies}),
        ((Exemption.model_validate(each), None) for each in amended),
    )
    loaded = load(["-"], stdin="\n".join(policy_lines(tree)).encode())
    assert loaded.ok, loaded.diagnostics
    assert loaded.tree.policies == tree.policies
    assert encode_policies(loaded.tree) == encode_policies(tree)


@given(st.text())
def test_safe_text_is_one_printable_line(text: str) -> None:
    shown = safe(text)
    assert shown.isprintable()
    assert shown == text or not text.isprintable()


@given(st.text(), st.integers(0, 30))
def test_padding_never_cuts(text: str, width: int) -> None:
    shown = safe(text)
    assert cells(pad(shown, width)) == max(width, cells(shown))


def test_wide_characters_line_up() -> None:
    lines = aligned([("日本", "x"), ("abc", "y")])
    assert ["".join(map(str, line)).rstrip() for line in lines] == ["日本  x", "abc   y"]


def test_plain_tables_are_whole() -> None:
    out = MemoryStream()
    table = Table([Column("A"), Column("B", right=True)])
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
def test_times_as_people_say_them(time: str | None, said: str) -> None:
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


def test_the_mark_stands_under_the_value() -> None:
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
def test_labels_tell_buckets_apart(overrides: tuple[str, ...], label: str) -> None:
    assert bucket_label("spike", "/a", overrides) == label
