"""The page: valid, self-contained, accessible, bounded, and nothing in it that is not escaped."""

from __future__ import annotations

import base64
import hashlib
import re
from itertools import pairwise
from typing import Any

import pytest

from page.reading import elements, parsed, text_of, words
from page.views import HOSTILE, hostile_view, limit, scope, usage, view
from ratectl.page import document
from ratectl.page.document import content_policy, page_text
from ratectl.page.view import AgentRow, Minute, Place, Sourced, Value, View

ELEMENTS = """
html head meta link title style body header main footer nav section article div h1 h2 h3 p a b code
dl dt dd ul li table caption thead tbody tr th td details summary figure figcaption span svg rect
path wbr
"""


def shown(given: View) -> str:
    """Return the text that people read."""
    return words(page_text(given))


# Markup -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_no_text_becomes_markup(text: str) -> None:
    page = page_text(hostile_view(text))
    page.encode()
    found = list(elements(parsed(page)))
    assert {name for name, _ in found} <= set(ELEMENTS.split())
    for name, element in found:
        assert not [each for each in element.attrib if each.startswith("on") or each == "style"]
        link = element.attrib.get("href")
        assert link is None or link.startswith(("#", "data:,")), (name, link)
    policies = [element for _, element in found if "http-equiv" in element.attrib]
    assert [policy.attrib["content"] for policy in policies] == [content_policy(live=False)]
    assert sum(name == "style" for name, _ in found) == 1
    assert all(c.isprintable() or c == "\n" for c in page)


def test_hostile_texts_are_read_as_they_are() -> None:
    assert shown(hostile_view("<script>alert(1)</script>")).count("<script>alert(1)</script>") > 20
    assert "invoice\\u202egnp.exe" in shown(hostile_view("invoice\u202egnp.exe"))
    assert "nul \\x00 escape \\x1b[31m" in shown(hostile_view(HOSTILE[5]))


@pytest.mark.parametrize("live", [False, True])
def test_ids_are_unique_and_links_lead_to_them(live: bool) -> None:
    same = [limit(), limit(), limit(overrides=("gold@/shop",))]
    root = parsed(page_text(view(scope(limits=same), live=live, refresh=5 if live else None)))
    ids = [element.attrib["id"] for _, element in elements(root) if "id" in element.attrib]
    assert len(ids) == len(set(ids))
    links = [element.attrib["href"] for name, element in elements(root) if name == "a"]
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert len(links) >= 4


def test_anchors_stay_the_same_when_others_appear() -> None:
    def anchor(page: str) -> str:
        return re.findall(r'href="(#l\w+)" class="name">steady', page)[0]

    one = page_text(view(scope(limits=[limit("steady")])))
    two = page_text(view(scope("/a"), scope(limits=[limit(), limit("steady")])))
    assert anchor(one) == anchor(two)


# Policy of the content --------------------------------------------------------------------------


def digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_policy_allows_the_one_style_and_nothing_else() -> None:
    page = page_text(view())
    (style,) = re.findall(r"<style>(.*)</style>", page, re.DOTALL)
    assert content_policy(live=False) == (
        f"default-src 'none'; style-src {digest(style)}; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
    assert "<script" not in page
    assert "refresh" not in page


def test_policy_of_a_page_that_is_served_allows_its_script() -> None:
    page = page_text(view(live=True, refresh=5))
    (script,) = re.findall(r"<script>(.*)</script>", page, re.DOTALL)
    assert f"; script-src {digest(script)};" in content_policy(live=True)
    assert '<noscript><meta http-equiv="refresh" content="5"></noscript>' in page
    parsed(page)
    paused = page_text(view(live=True))
    assert ("data-refresh" in paused, "<noscript>" in paused) == (False, False)


def test_nothing_is_loaded() -> None:
    """URLs are in texts only: no attribute and no style refers to another file."""
    for name, element in elements(parsed(page_text(view(live=True, refresh=5)))):
        assert not {"src", "srcset", "action", "data", "poster"} & element.attrib.keys(), name
        assert element.attrib.get("href", "#").startswith(("#", "data:,", "?")), name
    style = document._part("style.css")
    assert not re.search(r"url\(|@import|@font-face|image-set", style)
    assert "//" not in document._part("style.css")


# Readable by everybody --------------------------------------------------------------------------


def test_language_title_and_headings() -> None:
    root = parsed(page_text(view()))
    assert root.attrib["lang"] == "en"
    names = [name for name, _ in elements(root)]
    assert (names.count("title") >= 1, names.count("h1"), names.count("main")) == (True, 1, 1)
    levels = [int(name[1]) for name in names if re.fullmatch(r"h\d", name)]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    metas = {
        element.attrib.get("name"): element for name, element in elements(root) if name == "meta"
    }
    assert metas["viewport"].attrib["content"] == "width=device-width, initial-scale=1"
    assert metas["referrer"].attrib["content"] == "no-referrer"


def test_tables_have_captions_and_headers_and_pictures_have_texts() -> None:
    for name, element in elements(parsed(page_text(view()))):
        if name == "table":
            inner = [inner for inner, _ in elements(element)]
            assert "caption" in inner
            assert all(
                each.attrib.get("scope") in ("row", "col")
                for tag, each in elements(element)
                if tag == "th"
            )
        if name == "svg":
            hidden = element.attrib.get("aria-hidden") == "true"
            titles = [text_of(each) for tag, each in elements(element) if tag == "title"]
            assert hidden or (element.attrib["role"] == "img" and all(titles) and len(titles) == 1)


PAIRS = [
    ("text", "page"), ("text", "card"), ("soft", "page"), ("soft", "card"), ("link", "page"),
    ("link", "card"), ("near-text", "near-back"), ("bad-text", "bad-back"), ("bad-text", "card"),
    ("near-text", "card"), ("text", "near-back"), ("text", "bad-back"), ("text", "note-back"),
    ("text", "mark-back"), ("text", "code-back"), ("soft", "note-back"),
]  # fmt: skip


def colours(scheme: str) -> dict[str, str]:
    style = document._part("style.css")
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    chosen = light if scheme == "light" else dark
    return dict(re.findall(r"--([\w-]+): (#\w{6});", chosen))


def contrast(one: str, other: str) -> float:
    def light(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("front", "back"), PAIRS)
def test_texts_have_enough_contrast(scheme: str, front: str, back: str) -> None:
    known = colours(scheme)
    assert contrast(known[front], known[back]) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("front", ["ok", "near", "full"])
def test_pictures_have_enough_contrast(scheme: str, front: str) -> None:
    known = colours(scheme)
    assert contrast(known[front], known["card"]) >= 2.5


def test_both_schemes_have_the_same_colours() -> None:
    assert colours("light").keys() == colours("dark").keys()


# Content ----------------------------------------------------------------------------------------


def test_limit_shows_its_size_origin_and_what_it_beats() -> None:
    text = shown(view())
    assert "100/s burst 200 per tenant" in text
    assert "rate 100/s /shop shop/team.yaml:6:12 50/s of / global.yaml:4:17" in text
    assert "burst 200 default of ratectl –" in text


def test_overrides_are_named_without_the_scope_of_the_limit() -> None:
    text = shown(view(scope(limits=[limit(overrides=("gold@/shop", "free@/"))])))
    assert "spike override gold override free@/" in text
    assert "spike [gold, free@/] at /shop" in text


def test_exceptions_are_named_without_the_scope_of_the_limit() -> None:
    ref = "exception@{} until 2026-11-30T00:00Z"
    text = shown(view(scope(limits=[limit(overrides=(ref.format("/"), ref.format("/shop")))])))
    assert "spike exception@/ until 2026-11-30T00:00Z exception until 2026-11-30T00:00Z" in text
    assert "[exception@/ until 2026-11-30T00:00Z, exception until 2026-11-30T00:00Z]" in text


def test_clipped_value_names_the_cap_and_what_was_asked_for() -> None:
    cap = Sourced("400/s", Place("/", "global.yaml:9:9"))
    asked = Place("override gold@/shop", "shop/team.yaml:9:9")
    values = (Value("rate", "400/s", asked, cap, "800/s", ()),)
    text = shown(view(scope(limits=[limit(values=values, clipped=True)])))
    assert "lowered by a cap" in text
    assert "800/s asked for, lowered by the cap 400/s: / global.yaml:9:9" in text
    assert "The cap 400/s lowers it (/ global.yaml:9:9)" in text
    assert "raise the cap in global.yaml:9:9" in text


def test_unknown_is_a_question_mark_and_never_zero() -> None:
    unknown: dict[str, Any] = {
        "peak": None, "near_keys": None, "rates": None, "refused_rates": None, "trend": (),
        "allowed": 0, "refused": 0, "never": 0,
    }  # fmt: skip
    for silent in (None, usage(**unknown)):
        page = page_text(view(scope(limits=[limit(usage=silent)])))
        row = page[page.index('<tr class="limit">') : page.index('<tr class="more">')]
        cells = [
            text_of(cell)
            for _, cell in elements(parsed(f"<!doctype html><title>x</title><table>{row}</table>"))
            if cell.tag == "td"
        ]
        assert [cell.strip() for cell in cells] == ["?"] * 5


def test_only_a_full_bucket_has_100_percent() -> None:
    assert "99%" in shown(view(scope(limits=[limit(usage=usage(peak=0.9999))])))
    assert "100%" in shown(view(scope(limits=[limit(usage=usage(peak=1.0, trend=()))])))
    assert "57%" in shown(view(scope(limits=[limit(usage=usage(peak=0.57, trend=()))])))


def test_refusals_are_explained_with_a_command_to_copy() -> None:
    text = shown(view())
    assert "It refused 602 of 9,602 requests (6.3%) since the agents started." in text
    assert "In the last 15 minutes: 0.5 of 12 requests per second." in text
    assert "2 requests can never pass" in text
    assert "Most refused keys: acme (500 ±3), zeta (90 ±3)." in text
    assert "ratectl explain /shop --attr tenant=acme --live -e production" in text
    assert "raise the value in shop/team.yaml:6:12" in text


def test_enforced_limits_are_explained_before_those_in_shadow() -> None:
    many = usage(refused=0, never=0, shadow_refused=9_999, refused_rates=(9.0, 9.0, 9.0))
    text = shown(view(scope(limits=[limit("quiet", mode="shadow", usage=many), limit()])))
    assert text.index("spike at /shop") < text.index("quiet at /shop")
    assert "It would have refused 9,999 of 18,999" in text
    assert "refuses nothing, and only counts" in text


def test_limits_of_slots_have_no_time_to_wait() -> None:
    text = shown(view(scope(limits=[limit(slots=True, size="max 5", per=())])))
    assert "A slot becomes free when a request ends" in text
    assert "Retry-After" not in text


def test_nothing_refused() -> None:
    assert "No limit has refused a request." in shown(
        view(scope(limits=[limit(usage=usage(refused=0, never=0))]))
    )


def test_pictures_tell_their_numbers() -> None:
    page = page_text(view(scope(limits=[limit()])))
    assert (
        "<title>Requests in each of the last 15 minutes: at most 128, 128 in the current one; "
        "50 refused</title>"
    ) in page
    assert "minutes: at most 85%, 85% in the current one</title>" in page


def test_minutes_without_traffic_leave_gaps_in_the_line() -> None:
    trend = tuple(Minute(1, 0, 0.5 if at in (2, 3, 9) else None) for at in range(15))
    page = page_text(view(scope(limits=[limit(usage=usage(trend=trend))])))
    assert re.findall(r'd="([^"]*)" class="peak"', page) == ["M16 30L24 30", "M72 30h-5"]


# Size -------------------------------------------------------------------------------------------


def many(scopes: int, limits: int, text: str = "") -> View:
    return view(*(
        scope(
            f"/team-{at // 100}/service-{at}{text}",
            [limit(f"limit-{n}{text}", scope=f"/s{at}") for n in range(limits)],
        )
        for at in range(scopes)
    ))  # fmt: skip


@pytest.mark.parametrize(("scopes", "limits"), [(10_000, 1), (1_000, 10), (1, 10_000)])
def test_ten_thousand_limits_are_less_than_5_mb(scopes: int, limits: int) -> None:
    page = page_text(many(scopes, limits))
    assert 2_000_000 < len(page.encode()) < 5_000_000
    assert "Limits without details" in page


def test_long_texts_do_not_make_the_page_larger() -> None:
    page = page_text(many(500, 20, "\u202e&<" * 300))
    assert len(page.encode()) < 5_000_000
    assert re.search(r"[\d,]+ more limits are left out", page)


def test_scopes_of_any_depth() -> None:
    """Reports can name scopes that policies could not."""
    page = page_text(view(*(scope("/a" * depth, []) for depth in range(1, 2_000))))
    assert page.count('class="entry"') > 100
    (left_out,) = re.findall(r"and ([\d,]+) more scopes", page)
    assert page.count('class="entry"') + int(left_out.replace(",", "")) == 1_999


def test_limits_that_refuse_are_shown_first() -> None:
    quiet = usage(refused=0, never=0, refused_rates=(0.0, 0.0, 0.0), peak=0.1)
    scopes = [scope(f"/s{at}", [limit(scope=f"/s{at}", usage=quiet)]) for at in range(3_000)]
    refusing = scope("/zzz", [limit("loud", scope="/zzz")])
    page = page_text(view(*scopes, refusing))
    assert "<code>/zzz</code></h3>" in page or "loud</a>" in page
    assert len(page.encode()) < 5_000_000


def test_agents_with_a_problem_are_never_left_out() -> None:
    agents = [
        AgentRow(id=f"edge-{at}", host="node" * 50, generation=1, note="", state="serving",
                 error=None, seen="now")
        for at in range(5_000)
    ]  # fmt: skip
    agents.append(AgentRow(
        id="late", host="n", generation=1, note="", state="rejected", error="no", seen="now"
    ))  # fmt: skip
    page = page_text(view(agents=agents))
    assert "<code>late</code>" in page
    assert "more agents without a problem are left out" in page
