"""Canonical form: idempotent, and nothing is lost."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from pydantic import BaseModel

from policy.documents import policies
from ratectl.policy.bundle import encode_policies
from ratectl.policy.format import format_text
from ratectl.policy.format.layout import comments
from ratectl.policy.language.kinds import KINDS
from ratectl.policy.language.model import LimitFields
from ratectl.policy.loading.loader import load
from ratectl.policy.read import load_checked

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "policies").rglob("*.yaml"))
INVALID = sorted((ROOT / "tests" / "invalid_policies").glob("*.yaml"))

CASES = {
    "order of fields": (
        """\
        # heading
        owner: a
        scope: /a
        apiVersion: ratectl/v1
        """,
        """\
        # heading
        apiVersion: ratectl/v1
        scope: /a
        owner: a
        """,
    ),
    "comments go with the field below": (
        """\
        apiVersion: ratectl/v1
        limits:
          # of spike
          spike: {rate: 1/s}  # beside

        # why this scope
        scope: /a
        """,
        """\
        apiVersion: ratectl/v1

        # why this scope
        scope: /a
        limits:
          # of spike
          spike: {rate: 1/s}  # beside
        """,
    ),
    "fields of a limit, their comments, and the indentation": (
        """\
        apiVersion: ratectl/v1
        scope: /a
        limits:
            spike:
                # of per
                per:
                - x
                # of rate
                rate: 10 / second
            # the end
        """,
        """\
        apiVersion: ratectl/v1
        scope: /a
        limits:
          spike:
            # of rate
            rate: 10/s
            # of per
            per: x
          # the end
        """,
    ),
    "rates": (
        """\
        apiVersion: ratectl/v1
        scope: /a
        limits:
          a: {rate: 500_000/days}
          b: {rate: "10 / minute"}
          c: {rate: 10/1h}
          d: {rate: 50 / 30 seconds}
          e: {rate: 0.50/s}
          f: {rate: unlimited}
          g:   {rate: 1/months}
          rate: {rate: 60/min}
        """,
        """\
        apiVersion: ratectl/v1
        scope: /a
        limits:
          a: {rate: 500_000/day}
          b: {rate: 10/min}
          c: {rate: 10/h}
          d: {rate: 50/30s}
          e: {rate: 0.50/s}
          f: {rate: unlimited}
          g: {rate: 1/month}
          rate: {rate: 60/min}
        """,
    ),
    "braces": (
        """\
        apiVersion: ratectl/v1
        scope: /a
        unset: [ a,b ]
        limits:
          a: { per: [ x ],rate: 1/s }
          b: {rate: 1/s,
              per: [x,
                    z]}
          c: {}
        """,
        """\
        apiVersion: ratectl/v1
        scope: /a
        unset: [a, b]
        limits:
          a: {rate: 1/s, per: x}
          b: {rate: 1/s, per: [x, z]}
          c: {}
        """,
    ),
    "names keep their order": (
        """\
        apiVersion: ratectl/v1
        scope: /a
        limits: {rate: {rate: 1/s}, burst: {rate: 1/s}, algorithm: {rate: 1/s}}
        """,
        """\
        apiVersion: ratectl/v1
        scope: /a
        limits: {rate: {rate: 1/s}, burst: {rate: 1/s}, algorithm: {rate: 1/s}}
        """,
    ),
    "around documents": (
        """\
        # heading

        ---
        # first
        apiVersion: ratectl/v1
        scope:   /a
        # end of the first
        ---   # second
        scope: /b
        apiVersion: ratectl/v1
        ...
        # the end


        """,
        """\
        # heading

        ---
        # first
        apiVersion: ratectl/v1
        scope: /a
        # end of the first
        ---   # second
        apiVersion: ratectl/v1
        scope: /b
        ...
        # the end
        """,
    ),
    "block texts, quotes and what is no comment": (
        """\
        apiVersion: ratectl/v1
        scope: /a
        owner:   'a # b'
        description: |
          # not a comment
          per:   x
        """,
        """\
        apiVersion: ratectl/v1
        scope: /a
        description: |
          # not a comment
          per:   x
        owner: 'a # b'
        """,
    ),
    "anchors keep the order": (
        """\
        limits:
          a: {rate: &r 1/s}
          b: {rate: *r}
        apiVersion:   ratectl/v1
        scope: /a
        """,
        """\
        limits:
          a: {rate: &r 1/s}
          b: {rate: *r}
        apiVersion: ratectl/v1
        scope: /a
        """,
    ),
}


def meaning(text: str) -> bytes:
    loaded = load(["-"], stdin=text.encode())
    assert loaded.ok, loaded.diagnostics
    return encode_policies(loaded.tree)


@pytest.mark.parametrize(("before", "after"), CASES.values(), ids=list(CASES))
def test_cases(before: str, after: str) -> None:
    before, after = textwrap.dedent(before), textwrap.dedent(after)
    formatted = format_text(before)
    assert formatted.text == after
    assert formatted.kept == ()
    assert format_text(after).text == after
    assert meaning(before) == meaning(after)


def test_a_mapping_too_wide_for_one_line_gets_a_line_per_field() -> None:
    """The limit is a hundred columns; each field fits on its own line."""
    head = "apiVersion: ratectl/v1\nscope: /a\nlimits:\n"
    names = ", ".join(f"attribute-{n}" for n in range(6))
    wide = f"{head}  a: {{burst: 10, rate: 1/s, per: [{names}]}}  # why\n"
    assert format_text(wide).text == (
        f"{head}  a:\n    rate: 1/s\n    burst: 10\n    per: [{names}]  # why\n"
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_example_tree_is_canonical(path: Path) -> None:
    text = path.read_text()
    assert format_text(text).text == text, f"run: ratectl fmt {path.relative_to(ROOT)}"


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_no_text_makes_formatting_fail(path: Path) -> None:
    """The command refuses such text; the function must not fail for any text."""
    text = path.read_bytes().decode("utf-8", "replace")
    assert format_text(text).text.endswith("\n")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("apiVersion: ratectl/v1\r\nscope:  /\r\n\r\n", "apiVersion: ratectl/v1\r\nscope: /\r\n"),
        ("apiVersion: ratectl/v1\nscope:  /a\r\n", "apiVersion: ratectl/v1\nscope: /a\n"),
        ("apiVersion: ratectl/v1\r\nscope:  /a\n", "apiVersion: ratectl/v1\r\nscope: /a\r\n"),
        ("apiVersion: ratectl/v1\rscope: /a\r", "apiVersion: ratectl/v1\nscope: /a\n"),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_marks(before: str, after: str, mark: str) -> None:
    assert format_text(mark + before).text == after
    assert format_text(after).text == after


def findings(text: str) -> tuple[list[tuple[str, str]], ...]:
    """Return the findings that are shown, and those that comments ignore."""
    checked = load_checked(["-"], stdin=text.encode())
    return tuple(
        sorted((finding.code, finding.message) for finding in some)
        for some in (checked.diagnostics, checked.ignored)
    )


@given(policies())
def test_formatting_is_idempotent_and_loses_nothing(text: str) -> None:
    formatted = format_text(text)
    assert meaning(formatted.text) == meaning(text)
    assert sorted(comments(formatted.text)) == sorted(comments(text))
    assert findings(formatted.text) == findings(text)
    assert format_text(formatted.text).text == formatted.text


class _Step(BaseModel):
    name: str
    match: dict[str, str | list[str]]
    limits: dict[str, LimitFields]


class _Plan(BaseModel):
    scope: str
    steps: list[_Step] | None = None


def test_models_within_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fields of list items are ordered too, with the dash first; attributes keep their order."""
    monkeypatch.setitem(KINDS, "Plan", _Plan)  # type: ignore[misc]
    before = """\
    apiVersion: ratectl/v1
    kind: Plan
    steps:
    - limits: {spike: {burst: 1, rate: 1 / s}}
      # which
      match: {rate: 10 / s, per: [x], algorithm: a}
      name: one
    - {match: {a: b}, name: two}
    - # nameless
      match: {a: b}
      limits:
        spike:
          burst: 1
          rate: 1/sec
    scope: /a
    """
    after = """\
    apiVersion: ratectl/v1
    kind: Plan
    scope: /a
    steps:
      - name: one
        # which
        match: {rate: 10 / s, per: [x], algorithm: a}
        limits: {spike: {rate: 1/s, burst: 1}}
      - {name: two, match: {a: b}}
      # nameless
      - match: {a: b}
        limits:
          spike:
            rate: 1/s
            burst: 1
    """
    formatted = format_text(textwrap.dedent(before))
    assert formatted.text == textwrap.dedent(after)
    assert format_text(formatted.text).text == formatted.text
