"""Comments in the canonical form: none is lost, and they ignore the findings that they did."""

from __future__ import annotations

import pytest

from ratectl.policy.format import COMMENTS, IGNORES, Formatted, Kept, format_text


def test_a_document_whose_comments_would_be_lost_is_kept() -> None:
    text = (
        "apiVersion:   ratectl/v1\nscope: /a\n---\nscope:  /b\napiVersion: ratectl/v1\n"
        "limits:\n  a: {\n    rate:  1/s,  # why\n  }\n"
    )
    formatted = format_text(text)
    assert formatted.kept == ((4, COMMENTS),)
    assert formatted.text == text.replace("apiVersion:   ", "apiVersion: ")


@pytest.mark.parametrize(
    "anchored",
    ["&a # why\n{}limits: {{x: {{rate: 1/s}}}}\n", "{}limits: &a # why\n  x: {{rate: 1/s}}\n"],
)
def test_a_document_with_a_comment_after_an_anchor_is_kept(anchored: str) -> None:
    text = anchored.format("apiVersion: ratectl/v1\nscope: /a\n")
    formatted = format_text(text)
    assert (formatted.text, formatted.kept) == (text, ((1, COMMENTS),))


WIDE = f"a: {{burst: 10, rate: 1/s, per: [ip, {', '.join(f'attribute-{n}' for n in range(6))}]}}"


def test_comment_for_a_wide_limit_keeps_it_on_its_line() -> None:
    head = "apiVersion: ratectl/v1\nscope: /a\nlimits:\n"
    formatted = format_text(f"{head}  {WIDE}  # ratectl: ignore RC304\n")
    wide = WIDE.replace("burst: 10, rate: 1/s", "rate: 1/s, burst: 10")
    assert formatted == Formatted(f"{head}  {wide}  # ratectl: ignore RC304\n", ())


@pytest.mark.parametrize(
    "text",
    [
        "scope:   /a\n# ratectl: ignore RC304\napiVersion: ratectl/v1\nlimits: {}\n",
        (
            "apiVersion:   ratectl/v1\nscope: /a\nlimits:\n  a: {rate: 1/s,\n"
            "      per: ip}  # ratectl: ignore RC304\n"
        ),
        (
            "apiVersion:   ratectl/v1\nscope: /a\noverrides:\n"
            "  - match: {t: x}  # ratectl: ignore RC301\n    name: o\n    limits: {}\n"
        ),
    ],
)
def test_document_whose_comment_would_ignore_other_findings_is_kept(text: str) -> None:
    assert format_text(text) == Formatted(text, (Kept(1, IGNORES),))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("  a: {per: [ip],rate: 1 / s}", "  a: {rate: 1/s, per: ip}"),
        ("  a: {rate: 1 /s, per: 'ip'}", "  a: {rate: 1/s, per: 'ip'}"),
    ],
)
def test_document_whose_comment_ignores_the_same_is_formatted(before: str, after: str) -> None:
    head = "# ratectl: ignore RC302\n{}limits:\n  # ratectl: ignore RC310\n"
    head = head.format("apiVersion: ratectl/v1\nscope: /a\n")
    rest = " # ratectl: ignore RC304\n"
    formatted = format_text(head.replace("scope: ", "scope:  ") + before + rest)
    assert formatted.kept == ()
    assert formatted.text.replace("  #", " #") == (head + after + rest).replace("  #", " #")
