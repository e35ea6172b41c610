"""Reading of pages in tests: their elements, and the text that people see."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import html5lib

if TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.etree.ElementTree import Element

__all__ = ["elements", "parsed", "text_of", "words"]

_INLINE = {"a", "b", "code", "wbr"}
"""Elements that stand in a line of text. So does a span without a class."""


def parsed(page: str) -> Element:
    """Return the page as a browser would read it; an error of its markup fails the test."""
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    root: Element = parser.parse(page)
    return root


def elements(root: Element) -> Iterator[tuple[str, Element]]:
    """Yield every element with its name."""
    for element in root.iter():
        if isinstance(element.tag, str):  # and not a comment
            yield element.tag.rpartition("}")[2], element


def words(page: str) -> str:
    """Return the text of a page."""
    (body,) = (element for name, element in elements(parsed(page)) if name == "body")
    return text_of(body)


def text_of(element: Element) -> str:
    """Return the text of an element, with a space around each one that is not inside a line."""
    return re.sub(r"\s+", " ", "".join(_parts(element)))


def _parts(element: Element) -> Iterator[str]:
    inline = element.tag in _INLINE or (element.tag == "span" and "class" not in element.attrib)
    around = "" if inline else " "
    yield around
    yield element.text or ""
    for child in element:
        yield from _parts(child)
        yield child.tail or ""
    yield around
