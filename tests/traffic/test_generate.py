"""Generator: the same requests everywhere, with the statistics of the log."""

from __future__ import annotations

import doctest
import hashlib
import io
import os
import subprocess
import sys
from itertools import islice
from typing import TYPE_CHECKING

import pytest
from traffic_shape import measure

import ratectl.traffic
import ratectl.traffic.generator as module
from ratectl.traffic import AccessLog, Request, Shape, format_line, generate, ordered, write_log
from ratectl.traffic.request import NS

if TYPE_CHECKING:
    from pathlib import Path

GOLDEN = "86a69ce2f717ac6322d03a08ca43b6fca90ef7742c2894a5df95b72421b66c71"
"""Hash of 20,000 requests of seed 7: if it changes, recorded figures and the demo change too."""

MODEL = {
    # figure: (value of the log, tolerance for a generated stream)
    "clients": (1753, 300),
    "top 10 clients' share": (0.204, 0.04),
    "busiest client's share": (0.048, 0.03),
    "zipf slope of clients 1-300": (-0.816, 0.12),
    "clients seen once": (0.388, 0.14),
    "within 60 s of the client's last": (0.695, 0.05),
    "mean visit": (3.28, 0.7),
    "visits of one request": (0.527, 0.12),
    "share in visits of 30 and more": (0.16, 0.08),
    "top 10 paths' share": (0.456, 0.12),
    "zipf slope of paths 1-100": (-1.046, 0.2),
    "busiest agent's share": (0.104, 0.06),
    "status 200": (0.913, 0.015),
    "status 304": (0.0445, 0.01),
    "status 404": (0.0213, 0.008),
    "steadiness of the 10 busiest": (0.577, 0.12),
}


def digest(requests: list[Request]) -> str:
    return hashlib.sha256(repr([tuple(each) for each in requests]).encode()).hexdigest()


def test_the_same_seed_gives_the_same_requests_on_every_machine_and_version() -> None:
    """The sequence is guaranteed: its hash must not change."""
    assert digest(list(islice(generate(7), 20_000))) == GOLDEN


def test_nothing_depends_on_the_order_of_hashes() -> None:
    """Another process with another hash seed writes the same bytes."""
    code = (
        "import hashlib; from itertools import islice; from ratectl.traffic import generate;"
        "print(hashlib.sha256(repr([tuple(r) for r in islice(generate(7), 20000)])"
        ".encode()).hexdigest())"
    )
    env = {**os.environ, "PYTHONHASHSEED": "12345"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == GOLDEN


def test_seeds_differ() -> None:
    """Another seed gives another stream."""
    assert list(islice(generate(1), 50)) != list(islice(generate(2), 50))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_generated_shape_is_that_of_the_log(seed: int) -> None:
    """Every figure is within its tolerance, for any seed."""
    found = measure(list(islice(generate(seed), 10_000)))
    assert found.keys() == MODEL.keys()
    off = {k: found[k] for k, (want, most) in MODEL.items() if abs(found[k] - want) > most}
    assert not off


@pytest.mark.reallog
def test_the_recorded_figures_are_those_of_the_log(real_log: Path) -> None:
    """The values above are those of the log."""
    found = measure(list(ordered(AccessLog(real_log), 60 * NS)))
    assert {k: round(found[k], 2) for k in MODEL} == {
        k: pytest.approx(want, abs=0.011) for k, (want, _) in MODEL.items()
    }


def test_the_figures_in_the_docstring_are_current() -> None:
    """This is the second column of the table in the docstring of the module, for seed 1."""
    found = measure(list(islice(generate(1), 10_000)))
    lines = (module.__doc__ or "").splitlines()
    for name, value in found.items():
        line = next(line for line in lines if line.startswith(f"{name:34}  "))
        assert line.split()[-1] == f"{value:.4g}", name


def test_time_runs_forward_at_the_given_rate() -> None:
    """Requests are in time order; over two days the rate is within 5 %."""
    requests = []
    for request in generate(5, Shape(rate=0.5), start_ns=0):
        if request.at_ns >= 2 * 86_400 * NS:
            break
        requests.append(request)
    times = [request.at_ns for request in requests]
    assert times == sorted(times)
    assert len(requests) == pytest.approx(0.5 * 2 * 86_400, rel=0.05)


def test_the_daily_rhythm_can_be_turned_off() -> None:
    """This compares the busiest six hours with the quietest, with and without rhythm."""

    def contrast(rhythm: float) -> float:
        hours = [0] * 24
        for request in generate(3, Shape(rate=0.5, rhythm=rhythm), start_ns=0):
            if request.at_ns >= 2 * 86_400 * NS:
                break
            hours[request.at_ns // (3600 * NS) % 24] += 1
        return sum(hours[9:15]) / (sum(hours[21:]) + sum(hours[:3]))

    assert contrast(0.9) > 2
    assert 0.85 < contrast(0.0) < 1.15


@pytest.mark.parametrize(
    "wrong",
    [{"rate": 0}, {"rate": 1e9}, {"readers": 1.2}, {"audience": 0}, {"robots": 0}, {"rhythm": 2}],
)
def test_impossible_shapes_are_refused(wrong: dict[str, float]) -> None:
    """A shape with impossible parameters raises ValueError."""
    with pytest.raises(ValueError, match=r"rate|readers|audience"):
        Shape(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [Shape(readers=1, feeds=0), Shape(readers=0, feeds=1)])
def test_one_kind_of_visitor_alone(shape: Shape) -> None:
    """There may be only readers, or only feed readers."""
    agents = {r.attributes.get("agent", "") for r in islice(generate(1, shape), 300)}
    assert all("Snail" in agent for agent in agents) == (shape.feeds == 1)


def test_a_written_log_reads_back(tmp_path: Path) -> None:
    """The requests are the same, with times in whole seconds."""
    requests = list(islice(generate(4), 2_000))
    file = io.StringIO()
    assert write_log(requests, file) == 2_000
    path = tmp_path / "access.log"
    path.write_text(file.getvalue(), encoding="utf-8")
    log = AccessLog(path)
    assert list(log) == [r._replace(at_ns=r.at_ns // NS * NS) for r in requests]
    assert log.report.malformed == 0


def test_a_line_has_the_format_of_apache() -> None:
    """The line has exactly the combined format."""
    request = Request(
        1_431_857_103_000_000_000,
        {
            "client": "2001:db8::1",
            "method": "GET",
            "path": "/a",
            "status": "200",
            "agent": 'x"\\\n',
        },
        512,
    )
    assert format_line(request) == (
        '2001:db8::1 - - [17/May/2015:10:05:03 +0000] "GET /a HTTP/1.1" 200 512 "-" "x\\"\\\\\\x0a"'
    )


def test_the_example_of_the_package_runs() -> None:
    """This runs the docstring."""
    assert doctest.testmod(ratectl.traffic).failed == 0
