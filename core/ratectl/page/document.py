"""The whole page: head, policy of its content, sections."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from ratectl.page import numbers
from ratectl.page.html import EMPTY, Html, shortened, tag
from ratectl.page.refusals import refusals
from ratectl.page.scopes import Room, ScopeSections

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.page.view import AgentRow, Alert, Fact, LimitView, View

__all__ = ["content_policy", "page_text"]

_MOST_TEXT: Final = 400
_MOST_ALERTS: Final = 40
_AGENT_COLUMNS: Final = ("Agent", "Generation", "State", "Last report", "Host", "Problem")


def page_text(view: View) -> str:
    """Return the page: one HTML document that loads nothing else.

    Its size is at most ``view.most_bytes``. Limits without room for their details are named, and
    others are counted.
    """
    limits = [limit for scope in view.scopes for limit in scope.limits]
    sections = ScopeSections(view.scopes, view.most_bytes)
    body = tag(
        "body",
        _header(view),
        tag(
            "main",
            _alerts(view.alerts),
            tag("div", _tree(sections), tag("div", _refusals(view, limits), *_scopes(sections),
                _agents(view)), class_="columns"),
        ),
        _footer(view),
        tag("script", _part("live.js")) if view.live else EMPTY,
        data_refresh=view.refresh,
    )  # fmt: skip
    return f"<!doctype html>\n{tag('html', _head(view), body, lang='en')}\n"


def _refusals(view: View, limits: Sequence[LimitView]) -> Html:
    return tag(
        "section",
        tag("h2", "Why was a request refused?", id="refusals"),
        refusals(view, limits),
    )


# Head -------------------------------------------------------------------------------------------


@cache
def _part(name: str) -> Html:
    """Return the style or the script of the page, which are files of this package."""
    text = files("ratectl.page").joinpath(name).read_text("utf-8")
    assert "</" not in text, "it would end its own element"
    return Html(text)


@cache
def content_policy(*, live: bool) -> str:
    """Return the Content-Security-Policy: nothing is loaded, and one style applies.

    No script runs but, on a page that is served (``live``), the one that loads it again.
    """
    script = f"script-src '{_digest('live.js')}'; " if live else ""
    return (
        f"default-src 'none'; style-src '{_digest('style.css')}'; {script}img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(name: str) -> str:
    digest = hashlib.sha256(_part(name).encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _head(view: View) -> Html:
    policy = content_policy(live=view.live)
    again = EMPTY
    if view.refresh:
        meta = tag("meta", http_equiv="refresh", content=view.refresh)
        again = tag("noscript", meta)
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="referrer", content="no-referrer"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        again,
        tag("link", rel="icon", href="data:,"),
        tag("title", shortened(view.title, _MOST_TEXT)),
        tag("style", _part("style.css")),
    )


def _header(view: View) -> Html:
    pause = EMPTY
    if view.live:
        pause = (
            tag(
                "p", f"Loads again every {view.refresh} s. ", tag("a", "Pause", href="?refresh=off")
            )
            if view.refresh
            else tag("p", "Paused. ", tag("a", "Load again every few seconds", href="?"))
        )
    return tag(
        "header",
        tag("h1", shortened(view.title, _MOST_TEXT)),
        tag("p", shortened(view.subtitle, _MOST_TEXT), class_="note"),
        pause,
        tag("dl", *map(_fact, view.facts)),
    )


def _fact(fact: Fact) -> Html:
    return tag("div", tag("dt", fact.name), tag("dd", shortened(fact.text, _MOST_TEXT)))


def _alerts(alerts: Sequence[Alert]) -> Html:
    shown = [
        tag("p", tag("b", alert.title), " ", shortened(alert.text, 2 * _MOST_TEXT),
            class_=f"alert {alert.kind}")
        for alert in alerts[:_MOST_ALERTS]
    ]  # fmt: skip
    more = len(alerts) - len(shown)
    if more:
        shown.append(tag("p", f"and {more} more messages", class_="alert note"))
    return tag("div", *shown, role="status") if shown else EMPTY


# Body -------------------------------------------------------------------------------------------


def _tree(sections: ScopeSections) -> Html:
    return tag(
        "nav", tag("h2", "Scopes", id="scopes"), sections.tree(), aria_labelledby="scopes",
        class_="card",
    )  # fmt: skip


def _scopes(sections: ScopeSections) -> tuple[Html, Html]:
    return tag("h2", "Limits of each scope"), sections.sections()


def _agents(view: View) -> Html:
    if view.agents is None:
        return EMPTY
    if not view.agents:
        return tag("section", tag("h2", "Agents"), tag("p", "No agent has reported recently."))
    room, rows = Room(view.most_bytes // 20), []
    # Agents with a problem come first, so that none of them is left out.
    ordered = sorted(view.agents, key=lambda agent: not (agent.error or agent.note))
    for agent in ordered:
        row = _agent(agent)
        if not room.take(row):
            break
        rows.append(row)
    more = len(ordered) - len(rows)
    head = tag("tr", *(tag("th", column, scope="col") for column in _AGENT_COLUMNS))
    table = tag("table", tag("caption", "Agents", class_="hidden"), tag("thead", head),
                tag("tbody", *rows), class_="agents")  # fmt: skip
    return tag(
        "section",
        tag("h2", "Agents", id="agents"),
        tag("div", table, class_="card"),
        tag("p", f"{more:,} more agents without a problem are left out.") if more else EMPTY,
    )


def _agent(agent: AgentRow) -> Html:
    generation = numbers.count(agent.generation) if agent.generation else "none"
    state = (
        "" if agent.state == "serving" else " bad" if agent.state == "rejected" else " near-text"
    )
    note = [" ", tag("span", agent.note, class_="mark near")] if agent.note else []
    cells: Sequence[Sequence[str]] = (
        [generation, *note],
        [tag("span", agent.state, class_=f"state{state}")],
        [agent.seen],
        [shortened(agent.host, _MOST_TEXT)],
        [shortened(agent.error or "–", 2 * _MOST_TEXT)],
    )
    row = [
        tag("td", *content, data_name=column)
        for column, content in zip(_AGENT_COLUMNS[1:], cells, strict=True)
    ]
    name = tag("code", shortened(agent.id, _MOST_TEXT))
    return tag("tr", tag("th", name, scope="row"), *row)


def _footer(view: View) -> Html:
    notes = [tag("p", shortened(note, 2 * _MOST_TEXT)) for note in view.notes]
    where = "" if view.one_agent else " in any agent"
    meaning = tag(
        "p",
        f"Used: the fullest bucket of the last minute{where}. Requests/s: of the last minute. "
        "Refused: share of the last 15 minutes. Keys near limit: keys that use at least 80% of "
        "their bucket. ± is the part of a count that may be other keys'. ? means unknown.",
    )
    return tag("footer", meaning, *notes)
