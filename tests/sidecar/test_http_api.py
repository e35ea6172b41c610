"""The sidecar's JSON API: decisions, tokens, errors, and its document."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcd_server import wait_for
from ratectl import Agent, FakeClock
from ratectl.errors import UsageError
from ratectl.sidecar import Sidecar
from ratectl.sidecar.api import Api
from ratectl.sidecar.api_messages import MOST_REQUESTS
from ratectl.sidecar.health import Health
from ratectl.sidecar.replies import Request
from ratectl.sidecar.tokens import Tokens
from sidecar.http_asking import DOCUMENT, Got, check_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

POLICIES = """
apiVersion: ratectl/v1
scope: /shop
limits:
  each: {rate: 3/min, burst: 3, per: client}
---
apiVersion: ratectl/v1
scope: /jobs
limits:
  running: {algorithm: concurrency, max: 2, hold: 1h}
---
apiVersion: ratectl/v1
scope: /llm
limits:
  tokens: {rate: 1000/min, burst: 1000, unit: tokens, per: client}
---
apiVersion: ratectl/v1
scope: /closed
limits:
  none: {rate: 0/s, burst: 1}
"""


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent.from_policies(POLICIES, clock=FakeClock()) as agent:
        yield agent


@pytest.fixture
def api(agent: Agent) -> Api:
    return Api(agent, Health(agent, ()))


@pytest.fixture
def post(api: Api) -> Callable[[str, object], Got]:
    """Ask, and hold the answer against the document."""

    def post(path: str, body: object) -> Got:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return _asked(api, Request("POST", path, "application/json; charset=utf-8", data))

    return post


def _asked(api: Api, request: Request) -> Got:
    reply = api.answer(request)
    headers = {name.lower(): value for name, value in reply.headers}
    got = Got(reply.status, {**headers, "content-type": reply.type}, reply.body)
    check_answer(request.method, request.path, got)
    return got


ACME = {"scope": "/shop", "attributes": {"client": "acme"}}


def test_a_request_is_allowed(post: Any) -> None:
    got = post("/v1/check", ACME)
    assert got.status == 200
    assert got.headers["ratelimit-policy"] == '"each";q=3;w=60'
    assert got.headers["ratelimit"] == '"each";r=2;t=20'
    assert got.json == {
        "allowed": True, "reason": "ok", "generation": 1, "limit": "each", "scope": "/shop",
        "unit": "requests", "capacity": 3, "remaining": 2, "retry_after": 0.0, "reset_after": 20.0,
    }  # fmt: skip


def test_a_request_is_refused_with_the_place_of_the_limit(tmp_path: Path) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text(POLICIES.lstrip())
    with Agent.from_policies(file, clock=FakeClock()) as agent:
        api = Api(agent, Health(agent, ()))
        body = json.dumps({**ACME, "cost": 3}).encode()
        for _ in range(2):
            got = _asked(api, Request("POST", "/v1/check", "application/json", body))
    assert got.status == 429
    assert got.headers["retry-after"] == "60"
    assert got.headers["ratelimit"] == '"each";r=0;t=60'
    assert got.json["source"] == f"{file}:4:16"
    assert {name: got.json[name] for name in ("allowed", "reason", "limit", "retry_after")} == {
        "allowed": False, "reason": "limited", "limit": "each", "retry_after": 60.0,
    }  # fmt: skip


def test_a_request_that_can_never_pass(post: Any) -> None:
    got = post("/v1/check", {**ACME, "cost": 4})
    assert (got.status, got.json["reason"], got.json["retry_after"]) == (429, "never", None)
    assert "retry-after" not in got.headers


def test_a_request_that_no_policy_covers(post: Any) -> None:
    got = post("/v1/check", {"scope": "/none"})
    assert (got.status, got.json["reason"], got.json["limit"]) == (200, "no_policy", None)
    assert "ratelimit" not in got.headers


def test_a_look_charges_nothing(post: Any) -> None:
    for _ in range(5):
        assert post("/v1/check", {**ACME, "cost": 0}).json["remaining"] == 3


def test_costs_in_units(post: Any) -> None:
    asked = {"scope": "/llm", "attributes": {"client": "a"}, "cost": {"tokens": 400}}
    assert [post("/v1/check", asked).status for _ in range(3)] == [200, 200, 429]
    assert post("/v1/check", {**asked, "cost": {}}).json["limit"] is None


def test_a_huge_cost_is_never_admitted(post: Any) -> None:
    body = b'{"scope": "/shop", "attributes": {"client": "a"}, "cost": 1%b}' % (b"0" * 4_000)
    assert post("/v1/check", body).json["reason"] == "never"


def test_without_policies_on_error_decides(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/rates.db"
    with Agent(url, state_dir=tmp_path / "state", ready_timeout=0, on_error="deny") as agent:
        api = Api(agent, Health(agent, ()))
        body = json.dumps(ACME).encode()
        got = _asked(api, Request("POST", "/v1/check", "application/json", body))
        assert (got.status, got.json["reason"]) == (503, "error")

        def ready() -> Got:
            return _asked(api, Request("GET", "/readyz", "", b""))

        wait_for(lambda: ready().body.startswith(b"nothing is published in sqlite:"), "the store")
        assert ready().status == 503
        assert _asked(api, Request("GET", "/healthz", "", b"")).status == 200


def test_readiness_ends_with_the_sidecar(agent: Agent) -> None:
    health = Health(agent, ())
    api = Api(agent, health)
    assert api.answer(Request("GET", "/readyz", "", b"")).body == b"generation 1 is in force\n"
    health.is_draining = True
    reply = api.answer(Request("GET", "/readyz", "", b""))
    assert (reply.status, reply.body) == (503, b"the sidecar ends\n")


# Batches ----------------------------------------------------------------------------------------


def test_a_batch_is_decided_in_order_and_one_by_one(post: Any) -> None:
    other = {"scope": "/shop", "attributes": {"client": "other"}}
    got = post("/v1/check-many", {"requests": [{**ACME, "cost": 2}, {**ACME, "cost": 2}, other]})
    assert got.status == 200
    assert [each["allowed"] for each in got.json["answers"]] == [True, False, True]
    assert post("/v1/check", ACME).json["remaining"] == 0, "the first one stays charged"


def test_a_wrong_request_of_a_batch_charges_none(post: Any) -> None:
    got = post("/v1/check-many", {"requests": [ACME, {"scope": "shop"}]})
    assert got.status == 400
    assert got.detail == "requests[1].scope: a scope starts with '/': write /shop"
    assert post("/v1/check", ACME).json["remaining"] == 2


@pytest.mark.parametrize("number", [0, MOST_REQUESTS + 1])
def test_the_size_of_a_batch_is_bounded(post: Any, number: int) -> None:
    got = post("/v1/check-many", {"requests": [{"scope": "/none"}] * number})
    assert got.status == 400
    assert got.detail.startswith("requests: List should have at")
    assert post("/v1/check-many", {"requests": [{"scope": "/none"}] * MOST_REQUESTS}).status == 200


# Tokens -----------------------------------------------------------------------------------------


def test_slots_are_held_until_their_token_is_released(post: Any) -> None:
    first, second = (post("/v1/check", {"scope": "/jobs"}).json for _ in range(2))
    assert first["token"] != second["token"]
    assert first["expires"] == 60
    assert post("/v1/check", {"scope": "/jobs"}).status == 429
    for _ in range(2):  # a caller that has missed the answer asks again
        assert post("/v1/release", {"token": first["token"]}).status == 204
    assert post("/v1/check", {"scope": "/jobs"}).status == 200
    assert post("/v1/check", {"scope": "/jobs"}).status == 429


def test_the_cost_is_settled_and_corrected(post: Any, agent: Agent) -> None:
    asked = {"scope": "/llm", "attributes": {"client": "a"}, "cost": {"tokens": 400}}
    token = post("/v1/check", {**asked, "expires": 5.5}).json["token"]

    def left() -> int:
        remaining: int = post("/v1/check", {**asked, "cost": {"tokens": 0}}).json["remaining"]
        return remaining

    assert left() == 600
    for cost, expected in ((500, 500), (500, 500), (1_200, 0)):
        assert post("/v1/settle", {"token": token, "cost": {"tokens": cost}}).status == 204
        assert left() == expected
    assert post("/v1/release", {"token": token}).status == 204
    agent.clock.advance(60)
    assert left() == 800
    assert post("/v1/settle", {"token": token, "cost": {"tokens": 1_500}}).status == 204
    assert left() == 500


def test_an_actual_cost_has_the_form_of_the_cost(post: Any) -> None:
    asked = {"scope": "/llm", "attributes": {"client": "a"}, "cost": {"tokens": 400}}
    token = post("/v1/check", {**asked, "expires": 5}).json["token"]
    got = post("/v1/settle", {"token": token, "cost": 3})
    assert got.status == 400
    assert got.detail.startswith("the cost was a mapping of units")


def test_tokens_are_given_to_those_that_need_one(post: Any) -> None:
    assert "token" not in post("/v1/check", ACME).json
    assert "token" not in post("/v1/check", {"scope": "/jobs", "cost": 0}).json
    assert "token" in post("/v1/check", {**ACME, "expires": 1}).json
    assert "token" in post("/v1/check", {"scope": "/none", "expires": 1}).json
    assert "token" not in post("/v1/check", {**ACME, "cost": 3, "expires": 1}).json, "it is refused"


def test_a_token_that_nobody_gave(post: Any) -> None:
    for path, more in (("/v1/settle", {"cost": 1}), ("/v1/release", {})):
        got = post(path, {"token": "A" * 22, **more})
        assert got.status == 404
        assert got.detail == "there is no such token: it has expired, or another sidecar gave it"


def test_without_room_for_a_token_nothing_is_charged(api: Api, post: Any) -> None:
    api._tokens = Tokens(most=1)
    for _ in range(5):
        got = post("/v1/check", {"scope": "/jobs"})
        assert post("/v1/release", {"token": got.json["token"]}).status == 204
    assert post("/v1/check", {"scope": "/jobs"}).status == 200
    asked = [{**ACME, "cost": 2}, {"scope": "/jobs"}]
    for path, body in (("/v1/check", asked[1]), ("/v1/check-many", {"requests": asked})):
        got = post(path, body)
        assert (got.status, got.detail) == (
            503,
            "too many tokens are open: release them, or let them expire sooner",
        )
    assert post("/v1/check", {**ACME, "cost": 0}).json["remaining"] == 3
    assert post("/v1/check", {"scope": "/jobs", "cost": 0}).json["remaining"] == 1


class TestTokens:
    """The table of tokens."""

    @pytest.fixture
    def now(self) -> list[float]:
        return [100.0]

    def test_one_expires(self, now: list[float], agent: Agent) -> None:
        tokens = Tokens(clock=lambda: now[0])
        decision = agent.check("/shop")
        token, ended = tokens.add(decision, 5), tokens.add(decision, 5)
        assert token is not None
        assert ended is not None
        tokens.end(ended)
        assert tokens.find(token) is tokens.find(ended) is decision
        now[0] += 5
        assert tokens.find(token) is tokens.find(ended) is None

    def test_there_is_room_again_when_some_have_expired_or_ended(
        self, now: list[float], agent: Agent
    ) -> None:
        tokens = Tokens(most=2, clock=lambda: now[0])
        decision = agent.check("/shop")
        first, _ = tokens.add(decision, 5), tokens.add(decision, 7)
        assert first is not None
        assert tokens.add(decision, 5) is None
        tokens.end(first)
        third = tokens.add(decision, 1)
        assert third is not None
        assert tokens.add(decision, 5) is None
        now[0] += 6
        assert tokens.add(decision, 5) is not None
        assert tokens.add(decision, 5) is None

    def test_what_has_expired_is_forgotten(self, now: list[float], agent: Agent) -> None:
        tokens = Tokens(clock=lambda: now[0])
        decision = agent.check("/shop")
        for _ in range(20_000):
            tokens.add(decision, 1)
            now[0] += 0.01
        assert len(tokens._open) < 2_500

    def test_those_that_ended_are_bounded(self, now: list[float], agent: Agent) -> None:
        tokens = Tokens(clock=lambda: now[0])
        decision = agent.check("/shop")
        for _ in range(10_500):
            token = tokens.add(decision, 3_600)
            assert token is not None
            tokens.end(token)
        assert len(tokens._ended) == 10_000
        assert not tokens._open


# Errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "the body is no JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"{", "the body is no JSON: Expecting property name"),
        (b"\xff", "the body is not UTF-8"),
        (b'{"scope": "/shop", "cost": NaN}', "NaN is no number of JSON"),
        (b'{"scope": "/shop", "cost": -Infinity}', "-Infinity is no number of JSON"),
        (b'{"scope": "/shop", "scope": "/"}', "the field 'scope' is there twice"),
        (b'{"scope": "/", "attributes": {"a": "1", "a": "2"}}', "the field 'a' is there twice"),
        (b"[" * 60_000, "the body is nested too deeply"),
        (b'{"a":' * 12_000, "the body is nested too deeply"),
        (b"[]", "the body is an object of JSON, like {\u2026}"),
        (b"null", "the body is an object of JSON, like {\u2026}"),
        (b'"/shop"', "the body is an object of JSON, like {\u2026}"),
        (b"{}", "scope: this field is needed"),
        (b'{"scope": 1}', "scope: Input should be a valid string"),
        (b'{"scope": ""}', "scope: a scope starts with '/'"),
        (b'{"scope": "/\\ud800"}', "scope: segment '\\ud800' may hold only letters"),
        (b'{"scope": "/a b"}', "scope: segment 'a b' may hold only"),
        (b'{"scope": "/shop", "client": "a"}', "client: there is no such field"),
        (b'{"scope": "/shop", "attributes": null}', "attributes: Input should be a valid dict"),
        (b'{"scope": "/shop", "attributes": ["a"]}', "attributes: Input should be a valid dict"),
        (b'{"scope": "/", "attributes": {"a": 1}}', "attributes.a: Input should be a valid string"),
        (b'{"scope": "/", "attributes": {"a": null}}', "attributes.a: Input should be a valid st"),
        (b'{"scope": "/", "cost": -1}', "cost: cost is a whole number, 0 or more"),
        (b'{"scope": "/", "cost": true}', "cost: cost is a whole number, 0 or more"),
        (b'{"scope": "/", "cost": 1.0}', "cost: cost is a whole number, 0 or more"),
        (b'{"scope": "/", "cost": "1"}', "cost: cost is a whole number, 0 or more"),
        (b'{"scope": "/", "cost": {"tokens": -1}}', "cost: cost of 'tokens' is a whole number"),
        (b'{"scope": "/", "cost": {"tokens": [1]}}', "cost: cost of 'tokens' is a whole number"),
        (b'{"scope": "/", "expires": 0}', "expires: Input should be greater than 0"),
        (b'{"scope": "/", "expires": 1e999}', "expires: Input should be less than or equal to 86"),
        (b'{"scope": "/", "expires": true}', "expires: Input should be a valid number"),
        (b'{"scope": "/", "cost": 1%b}' % (b"0" * 5_000), "the body is no JSON: Exceeds the limit"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(post: Any, body: bytes, detail: str) -> None:
    got = post("/v1/check", body)
    assert got.status == 400
    assert got.detail.startswith(detail)


def test_lone_surrogates_evade_no_limit(post: Any) -> None:
    """JavaScript makes them of texts that are cut in two."""
    body = b'{"scope": "/shop", "attributes": {"client": "\\ud800"}}'
    assert [post("/v1/check", body).status for _ in range(4)] == [200, 200, 200, 429]
    assert post("/v1/check", body.replace(b"ud800", b"udc80")).status == 200


@pytest.mark.parametrize(
    "body",
    [
        b'{"scope": "/", "\\ud800": 1}',
        b'{"scope": "/", "attributes": {"\\ud800": 1}}',
        b'{"scope": "/", "cost": {"\\ud800": -1}}',
        b'{"scope": "/", "\\ud800": 1, "\\ud800": 1}',
    ],
)
def test_a_lone_surrogate_in_an_error(post: Any, body: bytes) -> None:
    assert post("/v1/check", body).status == 400


def test_errors_are_short(post: Any) -> None:
    for body in (
        {"scope": "/", **{f"field{n}": n for n in range(2_000)}},
        {"scope": "/", "x" * 60_000: 1},
        {"scope": "/", "attributes": {"x" * 60_000: 1}},
        {"scope": "/", "cost": "x" * 60_000},
        {"scope": "/" + "x" * 60_000},
        {"scope": "/" + "?" * 60_000},
        {"scope": "x" * 60_000},
        {"requests": [{"scope": ""}] * 100},
    ):
        path = "/v1/check-many" if "requests" in body else "/v1/check"
        got = post(path, body)
        assert got.status == 400
        assert len(got.body) < 4_000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
FIELDS = st.sampled_from(["scope", "attributes", "cost", "expires", "requests", "token", "limit"])
VALUES = JSON | st.sampled_from(["/", "/shop", {"client": "a"}, 1, {"tokens": 5}, "A" * 22])


@given(
    st.sampled_from(["/v1/check", "/v1/check-many", "/v1/settle", "/v1/release"]),
    st.dictionaries(FIELDS, VALUES) | JSON,
)
def test_any_json_gets_a_declared_answer(path: str, body: object) -> None:
    """A body that the document's schema forbids is answered with 400."""
    with Agent.from_policies(POLICIES, clock=FakeClock()) as agent:
        api = Api(agent, Health(agent, ()))
        data = json.dumps(body).encode()
        got = _asked(api, Request("POST", path, "application/json", data))
        assert got.status != 500
        schema = DOCUMENT["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        whole = {**schema["schema"], "components": DOCUMENT["components"]}
        if not jsonschema.Draft202012Validator(whole).is_valid(body):
            assert got.status == 400


@given(st.binary(max_size=200))
def test_any_bytes_get_a_declared_answer(body: bytes) -> None:
    with Agent.from_policies(POLICIES, clock=FakeClock()) as agent:
        api = Api(agent, Health(agent, ()))
        assert _asked(api, Request("POST", "/v1/check", "application/json", body)).status == 400


def test_another_path_and_another_method(api: Api) -> None:
    got = _asked(api, Request("GET", "/v2/check", "", b""))
    assert got.status == 404
    assert got.detail.startswith("there is no such path: there are /v1/check, ")
    got = _asked(api, Request("GET", "/v1/check", "", b""))
    assert (got.status, got.headers["allow"], got.detail) == (405, "POST", "/v1/check takes POST")
    got = _asked(api, Request("POST", "/healthz", "", b""))
    assert (got.status, got.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_a_page_of_another_site_cannot_ask(api: Api, agent: Agent, kind: str) -> None:
    """Browsers send these kinds without asking first."""
    body = json.dumps(ACME).encode()
    assert _asked(api, Request("POST", "/v1/check", kind, body)).status == 415
    assert _asked(api, Request("OPTIONS", "/v1/check", "", b"")).status == 405
    assert agent.check("/shop", {"client": "acme"}, 0).remaining == 3


def test_a_failure_is_logged_and_told(
    post: Any, agent: Agent, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(agent, "check_blocking", None)
    got = post("/v1/check", ACME)
    assert (got.status, got.detail) == (500, "the limiter failed: see its log")
    assert "a request to the sidecar failed" in caplog.text


# The document -----------------------------------------------------------------------------------


def test_the_document_has_the_paths_of_the_api(api: Api) -> None:
    declared = {
        (path, method.upper()) for path, methods in DOCUMENT["paths"].items() for method in methods
    }
    assert declared == {(path, method) for path, of in api.routes.items() for method in of}
    assert _asked(api, Request("GET", "/v1/openapi.json", "", b"")).json == DOCUMENT


def test_every_schema_of_the_document_is_valid_described_and_used() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    text = json.dumps(DOCUMENT)
    for name, schema in schemas.items():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["description"], name
        assert f'"#/components/schemas/{name}"' in text
        assert schema["additionalProperties"] is False, "a field that is not declared is an error"
    assert "retry_after" in schemas["Answer"]["properties"]["reason"]["description"]


# Arguments --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "name an address"),
        ({"http": "here"}, "it has no port"),
        ({"http": "127.0.0.1:0", "server": "ngh2"}, "server, rls_tls and rls_mapping are for rls"),
        ({"rls": "127.0.0.1:0", "http_tls": 1}, "http_tls is for http"),
        ({"http": "127.0.0.1:0", "http_tls": 1}, "tls is ratectl.Tls"),
    ],
)
def test_wrong_arguments(agent: Agent, arguments: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Sidecar(agent, **arguments)


def test_an_address_that_is_not_served(agent: Agent) -> None:
    with Sidecar(agent, http="127.0.0.1:0") as sidecar:
        assert list(sidecar.addresses) == ["http"]
        with pytest.raises(UsageError, match="this sidecar serves no rls"):
            assert sidecar.rls


def test_an_address_in_use_leaves_nothing_open(agent: Agent, tmp_path: Path) -> None:
    path = tmp_path / "rls.sock"
    with (
        Sidecar(agent, http="127.0.0.1:0") as first,
        pytest.raises(UsageError, match=r"cannot listen on 127\.0\.0\.1"),
    ):
        Sidecar(agent, f"unix:{path}", http=str(first.http))
    assert not path.exists()


def test_a_batch_of_refusals_is_fast(post: Any) -> None:
    """A hostile caller must not keep the loop from others."""
    body = {"requests": [{**ACME, "cost": 4}] * 100}
    post("/v1/check-many", body)
    began = time.process_time()
    post("/v1/check-many", body)
    assert time.process_time() - began < 0.5
