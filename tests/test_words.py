"""The words of docs/glossary.md: each is used, and messages use none of those that it rules out."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ratectl_cli.app import COMMANDS
from syntax_trees import syntax_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[1]
GLOSSARY: Final = ROOT / "docs" / "glossary.md"
ROW: Final = re.compile(r"^\| \*\*(.+?)\*\* \| (.+?) \|(.*)\|$", re.MULTILINE)
HELP: Final = ROOT / "cli" / "ratectl_cli" / "commands"
"""Folder in which docstrings are text for users."""
TOPICS: Final = HELP.parent / "topics"
"""Folder of the pages of `ratectl help`."""


@cache
def rows() -> dict[str, tuple[str, list[str]]]:
    """Meaning and banned synonyms of each word."""
    found = ROW.findall(GLOSSARY.read_text("utf-8"))
    return {word: (meaning, _listed(banned)) for word, meaning, banned in found}


def _listed(cell: str) -> list[str]:
    return [word.strip() for word in cell.split(",") if word.strip()]


@cache
def messages() -> list[tuple[str, str]]:
    """Texts that users may see, with their places."""
    texts = list(_texts())
    texts += [(path.name, path.read_text("utf-8")) for path in sorted(TOPICS.glob("*.txt"))]
    return texts + [(name, entry.summary) for name, entry in COMMANDS.items()]


def _texts() -> Iterator[tuple[str, str]]:
    """Texts of more than one word in the code, without docstrings that are not help."""
    for root in ("core", "cli"):
        for path in sorted((ROOT / root).rglob("*.py")):
            tree = syntax_tree(path)
            docstrings = set() if path.is_relative_to(HELP) else set(_docstrings(tree))
            for node in ast.walk(tree):
                if isinstance(node, ast.Constant) and id(node) not in docstrings:
                    text = node.value
                    if isinstance(text, str) and " " in text.strip(" "):
                        yield f"{path.relative_to(ROOT)}:{node.lineno}", text


def _docstrings(tree: ast.Module) -> Iterator[int]:
    """Ids of the texts that stand alone: docstrings of modules, functions, classes and fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield id(node.value)


def pattern(word: str) -> re.Pattern[str]:
    """Match a word or phrase in any case, singular or plural, whatever blanks are in it."""
    phrase = r"\s+".join(map(re.escape, word.split()))
    return re.compile(rf"(?<![\w-]){phrase}s?(?![\w-])", re.IGNORECASE)


def test_the_glossary_is_in_alphabetical_order_and_defines_each_word_once() -> None:
    words = ROW.findall(GLOSSARY.read_text("utf-8"))
    names = [word for word, *_ in words]
    assert len(names) > 50
    assert names == sorted(set(names), key=str.lower)


def test_meanings_are_one_or_two_sentences() -> None:
    for word, (meaning, _) in rows().items():
        sentences = re.findall(r"[.?](?: |$)", meaning.replace("1. ", "").replace("2. ", ""))
        assert 1 <= len(sentences) <= 3, word


def test_no_word_is_ruled_out_by_another() -> None:
    banned = {synonym for _, synonyms in rows().values() for synonym in synonyms}
    assert not banned & set(rows())


def test_every_word_is_used_in_code_or_documents() -> None:
    pages = [path for path in (ROOT / "docs").rglob("*.md") if path != GLOSSARY]
    sources = [path for root in ("core", "cli") for path in (ROOT / root).rglob("*.py")]
    text = "\n".join(path.read_text("utf-8") for path in [*pages, *sources])
    assert [word for word in rows() if not pattern(word).search(text)] == []


def test_no_message_uses_a_banned_synonym() -> None:
    banned = {word: pattern(word) for _, synonyms in rows().values() for word in synonyms}
    assert [
        f"{place}: {word!r} in {text!r}"
        for place, text in messages()
        for word, of in banned.items()
        if of.search(text)
    ] == []
