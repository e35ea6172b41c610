"""Writing of records: the JSON is that of ``asdict``, without its copies."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass
from typing import Any

import pytest

from given_counts import GivenMeter, counted
from ratectl.agent.usage import record as records_of_usage
from ratectl.engine.buckets.traffic import KeyTraffic
from ratectl.records import AgentRecord, BesideReport, Obeyed, Record, UsageRecord

NOW = "2026-11-27T12:00:00.000Z"

AGENT = AgentRecord(
    id="á", generation=2, state="serving", error=None, rejected=None, applied=NOW, swap_ms=1.5,
    started=NOW, reported=NOW, host="h", pid=1, version="1", engine="c",
    panic=[Obeyed(scope="/", mode="open", source="store")],
)  # fmt: skip
BUSY = KeyTraffic("acme", 6, 0, 0.5)


def usage_record(limits: int) -> UsageRecord:
    return GivenMeter().record(
        1.0, *[counted(f"l{number}", busiest=(BUSY,)) for number in range(limits)]
    )


def json_of(record: Record) -> bytes:
    value = {"format": 1, **asdict(record)}
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def test_records_are_the_json_of_all_their_fields() -> None:
    beside = BesideReport(
        rollout="r", generation=3, requests=5, newly_refused=1, newly_allowed=0,
        limits=[("/", "spike", 1, 0)],
    )  # fmt: skip
    usage = usage_record(2)
    assert AGENT.encode() == json_of(AGENT)
    for each in (usage, UsageRecord(**{**_fields(usage), "beside": beside})):
        assert zlib.decompress(each.encode()) == json_of(each)


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd(Record):
    value: object


@pytest.mark.parametrize("value", [object(), {1, 2}, b"x", Obeyed, [Obeyed]])
def test_value_that_json_does_not_have_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        Odd(value=value).encode()


def test_usage_of_a_limit_as_plain_data_has_all_fields() -> None:
    (limit,) = (
        GivenMeter().usage(1.0, counted("x", busiest=(BUSY,), top_refused=(("a", 1),))).limits
    )
    plain = {
        **asdict(limit),
        "trend": [minute._asdict() for minute in limit.trend],
        "busiest": [BUSY._asdict()],
    }
    assert list(limit.as_dict().items()) == list(plain.items())


@pytest.mark.parametrize(("limits", "steps"), [(5, [5, 0]), (200, [200, 100, 30, 10, 0])])
def test_no_record_is_encoded_twice_in_vain(
    limits: int, steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that takes the details from no limit is left out."""
    detailed: list[int] = []

    def encode(record: UsageRecord) -> bytes:
        detailed.append(sum(bool(limit.busiest) for limit in record.limits))
        return b" " * detailed[-1]

    monkeypatch.setattr(records_of_usage, "_MAX_BYTES", 0)
    monkeypatch.setattr(UsageRecord, "encode", encode)
    usage_record(limits)
    assert detailed == steps
