"""Which model a mapping of a document belongs to, found by following the models' annotations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

from pydantic import BaseModel, BeforeValidator

from ratectl.policy.language.kinds import DEFAULT_KIND, KINDS
from ratectl.policy.language.model import _as_list
from ratectl.policy.language.rates import Rate

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Shape", "document_shape"]

_HEADER = ("apiVersion", "kind")


@dataclass(frozen=True, slots=True)
class Shape:
    """What the models say of a place in a document: its annotation, or nothing."""

    annotation: Any = None
    header: tuple[str, ...] = ()

    @property
    def model(self) -> type[BaseModel] | None:
        """The model of a mapping here."""
        found = [each for each in _choices(self.annotation) if isinstance(each, type)]
        return next((each for each in found if issubclass(each, BaseModel)), None)

    @property
    def item(self) -> Shape:
        """The items of a list here."""
        for choice in _choices(self.annotation):
            if get_origin(choice) in (list, tuple):
                return Shape(get_args(choice)[0])
        return Shape()

    @property
    def is_rate(self) -> bool:
        """Whether a rate is written here."""
        return Rate in _choices(self.annotation)

    @property
    def short_list(self) -> bool:
        """Whether a list of one may be written as its item."""
        return any(
            isinstance(each, BeforeValidator) and each.func is _as_list
            for each in _metadata(self.annotation)
        )

    def at(self, path: Sequence[str | int]) -> Shape:
        """The value at a path of fields, names and positions."""
        shape = self
        for part in path:
            shape = shape.item if isinstance(part, int) else shape.field(part)
        return shape

    def field(self, name: str) -> Shape:
        """The value of a field here, or of a name in a mapping of names."""
        model = self.model
        if model is not None:
            for key, field in model.model_fields.items():
                if name in (key, field.alias):
                    # A field that is not a union has its metadata beside the annotation.
                    metadata = tuple(field.metadata)
                    return Shape(
                        Annotated[field.annotation, *metadata] if metadata else field.annotation
                    )
            return Shape()
        for choice in _choices(self.annotation):
            if get_origin(choice) is dict:
                return Shape(get_args(choice)[1])
        return Shape()

    def order(self, names: Sequence[str]) -> list[int]:
        """The positions of fields in their canonical order; names keep theirs."""
        model = self.model
        if model is None:
            return list(range(len(names)))
        known = [field.alias or key for key, field in model.model_fields.items()]
        ranks = {name: rank for rank, name in enumerate((*self.header, *known))}
        return sorted(range(len(names)), key=lambda at: (ranks.get(names[at], len(ranks)), at))


def document_shape(root: Any) -> Shape:
    """The shape of a document, by its ``kind``."""
    kinds = [value.value for name, value in root.value if name.value == "kind"]
    kind = kinds[0] if kinds else DEFAULT_KIND
    return Shape(KINDS.get(kind), _HEADER)


def _choices(annotation: Any) -> list[Any]:
    """The annotation without ``Annotated``, its unions taken apart."""
    if hasattr(annotation, "__metadata__"):
        return _choices(annotation.__origin__)
    if get_origin(annotation) in (list, tuple, dict) or not get_args(annotation):
        return [annotation]
    return [choice for each in get_args(annotation) for choice in _choices(each)]


def _metadata(annotation: Any) -> list[Any]:
    """What ``Annotated`` adds, in the annotation or in a member of a union."""
    if hasattr(annotation, "__metadata__"):
        return [*annotation.__metadata__, *_metadata(annotation.__origin__)]
    if get_origin(annotation) in (list, tuple, dict):
        return []
    return [each for choice in get_args(annotation) for each in _metadata(choice)]
