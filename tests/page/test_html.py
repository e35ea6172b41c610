"""Markup: text cannot become markup, whatever is done with it."""

from __future__ import annotations

import pytest

from page.views import HOSTILE
from ratectl.page.html import EMPTY, Html, joined, shortened, tag
from ratectl.runtime.wording import printable


def test_text_is_escaped_and_markup_is_kept() -> None:
    assert tag("p", "a < b", tag("b", "c & d")) == "<p>a &lt; b<b>c &amp; d</b></p>"


def test_attributes_are_escaped_even_if_they_are_markup() -> None:
    assert tag("a", href="\"'<>&") == '<a href="&quot;&#x27;&lt;&gt;&amp;"></a>'
    assert tag("a", title=tag("b")) == '<a title="&lt;b&gt;&lt;/b&gt;"></a>'


def test_names_of_attributes() -> None:
    assert tag("svg", class_="bar", aria_hidden="true", viewBox="0 0 1 1") == (
        '<svg class="bar" aria-hidden="true" viewBox="0 0 1 1"></svg>'
    )
    assert tag("p", hidden=True, title=None, dir=False) == "<p hidden></p>"
    assert tag("meta", name="referrer") == '<meta name="referrer">'


def test_markup_that_is_added_to_a_text_is_a_text_again() -> None:
    """A mistake is seen on the page, and is no hole."""
    mixed = tag("b", "x") + "<i>"
    assert not isinstance(mixed, Html)
    assert tag("p", mixed) == "<p>&lt;b&gt;x&lt;/b&gt;&lt;i&gt;</p>"
    assert tag("p", f"{tag('b')}<i>") == "<p>&lt;b&gt;&lt;/b&gt;&lt;i&gt;</p>"


def test_styles_in_attributes_are_refused() -> None:
    with pytest.raises(ValueError, match="use a class"):
        tag("p", style="color: red")


def test_parts_in_a_row() -> None:
    assert joined(["<", tag("br2"), ">"], " & ") == "&lt; &amp; <br2></br2> &amp; &gt;"
    assert joined([]) == EMPTY


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hidden_characters_are_visible(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()
    assert not text.isprintable() or shown == text


def test_long_texts_are_shortened() -> None:
    assert shortened("abcdef", 6) == "abcdef"
    assert shortened("abcdefg", 6) == "abcde…"
