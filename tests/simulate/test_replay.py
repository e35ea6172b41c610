"""Replays with the production engine, in the time of the log."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from logs import ONE, START, calls, generated, log, traffic

from engine.engines import each_engine
from ratectl.compiler.activation import activate_tree
from ratectl.policy.language.instants import Instant
from ratectl.policy.language.model import Exemption, with_exceptions
from ratectl.policy.read import load_valid
from ratectl.simulate import LimitCount, Traffic, read_map, replay
from ratectl.simulate.timeline import MAX_BUCKETS, Timeline
from support import policies

if TYPE_CHECKING:
    from engine.engines import MakeEngine

NS = 10**9
ROOT = Path(__file__).parents[2]
TIGHT = policies(
    **{"/web": {"limits": {"spike": {"rate": "1/s", "burst": 3, "per": "client"}}}},
    **{"/web/files": {"limits": {"all": {"rate": "1/s", "burst": 1, "per": [], "mode": "shadow"}}}},
)
LOOSE = policies(**{"/web": {"limits": {"spike": {"rate": "1/s", "burst": 4, "per": "client"}}}})


def test_time_is_that_of_the_log() -> None:
    """Three at once, one token per second; a day later the bucket is full again."""
    data = log(0, 0, 0, 0, 1, 1, 86_400, 86_400, 86_400, 86_400)
    report = replay(traffic(data), [("new", TIGHT)])
    (side,) = report.sides
    assert (report.requests, side.refused) == (10, 3)
    assert (report.first_ns, report.last_ns) == (START * NS, (START + 86_400) * NS)
    assert side.limits == (
        LimitCount("/web", "spike", False, 7, 3, 0, 0, (("198.51.100.7", 3),), per=("client",)),
    )


def test_exceptions_begin_and_end_in_the_time_of_the_log() -> None:
    """The rows are those of the limit: an exception for all requests keeps the buckets."""
    raised = Exemption.model_validate(
        {
            "scope": "/web",
            "reason": "why",
            "from": Instant((START + 10) * NS),
            "until": Instant((START + 20) * NS),
            "limits": {"spike": {"rate": "0/s"}},
        }
    )
    tree = with_exceptions(TIGHT, [(raised, None)])
    (side,) = replay(traffic(log(0, 9, 10, 19, 20, 25)), [("new", tree)]).sides
    (spike,) = side.limits
    assert (spike.admitted, spike.refused, spike.overrides) == (4, 2, ())


@pytest.mark.parametrize("compared", [False, True])
def test_each_request_ends_at_once(compared: bool) -> None:
    """A log has no durations: slots are released at once."""
    documents = {"algorithm": "concurrency", "max": 1}
    slots = policies(**{"/web": {"limits": {"slots": documents}}})
    none = policies(**{"/web": {"limits": {"slots": {**documents, "max": 0}}}})
    sides = [("new", slots), ("old", none)][: 1 + compared]
    report = replay(traffic(log(0, 0, 0, 1, 2)), sides)
    assert [side.refused for side in report.sides] == [0, 5][: 1 + compared]


@each_engine
def test_decisions_are_those_of_the_engine(make: MakeEngine) -> None:
    """The decisions equal those of an engine that is called directly."""
    data = generated(3000, rate=40)
    engine = make(lambda: 0)
    engine.swap(activate_tree(TIGHT, 1), START * NS)
    expected: Counter[str] = Counter()
    for at, scope, attributes, cost in calls(traffic(data)):
        expected[engine.check(scope, attributes, cost, now=at).reason] += 1
    (side,) = replay(traffic(data), [("new", TIGHT)]).sides
    assert side.refused == expected["limited"] > 10


def test_scopes_count_shadow_and_uncovered_requests() -> None:
    made = ONE.replace(
        "scope: /web\n",
        "scope: {field: path, rules: [{match: /f/*, scope: /web/files/deep}, "
        "{match: /o, scope: /other}, {match: /, scope: /web}]}\n",
    )
    data = log(0, 1) + log(2, 2, 2, 2, 2, path="/f/a") + log(9, path="/o") + log(9, path="/x")
    report = replay(traffic(data, made), [("new", TIGHT)])
    (side,) = report.sides
    rows = {row.scope: (row.requests, row.refused, row.shadow) for row in side.scopes}
    assert rows == {"/web": (2, 0, 0), "/web/files": (5, 2, 2), None: (1, 0, 0)}
    assert (side.no_policy, side.refused, side.shadow) == (1, 2, 2)
    assert (report.requests, report.reading.unmapped, report.reading.malformed) == (8, 1, 0)
    shadow = next(each for each in side.limits if each.limit == "all")
    assert (shadow.shadow, shadow.admitted, shadow.refused, shadow.shadow_refused) == (
        True,
        1,
        0,
        4,
    )


def test_two_sets_of_policies_over_one_pass() -> None:
    data = log(0, 0, 0, 0, 0, 100)
    report = replay(traffic(data), [("new", TIGHT), ("old", LOOSE)])
    assert [side.refused for side in report.sides] == [2, 1]
    assert [(one.scope, one.newly_refused, one.newly_admitted) for one in report.changes] == [
        ("/web", 1, 0)
    ]
    back = replay(traffic(data), [("new", LOOSE), ("old", TIGHT)])
    assert [(one.newly_refused, one.newly_admitted) for one in back.changes] == [(0, 1)]
    same = replay(traffic(data), [("new", TIGHT), ("old", TIGHT)])
    assert same.changes == ()
    assert same.sides[0].limits == same.sides[1].limits
    assert [each.refused for each in same.timeline if each.requests] == [(2, 2), (0, 0)]


def test_one_pass_over_two_sets_equals_two_replays() -> None:
    data = generated(2000, rate=40)
    both = replay(traffic(data), [("new", TIGHT), ("old", LOOSE)])
    alone = [
        replay(traffic(data), [(name, tree)]) for name, tree in (("new", TIGHT), ("old", LOOSE))
    ]
    assert both.sides == tuple(each.sides[0] for each in alone)


def test_an_empty_log() -> None:
    report = replay(traffic(b"rubbish\n\n"), [("new", TIGHT)])
    assert (report.requests, report.first_ns, report.timeline) == (0, None, ())
    assert (report.reading.lines, report.reading.malformed) == (1, 1)


def test_the_timeline_adds_up_and_stays_bounded() -> None:
    spans = (0, 5, 119, 120, 3000, 86_400, 10**7)
    for span in spans:
        report = replay(traffic(log(0, 0, 0, 0, span / 2, span)), [("new", TIGHT)])
        assert sum(each.requests for each in report.timeline) == 6
        assert sum(each.refused[0] for each in report.timeline) == report.sides[0].refused
        assert len(report.timeline) <= MAX_BUCKETS
        assert report.start_ns <= START * NS < report.start_ns + report.width_ns
        assert report.width_ns * len(report.timeline) > span * NS


def test_buckets_keep_their_requests_when_they_widen() -> None:
    timeline = Timeline(1)
    for second in range(700):
        _, (bucket,) = timeline.bucket(second * NS)
        bucket["ok"] += 1
    assert timeline.width_ns == 10 * NS
    assert [each[0]["ok"] for each in timeline.buckets()] == [10] * 70


_MEASURE = """
import sys
from itertools import islice
from ratectl.policy.language.model import Policy, PolicyTree
from ratectl.simulate import Traffic, read_map, replay

MAP = b"apiVersion: ratectl/v1\\nkind: TrafficMap\\nformat: combined\\nscope: /\\n" \\
      b"attributes: {client: client}\\n"
LINE = '198.51.100.%d - - [05/Jan/2026:%02d:%02d:%02d +0000] "GET /%d HTTP/1.1" 200 5 "-" "Hare"\\n'

class Lines:
    def __init__(self, count):
        self.lines = (
            LINE % (n % 20, n // 72000 % 24, n // 1200 % 60, n // 20 % 60, n) for n in range(count)
        )
    def read(self, size, /):
        return "".join(islice(self.lines, 2000)).encode()

tree = PolicyTree({"/": Policy.model_validate(
    {"scope": "/", "limits": {"spike": {"rate": "1/s", "burst": 5, "per": "client"}}})})
traffic = Traffic(Lines(int(sys.argv[1])), read_map(MAP, "map"))
report = replay(traffic, [("new", tree)])
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(report.requests, report.reading.malformed, peak)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's VmHWM")
def test_memory_does_not_grow_with_the_log() -> None:
    """300,000 lines of 20 clients, each with its own path, take no more memory than 60,000."""
    peaks = []
    for count in (60_000, 300_000):
        command = [sys.executable, "-c", _MEASURE, str(count)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        requests, malformed, peak = map(int, done.stdout.split())
        assert (requests, malformed) == (count, 0)
        peaks.append(peak)
    assert peaks[1] < peaks[0] + 6 * 1024
    assert peaks[1] < 150 * 1024


@pytest.mark.reallog
def test_a_real_log_through_the_example_policies(real_log: Path) -> None:
    """Nearly half of its lines are out of order, one is cut off; one crawler is refused."""
    made = read_map((ROOT / "docs" / "examples" / "web.map.yaml").read_bytes(), "web.map.yaml")
    with real_log.open("rb") as file:
        replayed = Traffic(file, made)
        report = replay(replayed, [("policies", load_valid([ROOT / "policies"]).tree)])
    assert (report.requests, report.reading.lines) == (9999, 10_000)
    assert (report.reading.malformed, report.reading.unmapped, report.reading.late) == (1, 0, 0)
    assert {row.scope: row.requests for row in report.sides[0].scopes} == {
        "/web": 9452,
        "/web/files": 547,
    }
    assert report.sides[0].refused == 2
    assert [row.limit for row in report.sides[0].limits if row.refused] == ["crawl"]
