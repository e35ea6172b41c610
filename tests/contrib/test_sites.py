"""Tests that WSGI, Flask and Django share: refusals, headers, attributes, failures, slots."""

from __future__ import annotations

import gc
import json
from typing import TYPE_CHECKING, Any

import http_sf
import pytest

from contrib.sites import FILE, HELD, KINDS, Site, make_agent, site, slots_left
from ratectl.contrib.web import by_route, client_ip, header, path_parameter, query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl import Agent

TENANT: dict[str, Any] = {"tenant": header("x-tenant")}
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
WITH_ROUTES = pytest.mark.parametrize("kind", KINDS[1:])

pytestmark = pytest.mark.filterwarnings("ignore:Unclosed file <tempfile:ResourceWarning")
"""Django leaves the body of a request open if its stream raises."""


@pytest.fixture
def agent() -> Iterator[Agent]:
    with make_agent() as agent:
        yield agent


def statuses(site: Site, count: int = 3, **words: Any) -> list[int]:
    return [site.get(**words).status_code for _ in range(count)]


def failures(agent: Agent) -> int:
    return agent._failures.count


@EVERY_KIND
def test_a_refusal_tells_the_client_what_it_needs(kind: str, agent: Agent) -> None:
    with site(kind, agent, scope="/shop", attributes=TENANT) as shop:
        first, _, refused = (shop.get() for _ in range(3))
    assert not [name for name in first.headers if "ratelimit" in name]
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "2"
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["content-length"] == str(len(refused.content))
    assert refused.json()["violated-policies"] == ["spike"]
    assert parsed(refused, "ratelimit") == [("spike", {"r": 0, "t": 2})]
    assert parsed(refused, "ratelimit-policy") == [("spike", {"q": 2, "w": 4})]


def parsed(answer: Any, name: str) -> Any:
    assert len(answer.headers.get_list(name)) == 1
    return http_sf.parse(answer.headers[name].encode(), tltype="list")


@EVERY_KIND
def test_a_client_that_waits_as_told_passes(kind: str, agent: Agent) -> None:
    with site(kind, agent, scope="/shop", attributes=TENANT) as shop:
        assert statuses(shop) == [200, 200, 429]
        agent.clock.advance(int(shop.get().headers["retry-after"]))
        assert statuses(shop, 2) == [200, 429]


@EVERY_KIND
def test_the_answer_to_head_has_no_body(kind: str, agent: Agent) -> None:
    with site(kind, agent, scope="/shop", attributes=TENANT) as shop:
        statuses(shop, 2)
        refused = shop.get(method="HEAD")
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "2"


@EVERY_KIND
@pytest.mark.parametrize("url", ["/items/7", "/nowhere", "/stream"])
def test_all_responses_have_headers_if_wanted(kind: str, url: str, agent: Agent) -> None:
    with site(kind, agent, scope="/shop", attributes=TENANT, headers="all") as shop:
        assert parsed(shop.get(url), "ratelimit") == [("spike", {"r": 1, "t": 2})]


@EVERY_KIND
def test_a_header_of_the_application_stays(kind: str, agent: Agent) -> None:
    with site(kind, agent, scope="/shop", attributes=TENANT, headers="all") as shop:
        answer = shop.get("/own")
    assert answer.headers.get_list("ratelimit") == ["mine"]
    assert "ratelimit-policy" in answer.headers


@EVERY_KIND
def test_no_headers_if_none_are_wanted(kind: str, agent: Agent) -> None:
    with site(kind, agent, scope="/shop", attributes=TENANT, headers="none") as shop:
        statuses(shop, 2)
        refused = shop.get()
    assert refused.status_code == 429
    assert set(refused.headers) & {"retry-after", "ratelimit", "ratelimit-policy"} == set()


@EVERY_KIND
def test_older_clients_find_their_headers(kind: str, agent: Agent) -> None:
    with site(kind, agent, scope="/shop", headers="all", legacy_headers=True) as shop:
        headers = shop.get().headers
    assert [headers[f"x-ratelimit-{name}"] for name in ("limit", "remaining", "reset")] == [
        *("2", "1", "2")
    ]


@WITH_ROUTES
def test_errors_of_the_application_have_headers_too(kind: str, agent: Agent) -> None:
    with site(kind, agent, scope="/shop", attributes=TENANT, headers="all") as shop:
        answer = shop.get("/fails")
    assert answer.status_code == 500
    assert parsed(answer, "ratelimit") == [("spike", {"r": 1, "t": 2})]


@EVERY_KIND
def test_the_application_finds_the_decision(kind: str, agent: Agent) -> None:
    with site(kind, agent, scope="/shop", attributes=TENANT) as shop:
        assert json.loads(shop.get("/decision").text) == ["spike", 1]


# Attributes, costs, exemptions ----------------------------------------------------------------


@EVERY_KIND
def test_each_value_of_a_header_has_its_own_bucket(kind: str, agent: Agent) -> None:
    with site(kind, agent, scope="/shop", attributes=TENANT) as shop:
        assert statuses(shop, x_tenant="acme") == [200, 200, 429]
        assert statuses(shop, x_tenant="globex") == [200, 200, 429]


@EVERY_KIND
def test_a_parameter_of_the_query_is_an_attribute(kind: str, agent: Agent) -> None:
    with site(kind, agent, scope="/shop", attributes={"tenant": query("t")}) as shop:
        first, last = ("c", "a%20b") if kind.startswith("django") else ("a%20b", "c")
        assert statuses(shop, url=f"/items/7?t={first}&t={last}") == [200, 200, 429]
        assert statuses(shop, url="/items/7?t=c") == [200, 200, 429]
        assert shop.get("/items/7?x=1&t=a+b").status_code == 429


@EVERY_KIND
def test_a_query_that_the_framework_cannot_read_is_no_way_around_a_limit(
    kind: str, agent: Agent
) -> None:
    with site(kind, agent, scope="/shop", attributes={"tenant": query("t")}) as shop:
        for url in ("t=a&z=%FF", "t=a&z=%FF", "t=a&z=%FF" + "&" * 2_000):
            last = shop.get(f"/items/7?{url}")
    assert last.status_code == 429
    assert failures(agent) == 0


@EVERY_KIND
def test_a_query_of_many_fields_is_no_way_around_a_limit(kind: str, agent: Agent) -> None:
    with site(kind, agent, scope="/shop", attributes={"tenant": query("t")}) as shop:
        assert statuses(shop, url="/items/7?" + "&" * 3_000 + "t=a") == [200, 200, 429]
    assert failures(agent) == 0


@WITH_ROUTES
def test_a_parameter_of_the_route_is_an_attribute(kind: str, agent: Agent) -> None:
    with site(kind, agent, scope="/shop", attributes={"tenant": path_parameter("id")}) as shop:
        assert statuses(shop, url="/items/7") == [200, 200, 429]
        assert statuses(shop, url="/items/8") == [200, 200, 429]
        assert statuses(shop, url="/health") == [200, 200, 429]  # they lack it


@EVERY_KIND
def test_a_trusted_proxy_names_the_client(kind: str, agent: Agent) -> None:
    with site(kind, agent, scope="/addresses", attributes={"ip": client_ip()}) as shop:

        def ask(forwarded: str, peer: str) -> int:
            return shop.get(peer=peer, x_forwarded_for=forwarded).status_code

        assert ask("203.0.113.1", "10.0.0.1") == 200
        assert ask("203.0.113.2", "10.0.0.1") == 200
        assert ask("198.51.100.9, 203.0.113.2", "10.0.0.1") == 429  # further left: the client's own


@EVERY_KIND
def test_a_client_cannot_name_another_one(kind: str, agent: Agent) -> None:
    with site(kind, agent, scope="/addresses", attributes={"ip": client_ip()}) as shop:
        answers = [shop.get(peer="192.0.2.1", x_forwarded_for=f"203.0.113.{n}") for n in (1, 2, 3)]
    assert [answer.status_code for answer in answers] == [200, 429, 429]


@EVERY_KIND
def test_a_function_may_give_all_attributes_and_the_cost(kind: str, agent: Agent) -> None:
    with site(
        kind,
        agent,
        scope=lambda request: "/shop",
        attributes=lambda request: {"tenant": request.header("X-Tenant"), "none": None},
        cost=lambda request: 2 if request.method == "GET" else 1,
    ) as shop:
        assert statuses(shop, 2) == [200, 429]


@EVERY_KIND
def test_exempt_paths_are_not_limited(kind: str, agent: Agent) -> None:
    with site(kind, agent, scope="/shop", exempt=["/health"], headers="all") as shop:
        assert statuses(shop, 5, url="/health") == [200] * 5
        assert "ratelimit" not in shop.get("/health").headers
        assert statuses(shop) == [200, 200, 429]


@WITH_ROUTES
def test_exempt_templates_are_not_limited(kind: str, agent: Agent) -> None:
    with site(kind, agent, scope="/shop", exempt=["/items/<int:id>", "items/<int:id>"]) as shop:
        assert statuses(shop, 5) == [200] * 5


@WITH_ROUTES
def test_the_scope_is_the_template_of_the_route(kind: str, agent: Agent) -> None:
    seen: list[Any] = []

    def scope(request: Any) -> str:
        seen.append(by_route("/shop")(request))
        return "/shop"

    with site(kind, agent, scope=scope) as shop:
        shop.get("/items/7")
        shop.get("/nowhere/at/all")
    assert seen == ["/shop/items/id", "/shop"]


@WITH_ROUTES
def test_paths_that_fit_no_route_share_the_scope_of_the_prefix(kind: str, agent: Agent) -> None:
    with site(kind, agent, scope=by_route("/shop"), attributes=TENANT) as shop:
        assert [shop.get(f"/wp-{n}.php").status_code for n in range(3)] == [404, 404, 429]


# Failures -------------------------------------------------------------------------------------


def broken(*_: Any) -> Any:
    raise RuntimeError("a fault of the user's function")


@EVERY_KIND
@pytest.mark.parametrize(
    "arguments",
    [
        {"scope": broken},
        {"scope": lambda request: 7},
        {"attributes": broken},
        {"attributes": {"tenant": broken}},
        {"attributes": lambda request: "text"},
        {"cost": broken},
        {"cost": lambda request: -1},
        {"cost": lambda request: "many"},
        {"exempt": broken},
    ],
)
def test_functions_that_fail_are_answered_by_on_error_and_counted(
    kind: str, arguments: Any, agent: Agent
) -> None:
    with site(kind, agent, **{"scope": "/shop", "headers": "all", **arguments}) as shop:
        assert statuses(shop, 4) == [200] * 4
    assert failures(agent) == 4


@EVERY_KIND
def test_a_policy_may_refuse_when_the_limiter_fails(kind: str, agent: Agent) -> None:
    with site(kind, agent, scope="/strict", attributes=broken) as shop:
        refused = shop.get()
    assert refused.status_code == 503
    assert refused.json() == {"title": "The rate limiter failed", "status": 503}


@EVERY_KIND
@pytest.mark.parametrize("on_refused", [broken, lambda *_: None, lambda *_: object()])
def test_on_refused_that_fails_is_answered_as_usual(
    kind: str, on_refused: Any, agent: Agent
) -> None:
    with site(kind, agent, scope="/shop", attributes=TENANT, on_refused=on_refused) as shop:
        statuses(shop, 2)
        refused = shop.get()
    assert refused.status_code == 429
    assert refused.headers["content-type"] == "application/problem+json"


# Slots ----------------------------------------------------------------------------------------


@EVERY_KIND
@pytest.mark.parametrize("url", ["/items/7", "/nowhere", "/own", "/stream", "/breaks", "/fails"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_every_request_gives_its_slot_back(kind: str, url: str, method: str, agent: Agent) -> None:
    with site(kind, agent, scope="/slow", attributes=TENANT, headers="all") as shop:
        for _ in range(5):
            try:
                answer = shop.get(url, method=method)
            except RuntimeError as error:  # the server's matter
                assert "application" in str(error) or "stream" in str(error)  # noqa: PT017
            else:
                assert answer.status_code != 429
            assert slots_left(agent) == 3
    gc.collect()  # within this test: what a broken stream leaves behind


@EVERY_KIND
def test_a_stream_holds_its_slot_until_the_end(kind: str, agent: Agent) -> None:
    with site(kind, agent, scope="/slow", attributes=TENANT) as shop:
        assert shop.get("/stream").content == b"ab"
    assert HELD == [2, 2]
    assert slots_left(agent) == 3


@WITH_ROUTES
@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
def test_files_arrive_whole_and_give_their_slot_back(kind: str, agent: Agent) -> None:
    with site(kind, agent, scope="/slow", attributes=TENANT) as shop:
        assert shop.get("/file").content == FILE.read_bytes()
        assert slots_left(agent) == 3
