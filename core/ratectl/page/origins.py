"""Values of a limit with their places in files, and the values that they replace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratectl.page.view import Place, Sourced, Value
from ratectl.policy.resolution.fields import EXPLAINED_FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.policy.language.model import PolicyTree
    from ratectl.policy.resolution.effective_limit import Limit, Setting

__all__ = ["values_of"]


def values_of(tree: PolicyTree, limit: Limit, *, budget: bool) -> tuple[Value, ...]:
    """Return the fields of a limit that a document sets, and the defaults worth showing."""
    return tuple(_values(tree, limit, "budgets" if budget else "limits"))


def _values(tree: PolicyTree, limit: Limit, part: str) -> Iterator[Value]:
    for field in EXPLAINED_FIELDS:
        setting = limit.settings.get(field.name)
        if setting is None and not (field.explains_default and field.text(limit) is not None):
            continue
        path = f"{part}.{limit.name}.{field.name}"
        history = list(setting.history()) if setting else []
        clip = limit.clips.get(field.name)
        cap = None
        if clip is not None:
            cap_path = f"caps.{limit.name}.{clip.field}"
            cap = Sourced(_text(clip.cap.value), _place(tree, cap_path, clip.cap))
        yield Value(
            field.name,
            _text(getattr(limit, field.name)),
            _place(tree, path, history[0]) if history else None,
            cap,
            None if clip is None else _text(clip.asked),
            tuple(Sourced(_text(old.value), _place(tree, path, old)) for old in history[1:]),
        )


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return f"{value:,}" if type(value) is int else str(value)


def _place(tree: PolicyTree, path: str, setting: Setting) -> Place | None:
    """Return the place that defines a value; None for a default of ratectl."""
    if not setting.scope:
        return None
    via = setting.via
    source = tree.sources.get(via.source if via else setting.scope)
    file = None
    if source is not None:
        file = str(source.span(f"{via.path if via else ''}{path}"))
    return Place(f"override {via.ref}" if via and not via.exception else _who(setting), file)


def _who(setting: Setting) -> str:
    return setting.via.ref if setting.via else setting.scope
