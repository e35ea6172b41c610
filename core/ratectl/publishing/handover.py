"""Documents that change hands when a set is published, or stay behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from ratectl.records import exactly

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Item", "Moved"]


class Item(NamedTuple):
    """A document, as it is named to people, and who owned it before."""

    kind: Literal["Policy", "Exception"]
    scope: str
    owner: str | None

    def __str__(self) -> str:
        return self.scope if self.kind == "Policy" else f"an exception at {self.scope}"


class Moved(NamedTuple):
    """What becomes of documents that a set does not hold any more, or did not own before."""

    left: tuple[Item, ...] = ()
    """What the set owns and does not hold any more; it stays."""
    pruned: tuple[Item, ...] = ()
    """The same, where it does not stay."""
    taken: tuple[Item, ...] = ()
    """What the set owns from now on, and others, or nobody, did before."""

    def data(self) -> dict[str, list[dict[str, str | None]]]:
        """As JSON."""
        return {name: [item._asdict() for item in items] for name, items in self._asdict().items()}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """What ``data`` said.

        :raises TypeError, ValueError: it did not.
        """
        data = exactly("documents of a set are", cls._fields, data)
        if not all(isinstance(items, list) for items in data.values()):
            raise TypeError("documents of a set are lists")
        return cls(*(tuple(map(_item_of, data[name])) for name in cls._fields))


def _item_of(data: object) -> Item:
    item = Item(**exactly("a document of a set has", Item._fields, data))
    if item.kind not in ("Policy", "Exception"):
        raise ValueError(f"{item.kind!r} is no kind of document")
    if not isinstance(item.scope, str) or not isinstance(item.owner, str | None):
        raise TypeError("a scope and an owner are texts")
    return item
