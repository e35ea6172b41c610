"""Pages of ``ratectl help``: text files in the folder ``topics``."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

from ratectl_cli.framework.text import Aligned, bold, paragraph

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ratectl_cli.framework.text import Block

__all__ = ["Topic", "topic_data", "topics", "topics_blocks", "topics_data"]


class Topic(NamedTuple):
    """One page. Its first line is ``Title: summary``."""

    name: str
    text: str

    @property
    def lines(self) -> list[Block]:
        """The page as it is printed."""
        title, *body = self.text.splitlines()
        return [bold(title), *body]

    @property
    def summary(self) -> str:
        """Subject of the page, for the list of topics."""
        return self.text.splitlines()[0].partition(": ")[2]


def topics() -> dict[str, Topic]:
    """Return every page by name."""
    folder = resources.files("ratectl_cli") / "topics"
    pages = [
        Topic(file.name.removesuffix(".txt"), file.read_text("utf-8"))
        for file in folder.iterdir()
        if file.name.endswith(".txt")
    ]
    return {page.name: page for page in sorted(pages)}


def topics_blocks(pages: Mapping[str, Topic]) -> Iterator[Block]:
    """Yield the list of topics."""
    yield bold("Topics:")
    yield Aligned([(f"  {page.name}", page.summary) for page in pages.values()])
    yield ""
    yield paragraph("`ratectl help TOPIC` prints a page, `ratectl help COMMAND` a command's help.")


def topics_data(pages: Mapping[str, Topic]) -> dict[str, Any]:
    """Return the list of topics for programs."""
    return {"topics": [{"name": page.name, "summary": page.summary} for page in pages.values()]}


def topic_data(page: Topic) -> dict[str, Any]:
    """Return a page for programs."""
    return {"topic": page.name, "summary": page.summary, "text": page.text}
