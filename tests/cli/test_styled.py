"""Cells of tables: shortened and wrapped texts, with any characters."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from ratectl.runtime.wording import printable
from ratectl_cli.framework.pieces import Styled
from ratectl_cli.framework.styled import longest_part, shortened, width_of, wrapped
from ratectl_cli.framework.terminal import cells, clusters

LETTERS = ["a", "b", "1", "2", ".", " ", "/", "-", "日", "👍🏽", "e\u0301"]
WORDS = st.lists(st.sampled_from(LETTERS), max_size=60).map("".join)
CELLS = st.lists(st.builds(Styled, WORDS, st.sampled_from(["", "dim", "red"])), max_size=4)


def text_of(cell: object) -> str:
    assert isinstance(cell, (list, tuple))
    return "".join(piece.text for piece in cell)


@given(CELLS, st.integers(2, 40))
def test_lines_of_a_wrapped_cell_fit_and_lose_nothing(cell: list[Styled], width: int) -> None:
    lines = wrapped(cell, width)
    assert max(map(width_of, lines)) <= width
    joined = "".join(map(text_of, lines))
    assert joined.replace(" ", "") == text_of(cell).replace(" ", "")


@given(CELLS, st.integers(2, 40))
def test_words_that_fit_are_not_divided(cell: list[Styled], width: int) -> None:
    shown = {word for line in wrapped(cell, width) for word in text_of(line).split()}
    words = text_of(cell).split()
    assert {word for word in words if cells(word) <= width} <= shown


@given(CELLS, st.integers(2, 40))
def test_numbers_that_fit_are_not_divided(cell: list[Styled], width: int) -> None:
    if longest_part(cell) <= width:
        shown = " ".join(map(text_of, wrapped(cell, width)))
        numbers = re.findall(r"[0-9]+", text_of(cell))
        assert re.findall(r"[0-9]+", shown) == numbers


@given(CELLS, st.integers(2, 40))
def test_a_shortened_cell_is_a_start_with_an_ellipsis(cell: list[Styled], width: int) -> None:
    short = text_of(shortened(cell, width, "…"))
    assert cells(short) <= width
    if cells(text_of(cell)) <= width:
        assert short == text_of(cell)
    else:
        start = short.removesuffix("…")
        rest = text_of(cell)[len(start) :]
        assert text_of(cell).startswith(start)
        assert short.endswith("…")
        assert not re.search(r"[0-9]$", start) or not re.match(r"[0-9]", rest)


@given(st.text().map(printable))
def test_clusters_are_the_whole_text(text: str) -> None:
    assert "".join(cluster for cluster, _ in clusters(text)) == text
    assert sum(width for _, width in clusters(text)) == cells(text)
