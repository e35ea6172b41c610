"""One limit on the page: its row in the table of its scope, and its details."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.page import numbers
from ratectl.page.html import EMPTY, Html, joined, shortened, tag
from ratectl.page.pictures import bar, columns, peaks
from ratectl.policy.language.labels import bucket_label, short_ref

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ratectl.page.view import Key, LimitView, Place, Sourced, UsageView, Value

__all__ = ["COLUMNS", "key_name", "limit_rows", "mention", "name_of", "place"]

COLUMNS: Final = ("Limit", "Used", "Last 15 min", "Requests/s", "Refused", "Keys near limit")

_BREAK: Final = joined(["/", tag("wbr")])
_MOST_NAME: Final = 200
_MOST_TEXT: Final = 120
"""Most characters of a key or a value."""
_MOST_OVER: Final = 8
"""Most values that are shown as replaced by another."""


def name_of(limit: LimitView) -> str:
    """Return ``spike [gold@/payments]``: a limit and the overrides that select its buckets."""
    return bucket_label(limit.name, limit.scope, limit.overrides, budget=limit.budget)


def limit_rows(limit: LimitView, anchor: str) -> Html:
    """Return the row of a limit, and one below it with its details."""
    usage = limit.usage
    trend = usage.trend if usage else ()
    near = usage.near_keys if usage else None
    share = usage.refused_share if usage else None
    cells = [
        tag("th", _name(limit, anchor), scope="row"),
        _cell(1, tag("span", bar(usage.peak if usage else None), class_="track-of"), " ",
              numbers.percent(usage.peak if usage else None)),
        _cell(2, columns(trend, 28, "spark") if trend else numbers.UNKNOWN),
        _cell(3, numbers.rate(_recent(usage))),
        _cell(4, tag("b", numbers.share(share), class_="bad") if share else numbers.share(share)),
        _cell(5, numbers.count(near)),
    ]  # fmt: skip
    details = tag("td", _details(limit, anchor), colspan=len(COLUMNS))
    return joined([tag("tr", *cells, class_="limit"), tag("tr", details, class_="more")])


def mention(limit: LimitView) -> Html:
    """Return a limit in few words, where there is no room for its row."""
    name = shortened(name_of(limit), _MOST_NAME)
    return tag("li", tag("code", name), " ", shortened(limit.size or numbers.UNKNOWN, _MOST_TEXT))


def _cell(column: int, *content: str) -> Html:
    return tag("td", *content, data_name=COLUMNS[column])


def _recent(usage: UsageView | None) -> float | None:
    return usage.rates[1] if usage and usage.rates else None


def _name(limit: LimitView, anchor: str) -> Html:
    name = shortened(limit.name, _MOST_NAME)
    size = "not in the policies any more" if limit.size is None else limit.size
    if limit.per:
        size += f"{',' if ',' in size else ''} per {', '.join(limit.per)}"
    marks = [tag("span", text, class_=f"mark {kind}") for text, kind in _marks(limit)]
    return joined([
        tag("a", name, href=f"#{anchor}", class_="name"),
        *(part for mark in marks for part in (" ", mark)),
        tag("span", shortened(size, _MOST_NAME), class_="size"),
    ])  # fmt: skip


def _marks(limit: LimitView) -> Iterator[tuple[str, str]]:
    if limit.budget:
        yield "budget", "plain"
    for ref in limit.overrides:
        name = shortened(short_ref(ref, limit.scope), _MOST_TEXT)
        # Only exceptions have a blank in their name, and say themselves what they are.
        yield name if " " in name else f"override {name}", "plain"
    if limit.clipped:
        yield "lowered by a cap", "near"
    if limit.mode == "shadow":
        yield "shadow: refuses nothing", "near"
    elif limit.mode == "off":
        yield "off", "near"


# Details ----------------------------------------------------------------------------------------


def _details(limit: LimitView, anchor: str) -> Html:
    parts = []
    if limit.values:
        parts.append(_values(limit.values))
    if limit.usage is not None:
        parts += _usage(limit.usage)
    elif not parts:
        parts.append(tag("p", limit.silence))
    known = ("origins" if limit.values else "", "usage" if limit.usage else "")
    what = " and ".join(filter(None, known))
    summary = tag("summary", f"Details: {what}" if what else "Details")
    return tag("details", summary, tag("div", *parts, id=anchor, class_="inner"))


def _values(values: Sequence[Value]) -> Html:
    rows = [
        tag(
            "tr",
            tag("th", value.name, scope="row"),
            tag(
                "td", tag("b", shortened(value.value, _MOST_TEXT)), *_cap(value), data_name="Value"
            ),
            tag("td", *place(value.place), data_name="Set by"),
            tag("td", *_over(value.over), data_name="Replaces"),
        )
        for value in values
    ]
    return _table(
        "Where the values come from", ("Field", "Value", "Set by", "Replaces"), rows, "values"
    )


def _cap(value: Value) -> list[str]:
    if value.cap is None:
        return []
    asked = f"{shortened(value.asked or numbers.UNKNOWN, _MOST_TEXT)} asked for"
    cap = f"{asked}, lowered by the cap {value.cap.value}"
    return [tag("span", cap, ": ", *place(value.cap.place), class_="note")]


def place(where: Place | None) -> list[str]:
    """Return who sets a value, and the file, line and column."""
    if where is None:
        return ["default of ratectl"]
    who = tag("span", shortened(where.who, _MOST_NAME))
    if where.file is None:
        return [who]
    # A path is broken after a slash, if it has to be.
    parts = shortened(where.file, _MOST_NAME).split("/")
    return [who, " ", tag("code", joined(parts, _BREAK), class_="file")]


def _over(over: Sequence[Sourced]) -> list[str]:
    if not over:
        return ["–"]
    rows = [
        tag("li", shortened(beaten.value, _MOST_TEXT), " of ", *place(beaten.place))
        for beaten in over[:_MOST_OVER]
    ]
    if len(over) > _MOST_OVER:
        rows.append(tag("li", f"and {len(over) - _MOST_OVER} more"))
    return [tag("ul", *rows, class_="plain-list")]


def _usage(usage: UsageView) -> Iterator[Html]:
    if usage.trend:
        yield tag(
            "div",
            _chart("Requests in each minute, refused ones in red",
                   columns(usage.trend, 60, "chart"), _most(usage)),
            _chart("Use of the fullest bucket; the dashed line is 80%",
                   peaks(usage.trend, 60), "100%"),
            class_="charts",
        )  # fmt: skip
    if usage.shared:
        yield tag("p", usage.shared)
    yield tag("p", _counts(usage))
    busiest = [(key, key.use) for key in usage.busiest]
    refused = [(key, None) for key in usage.most_refused]
    if busiest or refused:
        yield tag(
            "div",
            _keys("Busiest keys", "Requests", busiest, uses=True),
            _keys("Most refused keys", "Refused", refused, uses=False),
            class_="charts",
        )


def key_name(key: Key) -> Html:
    """Return a busy or refused key; agents may hide keys."""
    return tag("code", shortened(key.key, _MOST_TEXT) or "(hidden)")


def _most(usage: UsageView) -> str:
    return f"{max(minute.allowed + minute.refused for minute in usage.trend):,}"


def _chart(title: str, picture: Html, top: str) -> Html:
    return tag(
        "figure", tag("figcaption", title), tag("span", top, class_="top"), picture,
        tag("span", tag("span", "15 min ago"), tag("span", "now"), class_="times"),
    )  # fmt: skip


def _counts(usage: UsageView) -> str:
    """Return the counts since the agents started, as a sentence."""
    parts = [f"allowed {usage.allowed:,}", f"refused {usage.refused:,}"]
    extra = (
        (usage.never, "can never pass {:,}"),
        (usage.shadow_refused, "would have been refused, but for shadow {:,}"),
        (usage.waited, "waited {:,}"),
        (usage.absent, "lacked an attribute {:,}"),
    )
    parts += [text.format(number) for number, text in extra if number]
    agents = f"{usage.agents:,} agent{_plural(usage.agents)}"
    keys = "" if usage.keys is None else f" {usage.keys:,} key{_plural(usage.keys)} in use."
    return f"Since the start of {agents}: {', '.join(parts)}.{keys}"


def _plural(count: int) -> str:
    return "" if count == 1 else "s"


def _keys(
    title: str, counted: str, keys: Sequence[tuple[Key, float | None]], *, uses: bool
) -> Html:
    if not keys:
        return EMPTY
    columns = ("Key", counted, *(("Use",) if uses else ()))
    rows = [
        tag(
            "tr",
            tag("th", key_name(key), scope="row"),
            tag("td", numbers.approximate(key.number, key.error), class_="number"),
            tag("td", numbers.percent(use), class_="number") if uses else EMPTY,
        )
        for key, use in keys
    ]
    return _table(title, columns, rows, "keys")


def _table(title: str, columns: Sequence[str], rows: Sequence[Html], kind: str) -> Html:
    head = tag("tr", *(tag("th", column, scope="col") for column in columns))
    body = tag("tbody", *rows)
    table = tag("table", tag("caption", title), tag("thead", head), body, class_=kind)
    return tag("div", table, class_="scroll", role="group", aria_label=title, tabindex=0)
