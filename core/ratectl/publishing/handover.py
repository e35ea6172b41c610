"""Documents that get another owner when a set is published, or stay without being in its files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from ratectl.records import exactly

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Item", "Moved"]


class Item(NamedTuple):
    """A document, by its kind and scope, and its owner before."""

    kind: Literal["Policy", "Exception"]
    scope: str
    owner: str | None

    def __str__(self) -> str:
        return self.scope if self.kind == "Policy" else f"an exception at {self.scope}"


class Moved(NamedTuple):
    """Documents that the files of a set no longer hold, or that it did not own before."""

    left: tuple[Item, ...] = ()
    """Owned but no longer in the files: stays live."""
    pruned: tuple[Item, ...] = ()
    """Owned but no longer in the files: removed by ``--prune``."""
    taken: tuple[Item, ...] = ()
    """Taken over from another set, or from none."""

    def data(self) -> dict[str, list[dict[str, str | None]]]:
        """Return them as JSON data."""
        return {name: [item._asdict() for item in items] for name, items in self._asdict().items()}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """Read the data that ``data`` returned.

        :raises TypeError, ValueError: they are other data.
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
