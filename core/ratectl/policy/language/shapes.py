"""Shapes: the model of each mapping in a document, found by following annotations of models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, get_args, get_origin

from pydantic import BaseModel, BeforeValidator

from ratectl.policy.language.field_types import as_list
from ratectl.policy.language.kinds import DEFAULT_KIND, KINDS
from ratectl.policy.language.rates import Rate

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["HEADER", "Shape", "document_shape"]

HEADER: Final = ("apiVersion", "kind")
"""Fields of every document."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Annotation of a place in a document, from the models; None for an unknown place."""

    annotation: Any = None
    header: tuple[str, ...] = ()

    @property
    def model(self) -> type[BaseModel] | None:
        """The model of a mapping at this place."""
        types = [choice for choice in _choices(self.annotation) if isinstance(choice, type)]
        return next((model for model in types if issubclass(model, BaseModel)), None)

    @property
    def item(self) -> Shape:
        """The shape of the items of a list at this place."""
        for choice in _choices(self.annotation):
            if get_origin(choice) in (list, tuple):
                return Shape(get_args(choice)[0])
        return Shape()

    @property
    def is_rate(self) -> bool:
        """True if this place holds a rate."""
        return Rate in _choices(self.annotation)

    @property
    def types(self) -> list[Any]:
        """The types and literals that a value at this place may have."""
        return _choices(self.annotation)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of a mapping at this place; empty for a mapping of names."""
        if self.model is None:
            return ()
        names = (field.alias or key for key, field in self.model.model_fields.items())
        return (*self.header, *names)

    @property
    def short_list(self) -> bool:
        """True if a list of one item may be written as the item."""
        return any(
            isinstance(mark, BeforeValidator) and mark.func is as_list
            for mark in _metadata(self.annotation)
        )

    def at(self, path: Sequence[str | int]) -> Shape:
        """Return the shape at a path of fields, names and positions."""
        shape = self
        for part in path:
            shape = shape.item if isinstance(part, int) else shape.field(part)
        return shape

    def field(self, name: str) -> Shape:
        """Return the shape of a field, or of the value of a name in a mapping of names."""
        model = self.model
        if model is not None:
            for key, field in model.model_fields.items():
                if name in (key, field.alias):
                    # The metadata of a field that is not a union is kept beside its annotation.
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
        """Return the positions of fields in canonical order; names keep their order."""
        model = self.model
        if model is None:
            return list(range(len(names)))
        known = [field.alias or key for key, field in model.model_fields.items()]
        ranks = {name: rank for rank, name in enumerate((*self.header, *known))}
        return sorted(range(len(names)), key=lambda at: (ranks.get(names[at], len(ranks)), at))


def document_shape(root: Any) -> Shape:
    """Return the shape of a document, by its ``kind``."""
    kinds = [value.value for name, value in root.value if name.value == "kind"]
    kind = kinds[0] if kinds else DEFAULT_KIND
    return Shape(KINDS.get(kind), HEADER)


def _choices(annotation: Any) -> list[Any]:
    """Return the members of an annotation: without ``Annotated``, unions taken apart."""
    if hasattr(annotation, "__metadata__"):
        return _choices(annotation.__origin__)
    if get_origin(annotation) in (list, tuple, dict) or not get_args(annotation):
        return [annotation]
    return [choice for member in get_args(annotation) for choice in _choices(member)]


def _metadata(annotation: Any) -> list[Any]:
    """Return the metadata of ``Annotated``, of the annotation or of a member of a union."""
    if hasattr(annotation, "__metadata__"):
        return [*annotation.__metadata__, *_metadata(annotation.__origin__)]
    if get_origin(annotation) in (list, tuple, dict):
        return []
    return [mark for choice in get_args(annotation) for mark in _metadata(choice)]
