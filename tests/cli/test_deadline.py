"""``--timeout``: every command ends in time."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from typing import TYPE_CHECKING, NoReturn

import pytest
from cli_support import TREE, report_agent

from etcd_server import EtcdServer
from ratectl.errors import RatectlError, StoreError
from ratectl.rollout.presence import Presence
from ratectl_cli.errors import TimedOut
from ratectl_cli.framework import deadline as deadlines
from ratectl_cli.framework.deadline import Deadline, tidy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import FrameType

    from cli_support import Cli

EVER = 30.0
"""Seconds that nobody waits for: what is interrupted in vain takes as long, and fails."""


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No timer and no handler outlive a command."""
    before = signal.getsignal(signal.SIGALRM)
    yield
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is before


def took(seconds: float, body: Callable[[], object]) -> float:
    """Return the duration of a body that never ends by itself."""
    started = time.monotonic()
    with pytest.raises(TimedOut):
        Deadline(seconds).within(body)
    return time.monotonic() - started


# -- bodies


def test_a_result_in_time_is_returned() -> None:
    assert Deadline(EVER).within(lambda: "done") == "done"
    assert Deadline(None).within(lambda: "done") == "done"


def test_an_error_in_time_is_raised_unchanged() -> None:
    def fail() -> NoReturn:
        raise StoreError("gone")

    with pytest.raises(StoreError):
        Deadline(EVER).within(fail)


@pytest.mark.parametrize("kind", [Exception, RatectlError])
def test_handlers_of_exceptions_do_not_catch_the_end_of_the_time(kind: type[Exception]) -> None:
    def body() -> None:
        with contextlib.suppress(kind):
            time.sleep(EVER)
        time.sleep(EVER)

    assert took(0.1, body) < 1


def test_code_that_catches_base_exceptions_is_interrupted_again() -> None:
    def body() -> None:
        with contextlib.suppress(BaseException):
            time.sleep(EVER)
        time.sleep(EVER)

    assert 1 < took(0.1, body) < 3


def cleaning(seconds: float, done: list[str]) -> Callable[[], None]:
    """A body that never ends by itself, and cleans up for some time."""

    def body() -> None:
        try:
            time.sleep(EVER)
        finally:
            time.sleep(seconds)
            done.append("clean")

    return body


def test_a_clean_up_that_hangs_is_cut_off() -> None:
    assert 1 < took(0.1, cleaning(EVER, [])) < 3


def test_a_clean_up_of_half_a_second_completes() -> None:
    done: list[str] = []
    assert took(0.1, cleaning(0.5, done)) < 1.5
    assert done == ["clean"]


def test_tidy_functions_are_interrupted_once() -> None:
    done: list[str] = []

    @tidy
    def write() -> None:
        cleaning(1.5, done)()

    assert took(0.1, write) < 3
    assert done == ["clean"]


def test_an_error_caused_by_the_end_of_the_time_is_reported_as_timeout() -> None:
    def body() -> None:
        try:
            time.sleep(EVER)
        finally:
            raise StoreError("cannot say goodbye")

    assert took(0.1, body) < 1


def test_optional_work_is_skipped_when_the_time_is_up() -> None:
    deadline = Deadline(0.1)

    def body() -> str:
        with deadline.optional():
            time.sleep(EVER)
        return "all else is done"

    assert deadline.within(body) == "all else is done"


class Ringing:
    """Sends the signal at one line of the code of deadlines."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.lines = 0

    def __call__(self, frame: FrameType, event: str, _: object) -> Ringing | None:
        if frame.f_code.co_filename != deadlines.__file__:
            return None
        if event == "line":
            self.lines += 1
            if self.lines == self.at:
                handler = signal.getsignal(signal.SIGALRM)
                assert callable(handler)
                handler(signal.SIGALRM, frame)
        return self


def outcome_of(body: Callable[[], str], ringing: Ringing) -> str:
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    traced = sys.gettrace()
    sys.settrace(ringing)
    try:
        return Deadline(EVER).within(body)
    except RatectlError as error:
        return type(error).__name__
    finally:
        sys.settrace(traced)
        signal.signal(signal.SIGALRM, before)


def well() -> str:
    return "done"


def badly() -> NoReturn:
    raise StoreError("gone")


def late() -> NoReturn:
    signal.raise_signal(signal.SIGALRM)
    raise AssertionError("the time was up")


@pytest.mark.parametrize(
    ("body", "outcomes"),
    [
        (well, {"done", "TimedOut"}),
        (badly, {"StoreError", "TimedOut"}),
        (late, {"TimedOut"}),
    ],
)
def test_the_signal_is_handled_at_every_line(
    body: Callable[[], str], outcomes: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``late``: a signal was handled before."""
    monkeypatch.setattr(deadlines, "_SOON", EVER)
    known, at, ringing = set(), 0, Ringing(0)
    while ringing.lines >= at:
        at += 1
        ringing = Ringing(at)
        known.add(outcome_of(body, ringing))
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert at > 10
    assert known == outcomes


# -- commands


def forever(*_: object, **__: object) -> NoReturn:
    time.sleep(EVER)
    raise AssertionError("nobody waited for this")


def test_doctor_does_not_report_its_own_timeout_as_a_finding(
    cli: Cli, published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Doctor turns other failures into findings."""
    for slow in ("ratectl.health.examination.activate", "ratectl.compiler.activation._self_check"):
        with monkeypatch.context() as patch:
            patch.setattr(slow, forever)
            run = cli("doctor", "--timeout", "0.3")
        assert (run.code, run.out) == (124, "")
        assert run.err == "error: not done within 0.3 s\n"


def test_a_timeout_before_any_change_has_no_hint(
    cli: Cli, published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words in (
        ("history",),
        ("plan", "policies"),
        ("apply", "policies", "--yes"),
        ("rollback", "--yes"),
        ("panic", "on", "--scope", "/", "--reason", "x", "--wait"),
    ):
        with monkeypatch.context() as patch:
            for slow in (
                "publishing.rollback.read_base",
                "publishing.propose.publishing_base",
                "kill_switch.turning.read_base",
                "history.trees.read_base",
                "history.generations.read_live",
                "history.generations.read_base",
            ):
                patch.setattr(f"ratectl.{slow}", forever)
            run = cli(*words, "--timeout", "0.2")
        assert (run.code, run.err) == (124, "error: not done within 0.2 s\n"), words
    assert "no switch is on" in cli("panic").out


@pytest.mark.parametrize(
    ("slow", "words", "tells"),
    [
        ("ratectl.publishing._publish.publish", ("apply", "policies"), "ratectl history"),
        ("ratectl.publishing._publish.rollback", ("rollback", "--to", "1"), "ratectl history"),
        (
            "ratectl.rollout._start.commit",
            ("apply", "policies", "--shadow"),
            "ratectl rollout status",
        ),
        ("ratectl.kill_switch.turning.change_switches", ("panic", "off"), "ratectl panic"),
        (
            "ratectl_cli.prompts.kill_switch.change_switch_file",
            ("panic", "off", "--local", "--state-dir", "/nowhere"),
            "ratectl panic --local --state-dir /nowhere",
        ),
    ],
    ids=str,
)
def test_a_timeout_after_a_possible_change_names_the_command_that_shows_it(
    cli: Cli,
    tree: Path,
    published: str,
    monkeypatch: pytest.MonkeyPatch,
    slow: str,
    words: tuple[str, ...],
    tells: str,
) -> None:
    (tree / "all.yaml").write_text("apiVersion: ratectl/v1\nscope: /\nlimits: {x: {rate: 2/s}}\n")
    yes = () if words[0] == "panic" else ("--yes",)
    removals = ("--allow-removals", "fewer")
    if words[0] == "rollback":
        assert cli("apply", "policies", "--yes", *removals).code == 0
    if words[0] == "apply":
        words = (*words, *removals)
    monkeypatch.setattr(slow, forever)
    run = cli(*words, *yes, "-q", "--timeout", "2")
    assert run.code == 124
    hint = f"hint: the change may have been made: see `{tells}`"
    assert run.err.endswith(f"error: not done within 2 s\n  {hint}\n")


@pytest.mark.parametrize(
    ("slow", "step"), [("abort_rollout", "abort"), ("promote_candidate", "promote")]
)
def test_a_timeout_in_a_rollout_step_names_the_status_command(
    cli: Cli, tree: Path, published: str, monkeypatch: pytest.MonkeyPatch, slow: str, step: str
) -> None:
    (tree / "all.yaml").write_text(TREE.replace("50/s", "49/s"))
    assert cli("apply", "policies", "--yes", "--shadow").code == 0
    monkeypatch.setattr(f"ratectl_cli.prompts.rollouts.{slow}", forever)
    yes = ("--yes",) if step == "promote" else ()
    run = cli("rollout", step, *yes, "--timeout", "0.3")
    assert run.code == 124
    assert "see `ratectl rollout status`" in run.err


def test_a_slow_warning_about_a_switch_is_skipped(
    cli: Cli, published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ratectl.kill_switch.turning.tree_to_compare", forever)
    run = cli("panic", "on", "--scope", "/shop", "--reason", "x", "--timeout", "0.5")
    assert (run.code, run.err) == (0, "")


# -- a store that goes silent


@pytest.mark.etcd
def test_a_controller_whose_store_is_silent_ends_in_time(
    cli: Cli, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = EtcdServer.start()
    keep, started = Presence.keep, float("inf")

    def last(presence: Presence) -> bool:
        kept = keep(presence)
        if time.monotonic() - started > 1:  # what is asked now is still asked when time is up
            server.freeze()
        return kept

    try:
        url = server.store_url("silent")
        monkeypatch.setenv("RATECTL_STORE", url)
        monkeypatch.setattr(Presence, "keep", last)
        assert cli("apply", "policies", "--yes", "--allow-first", "a test").code == 0
        report_agent(url)
        (tree / "all.yaml").write_text(TREE.replace("50/s", "49/s"))
        started = time.monotonic()
        alone = ("--canary", "100%", "--band", "none")
        run = cli("apply", "policies", "--yes", *alone, "--timeout", "3")
        assert run.code == 124, run.err
        assert "see `ratectl rollout status`" in run.err
        assert time.monotonic() - started < 3 + 2
    finally:
        server.thaw()
        server.stop()
