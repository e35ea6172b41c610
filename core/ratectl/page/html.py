"""Markup that cannot forget to escape: text becomes markup only here.

``tag`` escapes every content that is not ``Html``, and every attribute. An ``Html`` that is added
to a text or formatted is a plain text again, which the next ``tag`` escapes.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from ratectl.runtime.wording import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["EMPTY", "Html", "joined", "shortened", "tag"]

_VOID: Final = frozenset({"link", "meta", "wbr"})
"""Elements without content and without an end tag."""


class Html(str):
    """Markup. Made by ``tag`` and ``joined`` only."""

    __slots__ = ()


EMPTY: Final = Html()


def shortened(text: str, most: int) -> str:
    """Return a text of at most so many characters, with … for those that are left out."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def joined(parts: Iterable[str], between: str = "") -> Html:
    """Return parts in a row; those that are not markup are escaped, ``between`` too."""
    return Html(_escaped(between).join(map(_escaped, parts)))


def tag(name: str, /, *content: str, **attributes: str | int | bool | None) -> Html:
    """Return an element.

    Names of attributes: ``class_`` is ``class``, ``aria_hidden`` is ``aria-hidden``. None and False
    leave an attribute out; True writes its name alone.
    """
    if "style" in attributes:
        raise ValueError("the page's own policy forbids styles in attributes: use a class")
    opening = name + "".join(
        _attribute(key.rstrip("_").replace("_", "-"), value)
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Html(f"<{opening}>")
    return Html(f"<{opening}>{joined(content)}</{name}>")


def _attribute(name: str, value: str | int | bool) -> str:
    if value is True:
        return f" {name}"
    return f' {name}="{escape(printable(str(value)))}"'


def _escaped(text: str) -> str:
    return text if isinstance(text, Html) else escape(printable(text))
