"""``# ratectl: ignore``: which findings a comment suppresses, and comments without effect."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratectl.policy.read import load_checked

HEAD = "apiVersion: ratectl/v1\n"
PER_IP = "{rate: 5/s, per: ip}"


def lines(text: str | bytes) -> list[tuple[str, int]]:
    """Return code and line of each finding that remains."""
    loaded = load_checked(["-"], stdin=text.encode() if isinstance(text, str) else text)
    return [(found.code, found.span.line) for found in loaded.diagnostics]


def test_comment_at_the_end_of_a_line() -> None:
    text = f"{HEAD}scope: /a\nlimits:\n  a: {PER_IP} # ratectl: ignore RC304\n  b: {PER_IP}\n"
    assert lines(text) == [("RC304", 5)]
    loaded = load_checked(["-"], stdin=text.encode())
    assert [(found.code, found.span.line) for found in loaded.ignored] == [("RC304", 4)]


def test_comment_on_a_line_of_its_own_is_for_the_next_line_with_content() -> None:
    comment = "  # ratectl: ignore RC304\n\n  # why: no proxies here\n"
    text = f"{HEAD}scope: /a\nlimits:\n{comment}  a: {PER_IP}\n  b: {PER_IP}\n"
    assert lines(text) == [("RC304", 8)]


@pytest.mark.parametrize("start", ["", "---\n", "# Shop\n---\n", "\ufeff"])
def test_comment_above_the_first_key_is_for_the_document(start: str) -> None:
    rest = f"scope: /%s\nlimits:\n  a: {PER_IP}\n  b: {PER_IP}\n"
    ignore = "# ratectl: ignore RC304\n"
    text = f"{start}{ignore}{HEAD}{rest % 'a'}---\n{HEAD}{rest % 'b'}"
    after = text[1:].count("\n") + 1
    assert lines(text) == [("RC304", after - 2), ("RC304", after - 1)]
    text = f"{start}{HEAD}{rest % 'a'}---\n{ignore}{HEAD}{rest % 'b'}"
    assert [code for code, _ in lines(text)] == ["RC304", "RC304"]


def test_comment_above_the_first_marker_is_for_the_first_document() -> None:
    text = f"# ratectl: ignore RC304\n---\n{HEAD}scope: /a\nlimits: {{a: {PER_IP}}}\n"
    assert lines(text) == []
    assert lines(f"{text}---\n{HEAD}scope: /b\nlimits: {{a: {PER_IP}}}\n") == [("RC304", 9)]


@pytest.mark.parametrize(
    "comment",
    [
        "# ratectl: ignore RC304", "#ratectl:ignore RC304", "# ratectl: ignore rc304",
        "# ratectl: ignore RC304: there is no proxy", "# ratectl: ignore RC304 (no proxy)",
        "# ratectl: ignore RC304,RC302", "# ratectl: ignore RC302, RC304",
        "# ratectl: ignore RC304 RC302", "# ratectl: ignore RC302; RC304",
        "## ratectl: ignore RC304", "# RateCtl: ignore RC304", "# ratectl : ignore RC304",
        "# note # ratectl: ignore RC304", "# ratectl: ignore RC304 (unlike RC301)",
        "# ratectl: ignore RC304 # ratectl: ignore RC302",
    ],
)  # fmt: skip
def test_spellings(comment: str) -> None:
    limit = "{rate: 5/min, per: ip, consistency: strict}"
    text = f"{HEAD}scope: /a\nlimits:\n  a: {limit} {comment}\n"
    expected = [] if "RC302" in comment else [("RC302", 4)]
    assert lines(text) == expected


def test_line_ends_of_windows() -> None:
    text = f"{HEAD}scope: /a\nlimits:\n  a: {PER_IP} # ratectl: ignore RC304\n  b: {PER_IP}\n"
    assert lines(text.replace("\n", "\r\n")) == [("RC304", 5)]


def test_comment_in_a_document_of_another_kind() -> None:
    exception = (
        "kind: Exception\nscope: /a\nreason: x\n"
        "until: 2020-01-01T00:00Z  # ratectl: ignore RC321\nlimits: {a: {rate: 9/s}}\n"
    )
    policy = f"{HEAD}scope: /a\nlimits: {{a: {{rate: 5/s}}}}\n"
    assert lines(f"{policy}---\n{HEAD}{exception}") == []


@pytest.mark.parametrize(
    ("comment", "problem"),
    [
        ("# ratectl ignore RC304", "it cannot be read"),
        ("# ratectl: ignore RC304, because there is no proxy", "no code follows the last ','"),
        ("# ratectl: ignore RC304; no proxy", "no code follows the last ';'"),
        ("# ratectl: ignore RC304 and RC302", "commas have to separate the codes"),
        ("# ratectl: ignore RC304 RC3021", "commas have to separate the codes"),
    ],
)
def test_comment_that_does_less_than_it_says_is_a_finding(comment: str, problem: str) -> None:
    text = f"{HEAD}scope: /a\nlimits:\n  a: {PER_IP} {comment}\n"
    found = load_checked(["-"], stdin=text.encode()).diagnostics
    assert [finding.code for finding in found] == ["RC304", "RC313"]
    assert found[1].message == f"the comment ignores nothing: {problem}"
    assert found[1].hint == "write # ratectl: ignore RC304, RC310 (why), with the codes of warnings"


@pytest.mark.parametrize("comment", [
    "ignore RC304", "ignore RC304, RC201", "ignore", "ignored RC304", "ignore all", "ignore RC3",
    "ignore RC304,", "ignore RC399", "ignore RC201", "ignore RC313", "ignore RC304 RC302",
])  # fmt: skip
def test_comment_without_effect_is_a_finding(comment: str) -> None:
    text = f"{HEAD}scope: /a\nlimits:\n  a: {{rate: 5/s}} # ratectl: {comment}\n"
    found = lines(text)
    assert found
    assert set(found) == {("RC313", 4)}


@pytest.mark.parametrize(
    "text",
    [
        'description: "x # ratectl: ignore RC304"\nlimits: {}\n',
        "description: x#ratectl:ignore RC304\nlimits: {}\n",
        "description: |\n  # ratectl: ignore RC304\n  x\nlimits: {}\n",
        "description: x # ratectl ignores nothing\n",
        "description: x # see ratectl: ignore RC304\n",
    ],
)
def test_text_that_is_no_comment_of_ours(text: str) -> None:
    assert lines(f"{HEAD}scope: /a\n{text}") == []


def test_comment_below_everything_ignores_nothing() -> None:
    text = f"{HEAD}scope: /a\nlimits:\n  a: {PER_IP}\n  # ratectl: ignore RC304\n"
    assert lines(f"{text}---\n{HEAD}scope: /b\n") == lines(text) == [("RC304", 4), ("RC313", 5)]


def test_errors_cannot_be_ignored() -> None:
    text = f"# ratectl: ignore RC140\n{HEAD}scope: /a\nlimits: {{a: {{rate: 5/x}}}}\n"
    assert lines(text) == [("RC313", 1), ("RC140", 4)]


def test_unused_comment_is_not_reported_while_there_are_errors() -> None:
    """An error keeps rules from being applied: the finding may come back."""
    limits = "  a: {rate: 5/s} # ratectl: ignore RC304\n  b: {rate: 5/x}\n"
    text = f"{HEAD}scope: /a\nlimits:\n{limits}"
    assert lines(text) == [("RC140", 5)]


@given(st.lists(st.sampled_from(["# ratectl: ignore RC304", "", "# x"]), min_size=12, max_size=12))
def test_comments_change_nothing_but_warnings_on_their_lines(comments: list[str]) -> None:
    """Each line ``per: ip`` is reported unless a comment covers it; errors always are."""
    template = [
        "", "apiVersion: ratectl/v1", "scope: /a", "limits:", f"  a: {PER_IP}",
        "", f"  b: {PER_IP}", "---", "", "apiVersion: ratectl/v1", "scope: /b",
        f"limits: {{c: {PER_IP}}}",
    ]  # fmt: skip
    text = "".join(
        f"{line} {comment}\n" if line else f"{comment}\n"
        for line, comment in zip(template, comments, strict=True)
    )
    ours = [comment.startswith("# ratectl") for comment in comments]
    expected = {
        5: not (ours[4] or ours[0]),
        7: not (ours[6] or ours[5] or ours[0]),
        # The comment on the line of the marker is for that line only.
        12: not (ours[11] or ours[8]),
    }
    found = {line for code, line in lines(text) if code == "RC304"}
    assert found == {line for line, reported in expected.items() if reported}


def test_of_two_comments_for_one_finding_the_second_is_reported() -> None:
    comment = "# ratectl: ignore RC304\n"
    text = f"{HEAD}scope: /a\nlimits: {{a: {PER_IP}}}\n"
    assert lines(comment + comment + text) == [("RC313", 2)]


def test_many_comments_take_little_time() -> None:
    body = "".join(
        f"  l{n}: {{rate: 5/s, per: ip}} # ratectl: ignore RC304\n" for n in range(8_000)
    )
    started = time.process_time()
    assert lines(f"{HEAD}scope: /a\nlimits:\n{body}") == []
    assert time.process_time() - started < 20
