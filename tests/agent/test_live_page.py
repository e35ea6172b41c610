"""The page of an agent's admin endpoint: what it shows, and how a browser may use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from page.reading import words
from ratectl import Agent
from ratectl.page.document import content_policy
from support import once
from unix_http import ask

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = once

POLICIES = """
apiVersion: ratectl/v1
scope: /
limits: {spike: {rate: 50/s, burst: 100, per: tenant}}
---
apiVersion: ratectl/v1
scope: /mail
limits: {spike: {rate: 1/h, burst: 2}, slots: {algorithm: concurrency, max: 50}}
budgets: {all: {rate: 300/s, burst: 600, unit: tokens}}
overrides:
  - name: gold
    match: {tier: gold}
    limits: {spike: {burst: 30}}
---
apiVersion: ratectl/v1
scope: /mail/bulk
limits: {spike: {mode: shadow}}
"""


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent.from_policies(POLICIES) as agent:
        yield agent


def page_of(agent: Agent, query: str = "") -> tuple[str, str]:
    """Return the page, and its text."""
    served = agent.serve(admin="127.0.0.1:0")
    status, page, _ = ask(served.admin, f"/{query}")
    assert status == 200
    served.close()
    return page, words(page)


def test_page_shows_limits_keys_and_refusals(agent: Agent) -> None:
    for _ in range(5):
        agent.check("/mail", {"tenant": "<script>acme"})
    agent.check("/mail", {"tenant": "zeta", "tier": "gold"})
    page, text = page_of(agent)
    assert f"Agent {agent.id}" in text
    assert "Generation 1" in text
    assert "It refused 3 of 5 requests (60.0%) since the agent started." in text
    assert "at most 2 at once, 0.0003/s in the long run for each tenant" in text
    assert "Most refused keys: <script>acme (3)" in text
    assert "override gold at most 30 at once per tenant" in text
    assert "<script>acme" not in page


def test_limits_without_requests_are_shown(agent: Agent) -> None:
    agent.check("/mail", {"tenant": "acme"})
    _, text = page_of(agent)
    assert "/ Limit Used" in text
    assert "at most 100 at once, 50/s in the long run, per tenant" in text
    assert "at most 50 in progress" in text
    assert "at most 600 tokens at once, 300/s in the long run" in text
    assert text.count("No request has met this limit yet.") >= 3
    assert "/mail/bulk" in text
    assert "shadow: refuses nothing" in text


def test_page_before_any_policy(tmp_path: Path) -> None:
    with Agent(f"sqlite:///{tmp_path}/none.db", state_dir=tmp_path, ready_timeout=0) as agent:
        agent.check("/mail")
        _, text = page_of(agent)
        assert "Generation none" in text
        assert "on_error answered 1 requests: 1 allowed, 0 refused" in text


def test_headers_keep_the_page_to_itself(agent: Agent) -> None:
    served = agent.serve(admin="127.0.0.1:0")
    _, _, headers = ask(served.admin, "/")
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    policy = headers["Content-Security-Policy"]
    assert policy == f"{content_policy(live=True)}; frame-ancestors 'none'"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_page_is_loaded_again_unless_it_is_paused(agent: Agent) -> None:
    page, text = page_of(agent)
    assert 'data-refresh="5"' in page
    assert 'http-equiv="refresh" content="5"' in page
    assert "Loads again every 5 s. Pause" in text
    page, text = page_of(agent, "?refresh=off")
    assert 'http-equiv="refresh"' not in page
    assert "data-refresh" not in page
    assert "Paused." in text


def test_other_queries_are_ignored_and_not_repeated(agent: Agent) -> None:
    page, _ = page_of(agent, "?x=%3Cscript%3Eevil")
    assert "evil" not in page


def test_others_may_not_read_it(agent: Agent) -> None:
    served = agent.serve(admin="127.0.0.1:0", token="0123456789abcdef")
    assert ask(served.admin, "/")[0] == 401
    assert ask(served.admin, "/", Authorization="Bearer 0123456789abcdef")[0] == 200
    assert ask(served.admin, "/", Host="evil.example")[0] == 403


def test_many_scopes_are_bounded() -> None:
    scopes = "\n---\n".join(
        f"apiVersion: ratectl/v1\nscope: /s{at}\nlimits: {{spike: {{rate: {at + 1}/s}}}}"
        for at in range(2_000)
    )
    with Agent.from_policies(scopes) as agent:
        agent.check("/s1999")
        page, text = page_of(agent)
    assert len(page.encode()) < 500_000
    assert "/s1999" in text
    assert "1,500 more scopes had no request, and are left out." in text
