"""Effective values at a scope: where each was defined, what it overrides, which cap clips it.

The text is made from the data, so both always agree.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ratectl.cluster.promise import bound_text, fallback_texts
from ratectl.policy.language.instants import Instant
from ratectl.policy.language.labels import bucket_label
from ratectl.policy.resolution.effective_limit import DEFAULT_UNIT
from ratectl.policy.resolution.fields import EXPLAINED_FIELDS, FIELDS
from ratectl.policy.validation.cluster_bursts import size_of_limit
from ratectl_cli.framework.text import Aligned, Styled, bold, dim, paragraph, plural
from ratectl_cli.render.conditions import condition_blocks, exceptions_data, overrides_data
from ratectl_cli.render.labels import key_text, origin_data, place_text, quoted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from ratectl.policy.language.model import PolicyTree
    from ratectl.policy.resolution.effective_limit import Limit, Problem, Setting
    from ratectl.policy.resolution.resolver import Resolved
    from ratectl_cli.framework.text import Block, Piece

__all__ = ["explanation_blocks", "explanation_data", "limit_blocks", "one_limit_rows"]

_COUNTED: Final = ("rate", "max")
"""Fields that are shown with the unit of the limit."""


def explanation_data(
    tree: PolicyTree,
    scope: str,
    resolved: Resolved | None,
    attributes: Mapping[str, str],
    now_ns: int | None = None,
    members: int | None = None,
) -> dict[str, Any]:
    """Return the whole explanation for programs.

    ``now_ns``: the instant that ``resolved`` is for; None if exceptions were left out.
    ``members``: number of processes that share limits across the cluster; None if unknown.
    """
    data: dict[str, Any] = {
        "scope": scope,
        "declared_scope": resolved.scope if resolved else None,
        "attributes": dict(attributes),
        "at": None if now_ns is None else str(Instant(now_ns)),
        "reason": None if resolved else "no_policy",
        "on_error": None,
        "trusted_proxies": None,
        "limits": [], "budgets": [], "overrides": [], "exceptions": [],
    }  # fmt: skip
    if resolved:
        proxies = resolved.trusted_proxies
        data["on_error"] = _field(tree, "on_error", resolved.on_error.value, resolved.on_error)
        data["trusted_proxies"] = _field(tree, "trusted_proxies", proxies.value, proxies)
        shown = partial(_limit, tree, attributes=attributes, members=members)
        data["limits"] = [
            shown(resolved.scope, limit, problem=resolved.problems.get(name))
            for name, limit in resolved.limits.items()
        ]
        data["budgets"] = [
            shown(owner, budget, part="budgets") for owner, budget in resolved.budgets
        ]
        data["overrides"] = overrides_data(tree, resolved, attributes)
        data["exceptions"] = exceptions_data(tree, resolved, attributes, now_ns)
    return data


def explanation_blocks(
    data: Mapping[str, Any], source: str, *, unfold: bool = False
) -> Iterator[Block]:
    """Yield the explanation for people; ``unfold`` lists every condition that does not hold."""
    attributes = " ".join(f"{name}={quoted(value)}" for name, value in data["attributes"].items())
    title = " · ".join(part for part in (source, attributes) if part)
    yield paragraph([bold(data["scope"]), f" · {title}"])
    if data["reason"] == "no_policy":
        yield "no policy covers this scope: requests pass, with reason no_policy"
        return
    if data["declared_scope"] != data["scope"]:
        note = (
            f"not declared: uses the limits and buckets of {data['declared_scope']}, "
            "the nearest scope above"
        )
        yield paragraph(dim(note))
    yield from _body(data)
    yield from condition_blocks(data, unfold=unfold)


def _body(data: Mapping[str, Any]) -> Iterator[Block]:
    rows: list[Sequence[Piece]] = []
    for name in ("on_error", "trusted_proxies"):
        field = data[name]
        if field is not None and (name == "on_error" or field["origin"]):
            rows += _field_rows(name, field)
    for limit in data["limits"]:
        rows += _limit_rows(limit)
    for budget in data["budgets"]:
        rows += _limit_rows(budget, f"budget {budget['name']}")
    yield Aligned(rows)
    delta = data.get("delta")
    if delta is None or delta["from"] is None:
        if not data["limits"] and not data["budgets"]:
            yield "no limits: requests pass"
        return
    for name in delta["removed"]:
        yield paragraph([bold(name), f"  not set here, only at {delta['from']}"])
    if not rows and not delta["removed"]:
        yield paragraph(f"nothing differs from {delta['from']}")


def limit_blocks(
    data: Mapping[str, Any], names: Collection[str], *, on_error: bool = False
) -> list[Block]:
    """Return the limits and budgets of these names, and with ``on_error`` that field."""
    rows: list[Sequence[Piece]] = []
    if on_error:
        rows += [("",), *_field_rows("on_error", data["on_error"])]
    for part, word in (("limits", ""), ("budgets", "budget ")):
        for limit in data[part]:
            if limit["name"] in names:
                rows += _limit_rows(limit, f"{word}{limit['name']}")
    return [Aligned(rows)]


def one_limit_rows(
    tree: PolicyTree, scope: str, limit: Limit, key: Mapping[str, str | None], *, budget: bool
) -> list[Sequence[Piece]]:
    """Return one limit or budget, with the places of its values, for requests of a key."""
    attributes = {name: value for name, value in key.items() if value is not None}
    data = _limit(tree, scope, limit, attributes, "budgets" if budget else "limits")
    return _limit_rows(data, f"budget {limit.name}" if budget else "")


def _limit(
    tree: PolicyTree,
    scope: str,
    limit: Limit,
    attributes: Mapping[str, str],
    part: str = "limits",
    problem: Problem | None = None,
    members: int | None = None,
) -> dict[str, Any]:
    fields = {}
    for field in EXPLAINED_FIELDS:
        name = field.name
        setting = limit.settings.get(name)
        if setting is not None or (field.explains_default and field.text(limit) is not None):
            value = getattr(limit, name)
            fields[name] = _field(tree, f"{part}.{limit.name}.{name}", value, setting)
            _add_clip(fields[name], tree, limit, name)
    values = {field.name: getattr(limit, field.name) for field in FIELDS}
    return {
        "name": limit.name,
        **{name: None if value is None else _value(value) for name, value in values.items()},
        "bucket": {"scope": scope, "limit": limit.name, "overrides": list(limit.touched)},
        "key": {name: attributes.get(name) for name in limit.per},
        "problem": None if problem is None else problem.message,
        "shared": _shared(limit, members) if limit.is_shared else None,
        "fields": fields,
    }


def _shared(limit: Limit, members: int | None) -> dict[str, Any]:
    """Return what a limit across the cluster promises. ``members``: processes that share it."""
    optimistic = limit.consistency == "optimistic"
    bound = bound_text(limit.burst, str(limit.rate), limit.per, optimistic=optimistic)
    size, is_window = size_of_limit(limit), limit.burst is None
    fallback = fallback_texts(size, limit.per, is_window=is_window)
    return {"members": members, "bound": bound, "fallback": list(fallback)}


def _field(tree: PolicyTree, path: str, value: object, setting: Setting | None) -> dict[str, Any]:
    history = list(setting.history()) if setting else []
    return {
        "value": _value(value),
        "origin": origin_data(tree, path, history[0]) if history else None,
        "cap": None,
        "asked": None,
        "over": [
            {"value": _value(beaten.value), "origin": origin_data(tree, path, beaten)}
            for beaten in history[1:]
        ],
    }


def _add_clip(field: dict[str, Any], tree: PolicyTree, limit: Limit, name: str) -> None:
    clip = limit.clips.get(name)
    if clip is None:
        return
    field["cap"] = {
        "value": _value(clip.cap.value),
        "origin": origin_data(tree, f"caps.{limit.name}.{clip.field}", clip.cap),
    }
    field["asked"] = {"value": _value(clip.asked), "origin": field["origin"]}


def _value(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return value if isinstance(value, int) else str(value)


def _limit_rows(limit: Mapping[str, Any], title: str = "") -> list[Sequence[Piece]]:
    what = limit["algorithm"]
    if limit["per"]:
        what += f" per {', '.join(limit['per'])}"
    head: list[Piece] = [bold(title or limit["name"]), what]
    if limit["across"] == "redis":
        head.append(dim("on a Valkey or Redis server"))
    elif limit["across"]:
        head.append(dim("one for all processes"))
    if limit["mode"] != "enforce":
        head.append(bold(limit["mode"].upper(), "yellow"))
    rows: list[Sequence[Piece]] = [("",), head]
    if limit["problem"]:
        unusable = (
            f"these values together are no valid limit ({limit['problem']}): the last is ignored"
        )
        rows.append(("  problem", Styled(unusable, "yellow")))
    unit = "" if limit["unit"] == DEFAULT_UNIT else f" {limit['unit']}"
    for name, field in limit["fields"].items():
        rows += _field_rows(f"  {name}", field, unit if name in _COUNTED else "")
    if limit["mode"] == "off" or limit["rate"] == "unlimited":
        return rows
    bucket = limit["bucket"]
    label = bucket_label(bucket["limit"], bucket["scope"], bucket["overrides"])
    rows.append(("  bucket", f"{label} @ {bucket['scope']}"))
    rows.append(("  key", key_text(limit["key"]) or "one bucket for all requests"))
    return [*rows, *_shared_rows(limit["shared"])]


def _shared_rows(shared: Mapping[str, Any] | None) -> Iterator[Sequence[Piece]]:
    if shared is None:
        return
    members = shared["members"]
    if members is not None:
        yield "  shared", f"by {plural(members, 'process')} now"
    yield "  bound", shared["bound"]
    for number, sentence in enumerate(shared["fallback"]):
        yield "" if number else "  fallback", sentence


def _field_rows(label: str, field: Mapping[str, Any], unit: str = "") -> list[Sequence[Piece]]:
    value = _shown(field["value"]) + unit
    rows: list[Sequence[Piece]] = []
    if field["cap"]:
        cap = field["cap"]
        ceiling = _shown(cap["value"]) + unit
        clipped = f"{value} ✂ cap" if ceiling == value else f"{value} ✂ cap {ceiling}"
        rows.append((label, Styled(clipped, "bold yellow"), *_place(cap["origin"])))
        asked = field["asked"]
        rows.append(("", f"asked {_shown(asked['value'])}", *_place(asked["origin"])))
    else:
        rows.append((label, bold(value), *_place(field["origin"])))
    for beaten in field["over"]:
        text = dim(f"over {_shown(beaten['value'])}")
        rows.append(("", text, *_place(beaten["origin"])))
    return rows


def _place(origin: Mapping[str, Any] | None) -> tuple[Piece, ...]:
    if origin is None:
        return (dim("default"),)
    who = origin["exception"] or origin["scope"]
    if origin["override"]:
        who = f"override {origin['override']}"
    if origin["file"] is None:
        return (who,)
    return (who, dim(place_text(origin)))


def _shown(value: object) -> str:
    return (", ".join(map(str, value)) or "[]") if isinstance(value, list) else str(value)
