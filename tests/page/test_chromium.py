"""The page in a real browser: no violation, no error, no request, no scrolling to the side."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from browser import browser, chromium
from page.views import HOSTILE, hostile_view, limit, scope, view
from ratectl import Agent
from ratectl.page.document import page_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from browser import Tab

pytestmark = [pytest.mark.chromium, pytest.mark.xdist_group("chromium")]

DEEP = view(*(scope("/part" * depth) for depth in range(1, 65)))
WIDTH = "document.documentElement.scrollWidth"


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    if chromium() is None:
        reason = "no Chromium is installed"
        if os.environ.get("RATECTL_REQUIRE_CHROMIUM") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with browser(tmp_path) as running:
        yield running.tab()


def opened(tab: Tab, folder: Path, page: str, part: str = "") -> Tab:
    (folder / "page.html").write_text(page, "utf-8")
    return tab.open((folder / "page.html").as_uri() + part)


def test_no_complaint_no_request_and_the_style_applies(tab: Tab, tmp_path: Path) -> None:
    opened(tab, tmp_path, page_text(view()))
    assert tab.complaints == []
    assert len(tab.requests) == 1
    tab.look(1280, 900)
    light = tab.value("getComputedStyle(document.body).backgroundColor")
    tab.look(1280, 900, dark=True)
    dark = tab.value("getComputedStyle(document.body).backgroundColor")
    assert (light, dark) == ("rgb(244, 246, 248)", "rgb(17, 21, 27)")


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
def test_page_never_scrolls_to_the_side(tab: Tab, tmp_path: Path, width: int) -> None:
    tab.look(width, 844, phone=width < 500)
    for number, given in enumerate([view(), DEEP, *(hostile_view(text) for text in HOSTILE)]):
        opened(tab, tmp_path, page_text(given), f"?{number}")
        assert tab.value(WIDTH) == width, number
        tab.value("document.querySelectorAll('details').forEach(each => each.open = true)")
        assert tab.value(WIDTH) == width, number
    assert tab.complaints == []


def test_link_of_a_limit_opens_its_details(tab: Tab, tmp_path: Path) -> None:
    opened(tab, tmp_path, page_text(view(scope(limits=[limit("one"), limit("two")]))))
    tab.value("document.querySelectorAll('a.name')[1].click()")
    states = "[...document.querySelectorAll('details')].map(each => each.open)"
    assert tab.value(states) == [False, True]


def test_hostile_scripts_do_not_run(tab: Tab, tmp_path: Path) -> None:
    """Also where the escaping would fail: the policy of the page forbids scripts."""
    page = page_text(view()).replace("<main>", "<main><script>window.hacked = 1</script>")
    opened(tab, tmp_path, page)
    assert tab.value("window.hacked") is None
    assert len(tab.complaints) >= 1


def test_live_page_loads_again_and_keeps_details_open(tab: Tab) -> None:
    policies = "apiVersion: ratectl/v1\nscope: /mail\nlimits: {spike: {rate: 1/s}}"
    with Agent.from_policies(policies) as agent:
        for _ in range(3):
            agent.check("/mail")
        served = agent.serve(admin="127.0.0.1:0")
        tab.open(f"http://{served.admin}/")
        tab.value("document.querySelector('summary').click()")
        before = len(tab.requests)
        deadline = time.monotonic() + 20
        while len(tab.requests) == before:
            assert time.monotonic() < deadline
            time.sleep(0.2)
            tab.ask("Page.getNavigationHistory")
        tab.browser.wait("Page.loadEventFired", tab.session)
        time.sleep(0.5)
        assert tab.value("document.querySelector('details').open") is True
        assert tab.complaints == []
