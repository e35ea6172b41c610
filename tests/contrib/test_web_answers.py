"""Headers and scopes that all web adapters share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from contrib.web_support import limits_told
from ratectl import Agent, FakeClock, UsageError
from ratectl.contrib.web import by_route, header
from ratectl.contrib.web.answers import headers_of
from ratectl.contrib.web.limiter import Limiter
from ratectl.policy.language.scopes import scope_problem

if TYPE_CHECKING:
    from pathlib import Path


def told(limits: dict[str, Any], requests: int, budgets: dict[str, Any] | None = None) -> Any:
    """Return the headers of the last of some requests, by their lower-case names."""
    top = {"apiVersion": "ratectl/v1", "scope": "/", "budgets": budgets or {}}
    below = {"apiVersion": "ratectl/v1", "scope": "/shop", "limits": limits}
    with Agent.from_policies([top, below], clock=FakeClock()) as agent:
        decision = [agent.check("/shop") for _ in range(requests)][-1]
        headers = headers_of(decision, agent, "/shop", {})
    assert len({name for name, _ in headers}) == len(headers)
    return {name.lower(): value for name, value in headers}


def test_parts_of_seconds_are_rounded_up() -> None:
    headers = told({"spike": {"rate": "3/s", "burst": 5}}, 6)
    assert headers["retry-after"] == "1"
    assert limits_told(headers) == ({"spike": {"q": 5, "w": 2}}, {"spike": {"r": 0, "t": 1}})


def test_a_limit_in_shadow_is_not_told() -> None:
    headers = told({"spike": {"rate": "1/s"}, "trial": {"rate": "1/h", "mode": "shadow"}}, 2)
    assert list(limits_told(headers)[0]) == ["spike"]


def test_a_budget_of_the_same_name_is_told_apart() -> None:
    budgets = {"spike": {"rate": "1/h", "burst": 1}}
    headers = told({"spike": {"rate": "9/s", "burst": 9}}, 2, budgets)
    policies, state = limits_told(headers)
    assert list(policies) == ["spike", "spike@/"]
    assert list(state) == ["spike@/"]


@pytest.mark.parametrize(
    ("limit", "policy"),
    [
        ({"algorithm": "quota", "rate": "9/day"}, {"q": 9, "w": 86_400}),
        ({"algorithm": "sliding-window", "rate": "9/10s"}, {"q": 9, "w": 10}),
        ({"rate": "0/s", "burst": 9}, {"q": 9}),
        ({"algorithm": "concurrency", "max": 9}, {"q": 9, "qu": "concurrent-requests"}),
    ],
)
def test_windows_of_all_algorithms(limit: dict[str, Any], policy: dict[str, Any]) -> None:
    assert limits_told(told({"spike": limit}, 1))[0] == {"spike": policy}


def test_an_agent_without_policies_reports_no_routes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Agent(
        f"sqlite:///{tmp_path}/rates.db", state_dir=tmp_path / "state", ready_timeout=0
    ) as agent:
        Limiter(agent, by_route("/shop"), uncovered="raise").check_routes(["/items"])
    assert "not limited" not in caplog.text


@pytest.mark.parametrize(
    ("template", "scope"),
    [
        ("/c/<any('x:y', z):k>", "/c/k"),
        ("""/d/<any("<",b):k>/<any('a/b', ')'):n>.<string(length=2):e>/x""", "/d/k/n.e/x"),
        ("wiki/(old)/<int:id>/", "/wiki/old/id"),
        ("q/[x]/(<int:id>)", "/q/x/id"),
        ("y/<k>|z/", "/y/k-z"),
        ("/items/{id}:cancel/@{who}", "/items/id-cancel/who"),
        ("/gr\u00f6\u00dfe/\u0442/-/-a-/./../()", "/gr-e/-/-/-a-/-/-/-"),
    ],
)
def test_every_template_is_a_scope_that_a_policy_can_name(template: str, scope: str) -> None:
    assert by_route("/").of(template) == scope
    assert scope_problem(scope) is None


def test_scopes_of_routes_are_kept_in_bounds() -> None:
    scopes = by_route("/shop")
    assert scopes.of("//a//<int:b>/{c:path}/") == "/shop/a/b/c"
    assert by_route("/").of(None) == "/"
    for number in range(3_000):
        scopes.of(f"/{number}")
    assert len(scopes._known) <= 1_024


def test_a_limit_in_shadow_decides_no_header() -> None:
    headers = told({"trial": {"rate": "1/h", "mode": "shadow"}}, 2)
    assert "ratelimit" not in headers
    assert "ratelimit-policy" not in headers


def test_nothing_is_left_of_a_rate_of_zero() -> None:
    assert limits_told(told({"spike": {"rate": "0/s", "burst": 9}}, 1))[1] == {"spike": {"r": 0}}


async def coroutine(request: Any) -> Any:
    return request


class AsyncCall:
    async def __call__(self, request: Any) -> Any:
        return request


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"scope": coroutine}, "scope is a coroutine"),
        ({"exempt": coroutine}, "exempt is a coroutine"),
        ({"exempt": AsyncCall()}, "exempt is a coroutine"),
        ({"cost": coroutine}, "cost is a coroutine"),
        ({"attributes": coroutine}, "attributes is a coroutine"),
        ({"attributes": {"t": coroutine}}, "attributes: 't' is a coroutine"),
        ({"attributes": {"t": header}}, r"attributes: 't' is header, .*: write header\(…\)"),
        ({"scope": by_route}, r"scope is by_route, .*: write by_route\(…\)"),
        ({"cost": -1}, "cost is a whole number"),
        ({"cost": 1.5}, "cost is a whole number"),
    ],
)
def test_arguments_that_would_fail_at_every_request(argument: Any, message: str) -> None:
    with (
        Agent.from_policies({"apiVersion": "ratectl/v1", "scope": "/"}) as agent,
        pytest.raises(UsageError, match=message),
    ):
        Limiter(agent, **{"scope": "/shop", **argument})
