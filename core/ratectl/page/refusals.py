"""Why requests were refused: the limits that refused most, each explained in words."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from ratectl.page import numbers
from ratectl.page.html import Html, joined, shortened, tag
from ratectl.page.limits import key_name, name_of, place

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ratectl.page.view import LimitView, UsageView, Value, View

__all__ = ["refusals"]

_MOST_LIMITS: Final = 5
_MOST_KEYS: Final = 3
_MOST_TEXT: Final = 120
_AMOUNTS: Final = ("rate", "max", "burst")
"""Fields that say how much a limit admits, the most telling one first."""


def refusals(view: View, limits: Sequence[LimitView]) -> Html:
    """Return the explanations of the limits that refused most."""
    refusing = sorted(
        (limit for limit in limits if limit.usage and limit.usage.all_refused), key=_weight
    )
    if not refusing:
        text = "No limit has refused a request."
        return tag("p", text)
    parts = [
        tag("article", *_explained(view, limit, limit.usage), class_="refusal")
        for limit in refusing[:_MOST_LIMITS]
        if limit.usage
    ]
    if len(refusing) > _MOST_LIMITS:
        more = len(refusing) - _MOST_LIMITS
        parts.append(tag("p", f"{more:,} more limits refused requests: see their scopes below."))
    return joined(parts)


def _weight(limit: LimitView) -> tuple[bool, float, int]:
    """Return a sort key: limits in shadow last; most refusals of the last 15 minutes first."""
    usage = limit.usage
    assert usage is not None
    recent = usage.refused_rates[2] if usage.refused_rates else 0.0
    return limit.mode == "shadow", -recent, -usage.all_refused


def _explained(view: View, limit: LimitView, usage: UsageView) -> Iterator[Html]:
    title = shortened(name_of(limit), _MOST_TEXT)
    scope = shortened(limit.scope, _MOST_TEXT)
    yield tag("h3", tag("code", title), " at ", tag("code", scope))
    yield tag("p", " ".join(_counts(view, limit, usage)))
    yield tag("p", *_size(view, limit))
    if usage.most_refused:
        yield tag("p", "Most refused keys: ", *_keys(usage), ".")
    yield tag("p", tag("b", "What to do"))
    yield _advice(view, limit)


def _counts(view: View, limit: LimitView, usage: UsageView) -> Iterator[str]:
    since = "the agent" if view.one_agent else "the agents"
    refused = "would have refused" if limit.mode == "shadow" else "refused"
    yield (
        f"It {refused} {usage.all_refused:,} of {usage.decided:,} requests "
        f"({numbers.share(usage.all_refused / usage.decided)}) since {since} started."
    )
    if usage.refused_rates is not None and usage.rates is not None:
        yield (
            f"In the last 15 minutes: {numbers.rate(usage.refused_rates[2])} of "
            f"{numbers.rate(usage.rates[2])} requests per second."
        )
    if limit.mode == "shadow":
        yield "The limit is in shadow: it refuses nothing, and only counts."
    if usage.never:
        yield (
            f"{usage.never:,} requests can never pass: they cost more than the limit admits at "
            "once, or its rate is zero. Waiting does not help them."
        )


def _keys(usage: UsageView) -> Iterator[str]:
    for at, key in enumerate(usage.most_refused[:_MOST_KEYS]):
        yield ", " if at else ""
        yield key_name(key)
        yield f" ({numbers.approximate(key.number, key.error)})"


def _size(view: View, limit: LimitView) -> Iterator[str]:
    if limit.size is None:
        yield "The live policies do not have this limit any more: its size is unknown."
        return
    requests = f"for each {' and '.join(limit.per)}" if limit.per else "for all requests together"
    counted = "this process" if view.one_agent else "each agent"
    yield "The limit is "
    yield tag("b", limit.size)
    yield f" {requests}, counted in {counted}. "
    value = _amount(limit)
    if value is None:
        return
    if value.cap is not None:
        yield f"{value.asked} was asked for ("
        yield from place(value.place)
        yield f"). The cap {value.cap.value} lowers it ("
        yield from place(value.cap.place)
        yield ")."
        return
    yield f"Its {value.name} is set by "
    yield from place(value.place)
    for beaten in value.over[:1]:
        yield f", and replaces {shortened(beaten.value, _MOST_TEXT)} of "
        yield from place(beaten.place)
    yield "."


def _amount(limit: LimitView) -> Value | None:
    """Return the field that says most about the size of a limit."""
    known = {value.name: value for value in limit.values}
    return next((known[name] for name in _AMOUNTS if name in known), None)


def _advice(view: View, limit: LimitView) -> Html:
    items: list[list[str]] = []
    if not view.one_agent:
        scope, attributes = shlex.quote(limit.scope), _attributes(limit)
        command = f"ratectl explain {scope}{attributes} --live{view.selector}"
        code = tag("code", command, class_="copy")
        items.append(["See all limits of such a request: ", code])
    if limit.slots:
        items.append(["A slot becomes free when a request ends: callers may try again."])
    elif limit.usage and limit.usage.refused:
        items.append(["Callers should wait as long as ", tag("code", "Retry-After"), " says."])
    if limit.usage and limit.usage.never:
        items.append(["Requests that can never pass need a lower cost, or a larger limit."])
    items.append(_raise(limit))
    return tag("ul", *(tag("li", *item) for item in items))


def _attributes(limit: LimitView) -> str:
    """Return the attributes of a request that the limit refused."""
    usage = limit.usage
    if limit.tip or len(limit.per) != 1 or usage is None or not usage.most_refused:
        return limit.tip
    key = usage.most_refused[0].key
    if not key or key.startswith(("(", "#")) or not key.isprintable():
        return ""
    return f" --attr {shlex.quote(f'{limit.per[0]}={key}')}"


def _raise(limit: LimitView) -> list[str]:
    value = _amount(limit)
    if limit.mode == "shadow":
        return ["Before you enforce it, make room for these requests, or accept their refusal."]
    cap = value.cap.place if value and value.cap else None
    where = cap or (value.place if value else None)
    if where is None or where.file is None:
        return ["If the requests are right, raise the limit in the policies."]
    what = "raise the cap in" if cap else "raise the value in"
    file = tag("code", shortened(where.file, _MOST_TEXT))
    return [f"If the requests are right, {what} ", file, ", or add an override for them."]
