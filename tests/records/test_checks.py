"""Checks of records: values must have the declared types, and numbers must be in bounds."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from ratectl.errors import BundleError
from ratectl.kill_switch.switches import Switch, Switches
from ratectl.records import (
    MAX_GENERATION,
    AgentRecord,
    Beat,
    BesideReport,
    Candidate,
    Controller,
    Environment,
    Head,
    HistoryEntry,
    LimitReport,
    Manifest,
    MemberRecord,
    Obeyed,
    OwnerHint,
    Record,
    RolloutRecord,
    RosterRecord,
    UsageRecord,
    now_ms,
    sequence_problem,
)

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = "2026-11-27T12:00:00.000Z"
YEAR_MS = 31_557_600_000

HEAD = Head(
    sequence=5,
    generation=2,
    bundle="b" * 64,
    latest=3,
    candidate=Candidate(generation=3, bundle="c" * 64, rollout="r", percent=5.0),
)
ENTRY = HistoryEntry(
    generation=2, bundle="b" * 64, origins=None, action="apply", author="Ada", time=NOW,
    message="", commit=None, dirty=None, summary={"scopes": 1}, request="r",
)  # fmt: skip
ROLLOUT = RolloutRecord(
    id="r", generation=3, base=2, mode="enforce", stages=[5.0, 100.0], bake_seconds=60.0,
    min_requests=100, band=5.0, author="Ada", started=NOW, updated=NOW,
)  # fmt: skip
AGENT = AgentRecord(
    id="a", generation=2, state="serving", error=None, rejected=None, applied=NOW, swap_ms=1.0,
    started=NOW, reported=NOW, host="h", pid=1, version="1", engine="c", sequence=5,
    panic=[Obeyed(scope="/", mode="open", source="store")],
)  # fmt: skip
SWITCHES = Switches(7, (Switch(scope="/", mode="open", reason="r", author="a", time=NOW),))
CONTROLLER = Controller(rollout="r", host="h", pid=1, since=NOW)
ENVIRONMENT = Environment(id="f" * 32, created=NOW)
BEAT = Beat(id="a", generation=2, since=NOW, reported=NOW, requests=5, refused=1)
LIMIT = LimitReport(
    scope="/", limit="spike", shadow=False, most=10, allowed=5, refused=1, never=0,
    shadow_refused=0, keys=1, recent_allowed=5, recent_refused=1, peak=0.5,
    top_refused=[("acme", 1)], overrides=["gold"], rates=[1.0, 0.5, 0.0], refused_rates=[0.0],
    trend=[(5, 1, 0.5), (0, 0, None)], busiest=[("acme", 6, 0, 0.5)],
)  # fmt: skip
BESIDE = BesideReport(
    rollout="r", generation=3, requests=5, newly_refused=1, newly_allowed=0,
    limits=[("/", "spike", 1, 0)],
)  # fmt: skip
USAGE = UsageRecord(
    id="a", generation=2, since=NOW, reported=NOW, recent_seconds=60.0, limits=[LIMIT],
    omitted=0, no_policy=0, errors=0, buckets=1, overflowed=0, beside=BESIDE,
)  # fmt: skip
MANIFEST = Manifest(size=10, chunks=1, wanted=NOW)
MEMBER = MemberRecord(share=250_000, renewed=7, address="10.0.0.1:7000", host="box")
OWNER = OwnerHint(member="m-1", owner="own.1", address="10.0.0.1:7000")
ROSTER = RosterRecord(unowned=5)

GOOD: dict[str, Any] = {
    "head": HEAD,
    "entry": ENTRY,
    "rollout": ROLLOUT,
    "agent": AGENT,
    "switches": SWITCHES,
    "controller": CONTROLLER,
    "environment": ENVIRONMENT,
    "manifest": MANIFEST,
    "beat": BEAT,
    "usage": USAGE,
    "member": MEMBER,
    "owner": OWNER,
    "roster": ROSTER,
}

NOT_A_NUMBER: list[Any] = [True, 2.0, "2", None, [2], -1, 0, 2**53, 10**400]
"""What stands where a sequence or the number of a generation is expected."""
NO_SHARE: list[Any] = [0, -5.0, 100.01, float("nan"), float("inf"), "5", True, None]
NO_COUNT: list[Any] = [True, 2.0, "2", None, [2], -1, 2**63, 10**400]
NO_SHARE_OF_ALL: list[Any] = [*NO_COUNT, 1_000_001]
NO_NAME: list[Any] = ["", "a b", "a/b", "a\n", "é", "a" * 129]
NO_ADDRESS: list[Any] = ["a" * 256, "a\n", "\x00", "\u202e"]
NO_TEXT: list[Any] = [1, None, True, ["x"], {}, "\ud800"]

BAD: list[tuple[str, str, Any]] = [
    *(("head", path, bad) for path in ("sequence", "live.generation") for bad in NOT_A_NUMBER),
    *(("head", "latest", bad) for bad in NOT_A_NUMBER if bad not in (None, -1, 0)),
    *(("head", "candidate.generation", bad) for bad in NOT_A_NUMBER),
    *(("head", "candidate.percent", bad) for bad in NO_SHARE),
    *(("head", path, bad) for path in ("live.bundle", "candidate.rollout") for bad in NO_TEXT),
    *(("head", "signature", bad) for bad in NO_TEXT if bad is not None),
    ("head", "candidate.mode", "off"), ("head", "candidate", []), ("head", "live", None),
    ("head", "live.generation", MAX_GENERATION + 1),
    *(("switches", "sequence", bad) for bad in NOT_A_NUMBER),
    *(("switches", f"switches.0.{name}", bad) for name in ("scope", "reason") for bad in NO_TEXT),
    *(("agent", name, bad)
      for name in ("sequence", "panic_sequence") for bad in NOT_A_NUMBER if bad != 0),
    ("agent", "generation", "2"), ("agent", "errors", True),
    ("entry", "generation", "2"), ("entry", "generation", True), ("entry", "author", "\ud800"),
    ("entry", "owners", 7), ("entry", "summary", {"scopes": "1"}), ("entry", "passed", []),
    *(("rollout", "stages", bad) for bad in ([], [0], [101.0], ["5"], 5, None)),
    ("rollout", "bake_seconds", float("inf")), ("rollout", "bake_seconds", -1),
    ("rollout", "min_requests", -1), ("rollout", "min_requests", 1.5), ("rollout", "stage", -1),
    ("rollout", "band", "none"), ("rollout", "reason", "\ud800"),
    ("controller", "rollout", 1), ("controller", "pid", "1"),
    *(("environment", "id", bad) for bad in [*NO_TEXT, "", "a b", "a\nb", "é"]),
    *(("usage", f"limits.0.{name}", bad)
      for name in (
          "most", "allowed", "refused", "never", "shadow_refused", "waited", "keys",
          "recent_allowed", "recent_refused",
      )
      for bad in NO_COUNT),
    *(("usage", name, bad)
      for name in ("omitted", "no_policy", "errors", "buckets", "overflowed", "limits")
      for bad in NO_COUNT),
    *(("usage", "limits.0.peak", bad) for bad in (True, "1", -0.1, 1.1, float("nan"), [1])),
    *(("usage", f"limits.0.{name}", bad) for name in ("scope", "limit") for bad in NO_TEXT),
    *(("usage", f"limits.0.{name}", bad) for name in ("shadow", "budget") for bad in (0, "", None)),
    *(("usage", "limits.0.overrides", bad) for bad in (5, "gold", [5], [["gold"]], None)),
    *(("usage", "limits.0.top_refused", bad)
      for bad in (5, "ab", [5], ["ab"], [["a"]], [["a", "1"]], [[1, 1]], [["a", 1, 1]], None)),
    ("usage", "recent_seconds", -1.0), ("usage", "recent_seconds", "60"),
    ("usage", "recent_seconds", float("inf")), ("usage", "beside", 5), ("usage", "beside", []),
    *(("usage", f"beside.{name}", bad)
      for name in ("generation", "requests", "newly_refused", "newly_allowed") for bad in NO_COUNT),
    *(("usage", "beside.limits", bad)
      for bad in (5, ["/"], [["/", "spike", 1]], [["/", "spike", "1", 0]], [[1, "spike", 1, 0]])),
    *(("usage", "beside.rollout", bad) for bad in NO_TEXT),
    *(("beat", name, bad) for name in ("requests", "refused") for bad in NO_COUNT),
    *(("agent", f"panic.0.{name}", bad) for name in ("scope", "mode", "source") for bad in NO_TEXT),
    ("manifest", "size", "10"), ("manifest", "size", True), ("manifest", "chunks", 1.0),
    *(("member", "share", bad) for bad in NO_SHARE_OF_ALL),
    *(("member", "renewed", bad) for bad in NO_COUNT),
    *(("member", "dedicated", bad) for bad in ("yes", 1, None, True)),  # it has a share
    *(("member", name, bad) for name in ("address", "host") for bad in [*NO_TEXT, *NO_ADDRESS]),
    *(("roster", "unowned", bad) for bad in NO_SHARE_OF_ALL),
    *(("owner", name, bad) for name in ("member", "owner") for bad in [*NO_TEXT, *NO_NAME]),
    *(("owner", "address", bad) for bad in [*NO_TEXT, *NO_ADDRESS]),
    ("member", "format", 2), ("owner", "format", 2), ("roster", "format", 0),
    *((kind, "more", "x" * 5_000) for kind in ("member", "owner", "roster")),
    ("manifest", "wanted", "later"), ("manifest", "wanted", "2026-11-27T12:00:00"),
]  # fmt: skip


def changed(record: Any, path: str, value: Any) -> bytes:
    """Return the bytes of a record with another value at a path."""
    compressed = isinstance(record, UsageRecord)
    data = json.loads(Record.encode(record) if compressed else record.encode())
    *steps, name = path.split(".")
    place = data
    for step in steps:
        place = place[int(step) if isinstance(place, list) else step]
    place[name] = value
    return json.dumps(data).encode()


@pytest.mark.parametrize(("kind", "path", "value"), BAD)
def test_value_of_a_wrong_type_or_out_of_bounds_is_refused(
    kind: str, path: str, value: Any
) -> None:
    with pytest.raises(BundleError):
        type(GOOD[kind]).decode(changed(GOOD[kind], path, value))


@pytest.mark.parametrize("kind", GOOD)
def test_record_survives_encoding(kind: str) -> None:
    assert type(GOOD[kind]).decode(GOOD[kind].encode()) == GOOD[kind]


def _days(days: float) -> int:
    return now_ms() + int(days * 86_400_000)


READERS: dict[str, Callable[[int], object]] = {
    "head": lambda number: Head.decode(changed(HEAD, "sequence", number)),
    "switches": lambda number: Switches.decode(changed(SWITCHES, "sequence", number)),
    "agent": lambda number: AgentRecord.decode(changed(AGENT, "panic_sequence", number)),
}


def test_reason_does_not_depend_on_the_time() -> None:
    """An agent logs each new reason, so a reason that contains the time would fill the log."""
    before = now_ms()
    reason = sequence_problem(2**53)
    while now_ms() == before:
        pass
    assert sequence_problem(2**53) == reason


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("days", [1, 366, 5 * 366])
def test_record_of_a_writer_whose_clock_is_years_ahead_is_accepted(reader: str, days: int) -> None:
    READERS[reader](_days(days))
    with pytest.raises(BundleError, match="10 years from now"):
        READERS[reader](_days(11 * 366))


@pytest.mark.parametrize("reader", READERS)
def test_reader_whose_clock_is_in_1970_accepts_records_of_today(
    reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = now_ms()
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000)
    READERS[reader](written)
    READERS[reader](written + 5 * YEAR_MS)


def test_refusal_of_a_head_has_advice() -> None:
    with pytest.raises(BundleError, match="Nobody published that: apply the policies again"):
        Head.decode(changed(HEAD, "sequence", 2**53))
