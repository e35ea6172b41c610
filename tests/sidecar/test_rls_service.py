"""The Rate Limit Service, asked with Envoy's own messages."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from etcd_server import wait_for
from ratectl import Agent, FakeClock, load_valid
from ratectl.sidecar.mapping import EnvoyMapping
from ratectl.sidecar.messages import Descriptor, Request
from ratectl.sidecar.questions import InvalidRequest, questions_of
from ratectl.sidecar.service import RateLimitService
from ratectl.stores import open_store
from sidecar.envoys_messages import OK, OVER, asked, descriptor, request
from support import publish_policies

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POLICIES = """
apiVersion: ratectl/v1
scope: /shop
limits:
  each: {rate: 2/s, burst: 4, per: client}
budgets:
  all: {rate: 600/min, burst: 10}
---
apiVersion: ratectl/v1
scope: /hourly
limits:
  each: {algorithm: sliding-window, rate: 3/h}
"""


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def service(clock: FakeClock) -> Iterator[RateLimitService]:
    with Agent.from_policies(POLICIES, clock=clock) as agent:
        yield RateLimitService(agent)


def of(client: str, hits: int | None = None):  # type: ignore[no-untyped-def]
    return descriptor(("client", client), hits=hits)


def test_requests_pass_until_the_limit_is_used_up(
    service: RateLimitService, clock: FakeClock
) -> None:
    answers = [asked(service, request("shop", of("a"))) for _ in range(5)]
    assert [answer.overall_code for answer in answers] == [OK] * 4 + [OVER]
    assert [answer.statuses[0].limit_remaining for answer in answers] == [3, 2, 1, 0, 0]
    limit = answers[0].statuses[0].current_limit
    assert (limit.requests_per_unit, limit.unit, limit.name) == (4, limit.SECOND, "each")
    assert answers[-1].statuses[0].duration_until_reset.ToMilliseconds() == 500
    assert asked(service, request("shop", of("b"))).overall_code == OK
    clock.advance(0.5)
    assert asked(service, request("shop", of("a"))).overall_code == OK


def test_headers_and_metadata_of_a_refusal(service: RateLimitService) -> None:
    first = asked(service, request("shop", of("a"), hits=4))
    headers = {header.key: header.value for header in first.response_headers_to_add}
    assert headers == {
        "ratelimit-policy": '"each";q=4;w=2, "all@/shop";q=10;w=1',
        "ratelimit": '"each";r=0;t=2',
    }
    assert not first.dynamic_metadata.fields
    refused = asked(service, request("shop", of("a")))
    headers = {header.key: header.value for header in refused.response_headers_to_add}
    assert headers["ratelimit"] == '"each";r=0;t=1'
    assert headers["retry-after"] == "1"
    assert dict(refused.dynamic_metadata) == {
        "reason": "limited",
        "generation": 1,
        "limit": "each",
        "scope": "/shop",
        "source": "<policies>:5:16",
    }


def test_all_descriptors_are_charged_or_none(service: RateLimitService) -> None:
    both = request("shop", of("a", 3), of("b", 5))
    for _ in range(3):
        answer = asked(service, both)
        assert answer.overall_code == OVER
        assert [status.code for status in answer.statuses] == [OK, OVER]
        assert answer.statuses[0].limit_remaining == 4
    assert asked(service, request("shop", of("a", 4))).overall_code == OK


def test_descriptors_of_one_bucket_are_told_what_is_true_after_a_refusal(
    service: RateLimitService,
) -> None:
    answer = asked(service, request("shop", of("a"), of("a"), of("b", 9)))
    assert [status.code for status in answer.statuses] == [OK, OK, OVER]
    assert [status.limit_remaining for status in answer.statuses] == [4, 4, 4]
    assert [status.duration_until_reset.ToNanoseconds() for status in answer.statuses[:2]] == [0, 0]


def test_nothing_stays_charged_if_a_later_descriptor_fails(
    service: RateLimitService, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = service._agent.check_blocking

    def fail(scope: str, attributes: dict[str, str], cost: int) -> object:
        if attributes["client"] == "b":
            raise ZeroDivisionError
        return check(scope, attributes, cost)

    monkeypatch.setattr(service._agent, "check_blocking", fail)
    with pytest.raises(ZeroDivisionError):
        asked(service, request("shop", of("a", 3), of("b")))
    assert asked(service, request("shop", of("a", 4), of("c"))).overall_code == OK


def test_a_limit_in_shadow_is_not_told(clock: FakeClock) -> None:
    policies = POLICIES.replace("burst: 4, per: client}", "burst: 4, per: client, mode: shadow}")
    with Agent.from_policies(policies, clock=clock) as agent:
        service = RateLimitService(agent)
        answers = [asked(service, request("shop", of("a"))) for _ in range(6)]
    assert [answer.overall_code for answer in answers] == [OK] * 6
    names = {answer.statuses[0].current_limit.name for answer in answers}
    assert names == {"all@/shop", ""}


def test_the_line_of_a_refusal_that_was_published(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "shop.yaml").write_text(POLICIES.partition("---")[0])
    url = f"sqlite:///{tmp_path}/rates.db"
    with open_store(url) as store:
        publish_policies(store, load_valid([tmp_path / "policies"]).tree)
    with Agent(url, state_dir=tmp_path / "state", report_interval=0.1) as agent:
        service = RateLimitService(agent)

        def source() -> str:
            answer = asked(service, request("shop", of("a", 5)))
            return str(dict(answer.dynamic_metadata)["source"])

        assert source() == "limits.each.burst of /shop", "it is read when somebody asks"
        wait_for(lambda: "shop.yaml:5:" in source(), "the line", 20)
        assert len(service._answers._sources) == 1


def test_hits(service: RateLimitService) -> None:
    def left(hits: int | None = None, of_request: int = 0) -> int:
        answer = asked(service, request("shop", of("a", hits), hits=of_request))
        assert answer.overall_code == OK
        return int(answer.statuses[0].limit_remaining)

    assert left() == 3
    assert left(0) == 3, "the hits of a descriptor may be none: it only looks"
    assert left(of_request=2) == 1, "those of the request are for descriptors without"
    assert left(0, of_request=9) == 1
    assert left(1, of_request=9) == 0
    answer = asked(service, request("shop", of("b", 2**64 - 1)))
    assert answer.overall_code == OVER
    assert dict(answer.dynamic_metadata)["reason"] == "never"


def test_hits_that_are_given_back_are_ignored_and_told_once(
    service: RateLimitService, caplog: pytest.LogCaptureFixture
) -> None:
    back = Descriptor((("client", "a"),), 3, is_negative=True)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            answer = service.answer(Request("shop", (back, Descriptor((("client", "a"),)))))
            assert [status.code for status in answer.statuses] == [1, 1]
    assert service.negative_hits == 2
    assert caplog.text.count("is_negative_hits") == 1
    assert asked(service, request("shop", of("a"))).statuses[0].limit_remaining == 1


def test_a_window_of_an_hour_is_told_as_such(service: RateLimitService) -> None:
    (status,) = asked(service, request("hourly", descriptor())).statuses
    limit = status.current_limit
    assert (limit.requests_per_unit, limit.unit, limit.name) == (3, limit.HOUR, "each")
    assert status.limit_remaining == 2


def test_a_domain_without_policies_passes(service: RateLimitService) -> None:
    answer = asked(service, request("elsewhere", of("a")))
    assert answer.overall_code == OK
    assert not answer.statuses[0].HasField("current_limit")
    assert not answer.response_headers_to_add


def test_clients_cannot_evade_a_limit_with_bytes_that_are_no_text(
    service: RateLimitService,
) -> None:
    data = request("shop", of("AA", 4)).SerializeToString().replace(b"AA", b"\xff\xfe")
    for code in (b"\x08\x01", b"\x08\x02"):
        assert service.decide(data).startswith(code)
    assert asked(service, request("shop", of("AA", 4))).overall_code == OK


@pytest.mark.parametrize(
    ("asking", "message"),
    [
        (Request("", (Descriptor(()),)), "no domain"),
        (Request("shop", ()), "no descriptors"),
    ],
)
def test_requests_that_ask_nothing(
    service: RateLimitService, asking: Request, message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        service.answer(asking)


def test_entries_are_attributes() -> None:
    entries = (("k", "1"), ("k", "2"), ("k_2", "3"), ("k", "4"), ("", "5"))
    (question,) = questions_of(Request("/a/b/", (Descriptor(entries),)), EnvoyMapping())
    assert question is not None
    assert question.scope == "/a/b"
    assert question.attributes == {"k": "1", "k_2": "2", "k_2_2": "3", "k_3": "4", "": "5"}
