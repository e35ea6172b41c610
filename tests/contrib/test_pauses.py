"""Pauses that responses of another server ask for."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace

import httpx
import pytest

from ratectl.contrib import pauses
from ratectl.contrib.pauses import Pauses, pause_of

DATE = "Sat, 28 Nov 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {}, 0),
        (429, {"Retry-After": "7"}, 7),
        (503, {"retry-after": " 7 "}, 7),
        (403, {"Retry-After": "7"}, 7),
        (200, {"Retry-After": "7"}, 0),
        (302, {"Retry-After": "7"}, 0),
        (429, {"Retry-After": "Sat, 28 Nov 2026 12:01:30 GMT", "Date": DATE}, 90),
        (429, {"Retry-After": "Sat, 28 Nov 2026 11:00:00 GMT", "Date": DATE}, 0),
        (429, {"Retry-After": "Saturday, 28-Nov-26 12:01:30 GMT", "Date": DATE}, 90),
        (429, {"Retry-After": "Sat, 28 Nov 2026 12:01:30 -0000", "Date": DATE}, 90),
        (200, {"RateLimit": '"spike";r=0;t=5'}, 5),
        (200, {"RateLimit": '"spike";r=1;t=5'}, 0),
        (200, {"RateLimit": '"spike";r=0'}, 0),
        (200, {"RateLimit": '"a";r=0;t=5, "b" ; r=0 ; t=9;pk=:cHI=:, "c";r=3;t=60'}, 9),
        (200, {"RateLimit": r'"a\";r=0;t=60,";r=1;t=5'}, 0),
        (200, {"RateLimit": r'"a\\";r=0;t=6'}, 6),
        (200, {"RateLimit": '"a;r=0;t=60, "b";r=0;t=6'}, 0),
        (429, {"RateLimit": '"spike";r=0;t=5', "Retry-After": "3"}, 5),
        (429, {"RateLimit": '"spike";r=0;t=2', "Retry-After": "3"}, 3),
    ],
)
def test_pause_of_a_response(status: int, headers: dict[str, str], seconds: float) -> None:
    assert max(0, pause_of(status, httpx.Headers(headers))) == seconds


@pytest.mark.parametrize(
    "value",
    ["", "soon", "-7", "1.5", "7 s", "9" * 5_000, "٧", "Sat, 99 Nov 2026 99:99:99 GMT", ";" * 9_000,
     "Sat, 28 Nov 99999999999999 12:00:00 GMT", '"', "r=0;t=", "r=0;t=-5", "r=0;t=x", "\0"],
)  # fmt: skip
def test_values_that_make_no_sense_ask_for_nothing(value: str) -> None:
    headers = httpx.Headers([(b"Retry-After", value.encode()), (b"RateLimit", value.encode())])
    assert pause_of(429, headers) == 0


@pytest.mark.parametrize(
    "value", ['"' + r"\"" * 4_090, '"' * 8_191, '"' + "\\" * 8_190, ",;=" * 2_730, "=;" * 9_000]
)
def test_no_header_costs_the_event_loop_more_than_milliseconds(value: str) -> None:
    took = []
    for _ in range(3):
        begin = time.process_time()
        assert pause_of(200, {"RateLimit": value}) == 0
        took.append(time.process_time() - begin)
    assert min(took) < 0.02


def test_dates_are_by_the_local_clock_if_the_response_has_none() -> None:
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 55 < pause_of(429, httpx.Headers({"Retry-After": until})) <= 60


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(pauses, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_pauses_are_bounded_and_never_shortened(clock: list[float]) -> None:
    kept = Pauses(60)
    kept.obey("/a", 429, {"Retry-After": "999999999"})
    assert (kept.left("/a"), kept.left("/b")) == (60, 0)
    clock[0] += 50
    kept.obey("/a", 429, {"Retry-After": "1"})
    kept.obey("/a", 200, {})
    assert kept.left("/a") == 10
    clock[0] += 50
    assert kept.left("/a") == 0
    Pauses(0).obey("/a", 429, {"Retry-After": "1"})


def test_pauses_that_are_over_are_forgotten(clock: list[float]) -> None:
    kept = Pauses(60)
    for number in range(3_000):
        kept.obey(f"/{number}", 429, {"Retry-After": "1"})
        clock[0] += 1
    assert len(kept._ends) <= 1_024
