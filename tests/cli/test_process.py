"""The command line in real processes: pipes, terminals, signals."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import resource
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli_support import PROGRAM, ratectl
from terminal_support import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts the program; every process ends with its test."""
    with contextlib.ExitStack() as running:

        def start(*words: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [*PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            running.enter_context(process)
            running.callback(process.kill)
            return process

        yield start


def test_help_is_fast(clean_place: Path) -> None:
    """Measured in CPU time, which depends less on other processes."""
    times = []
    for _ in range(10):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert ratectl("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
        if min(times) < 0.2:
            break
    assert min(times) < 0.25


def test_help_loads_nothing_heavy(clean_place: Path) -> None:
    code = (
        "import sys; from ratectl_cli.app import run; run(['--help']); "
        "heavy = {'pydantic', 'grpc', 'yaml', 'rich', 'google.protobuf', 'asyncio', 'sqlite3'}; "
        "sys.exit(','.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


def test_explanations_of_files_load_no_reports_of_agents(clean_place: Path) -> None:
    policy = "apiVersion: ratectl/v1\nscope: /\nlimits: {spike: {rate: 50/s}}\n"
    (clean_place / "policies.yaml").write_text(policy)
    code = (
        "import sys; from ratectl_cli.app import run; "
        "run(['explain', '/', '--policies', 'policies.yaml']); "
        "sys.exit(','.join({'ratectl.health', 'ratectl.fleet'} & set(sys.modules)) or 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert "spike" in run.stdout


def test_completion(clean_place: Path) -> None:
    def complete(*words: str) -> list[str]:
        settings = {
            **os.environ,
            "_RATECTL_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(words),
            "COMP_CWORD": str(len(words) - 1),
        }
        return ratectl(env=settings).stdout.split()

    assert complete("ratectl", "roll") == ["rollout", "rollback"]
    assert complete("ratectl", "rollback", "--t") == ["--to", "--timeout"]
    assert "run" in complete("ratectl", "agent", "")
    assert complete("ratectl", "history", "-o", "j") in (["json"], [])


def test_a_closed_pipe_is_no_error(
    clean_place: Path, published: str, tree: Path, start: Start
) -> None:
    limits = "".join(f"  limit-{n}: {{rate: {n + 1}/s}}\n" for n in range(5000))
    (tree / "many.yaml").write_text(f"apiVersion: ratectl/v1\nscope: /many\nlimits:\n{limits}")
    for words in (("explain", "/many"), ("explain", "/many", "-o", "json")):
        process = start(*words)
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait(20) == 0
    process = start("version", "-o", "json")
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(20) == 0


def test_output_that_cannot_be_written_is_an_error(clean_place: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    # Buffered as usual: what could not be written is still there when the interpreter ends.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(
            [*PROGRAM, "version"], stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            env=env,
        )  # fmt: skip
    assert run.returncode == 69
    assert "no space left" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("closing", "words", "code"),
    [
        (">&-", "plan policies", 0),
        (">&-", "plan policies -o json", 0),
        ("2>&-", "plan policies", 0),
        ("2>&-", "plan nothing-here", 65),
        ("<&-", "plan policies --out plan.json", 0),
        ("<&-", "apply - --yes", 77),
        ("<&-", "apply policies", 64),
        ("<&- >&- 2>&-", "apply policies --yes", 0),
        ("<&- >&- 2>&-", "apply nothing-here", 65),
    ],
)
def test_closed_streams_are_no_error(
    clean_place: Path, tree: Path, store_url: str, closing: str, words: str, code: int
) -> None:
    run = subprocess.run(
        ["sh", "-c", f'exec "$@" {closing}', "sh", *PROGRAM, *words.split()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == code, run.stderr
    assert "Traceback" not in run.stderr
    assert "internal" not in run.stderr
    if words == "apply policies --yes":
        assert ratectl("history", "-o", "json").stdout.count('"generation": 1') == 1
    if "plan.json" in words:
        assert Path("plan.json").read_bytes().startswith(b"{")


def test_pipes_get_plain_lines_without_cuts(
    clean_place: Path, published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = ratectl("history").stdout
    monkeypatch.setenv("COLUMNS", "20")
    assert ratectl("history").stdout == wide
    assert "\x1b" not in wide


def test_questions_are_asked_on_a_terminal(clean_place: Path, tree: Path, store_url: str) -> None:
    terminal = Terminal("apply", "policies", "-m", "by hand")
    terminal.read_until(f"Publish as generation 1 to {store_url}? [y/N]")
    terminal.type("y\n")
    assert terminal.finish() == 0
    assert "generation 1 is live" in terminal.seen
    assert "\x1b[1m" in terminal.seen, "in colour"
    terminal = Terminal("rollback", "--to", "1")
    assert terminal.finish() == 64


def test_ctrl_c_at_the_question_changes_nothing(
    clean_place: Path, tree: Path, store_url: str
) -> None:
    terminal = Terminal("apply", "policies")
    terminal.read_until("[y/N]")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.finish() == 130
    assert "Traceback" not in terminal.seen
    assert ratectl("history").stdout == ""


def test_progress_appears_on_a_terminal_after_a_second_and_goes_away(
    clean_place: Path, tree: Path
) -> None:
    reader, writer = os.pipe()
    screen, inner = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, "validate", f"/dev/fd/{reader}"],
        pass_fds=[reader],
        stdin=inner,
        stdout=subprocess.PIPE,
        stderr=inner,
        text=True,
    )
    os.close(inner)
    os.close(reader)
    shown = ""
    while "reading policies" not in shown:
        assert select.select([screen], [], [], 30)[0], shown
        shown += os.read(screen, 65536).decode()
    os.write(writer, b"{apiVersion: ratectl/v1, scope: /}\n")
    os.close(writer)
    out, _ = process.communicate(timeout=10)
    with contextlib.suppress(OSError):  # when all is read: nobody writes any more
        while True:
            shown += os.read(screen, 65536).decode()
    os.close(screen)
    assert (process.returncode, out) == (0, "valid: 1 scope and 0 limits in 1 file\n")
    assert shown.rstrip().endswith("\x1b[2K"), "the line is cleared"


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_agent_run_follows_and_stops_cleanly(
    tmp_path: Path,
    clean_place: Path,
    tree: Path,
    published: str,
    stop: signal.Signals,
    start: Start,
) -> None:
    process = start("agent", "run", "--id", "edge-9", "--state-dir", str(tmp_path / "agent"))
    assert process.stderr is not None
    seen = _read_until(process, "generation 1 is in force")
    assert "agent edge-9 follows" in seen + _read_until(process, "follows", seen)
    (tree / "more.yaml").write_text("{apiVersion: ratectl/v1, scope: /more}\n")
    assert ratectl("apply", "policies", "--yes").returncode == 0
    _read_until(process, "generation 2 is in force")
    assert '"edge-9"' in ratectl("agents", "-o", "json").stdout
    process.send_signal(stop)
    process.send_signal(stop)  # a wrapper passes on what the whole group got already
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out) == (0, "")
    assert "stopped on generation 2" in err
    assert '"edge-9"' not in ratectl("agents", "-o", "json").stdout, "it signs off"


def test_agent_run_starts_without_its_store(
    tmp_path: Path, clean_place: Path, start: Start
) -> None:
    url = "etcd://127.0.0.1:1/nowhere"
    process = start(
        "agent", "run", "--store", url, "--state-dir", str(tmp_path / "agent"), "-o", "json"
    )
    err = _read_until(process, "no generation yet")
    process.terminate()
    out, more = process.communicate(timeout=15)
    assert process.returncode == 0
    assert '"kind": "AgentRun"' in out
    assert "is not reachable" in err + more
    assert re.search(r"\d\d:\d\d", err)


EVERY_STEP = """
import os, signal, sys, threading
from ratectl_cli.framework.signals import waiting_for_signals

def steps_until(signalled):
    steps = 0
    def trace(frame, event, argument):
        nonlocal steps
        steps += 1
        if steps == signalled:
            signal.raise_signal(signal.SIGTERM)
        return trace
    with waiting_for_signals() as wait:
        late = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))
        late.start()
        sys.settrace(trace)
        wait()
        sys.settrace(None)
        late.join()
    return steps

signalled = 1
while steps_until(signalled) >= signalled:
    signalled += 1
print("heard")
"""


def test_agent_run_handles_a_signal_at_any_step_of_its_wait(clean_place: Path) -> None:
    """A handler that needs a lock of the interrupted wait would never return."""
    command = [sys.executable, "-c", EVERY_STEP]
    run = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (run.stdout, run.stderr) == ("heard\n", "")


LATER = """
import signal
from ratectl_cli.framework import signals

signals._PATIENCE = -1.0  # any second signal is a later one
with signals.{hearing}() as wait:
    try:
        signal.raise_signal(signal.SIGTERM)
        wait()
    except signals.Terminated:
        pass
    print("asked", flush=True)
    signal.raise_signal(signal.SIGTERM)
    print("deaf")
"""


@pytest.mark.parametrize("hearing", ["waiting_for_signals", "ended_by_signals"])
def test_a_later_signal_ends_the_process_at_once(clean_place: Path, hearing: str) -> None:
    command = [sys.executable, "-c", LATER.format(hearing=hearing)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (-signal.SIGTERM, "asked\n", "")


LATE = """
import signal
from ratectl_cli.framework import signals

try:
    with signals.{hearing}() as wait:
        signal.raise_signal(signal.SIGHUP if wait is None else signal.SIGTERM)
        wait()
except signals.Terminated as ended:
    print("asked by", ended.exit_code)
for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)[wait is not None:]:
    signal.raise_signal(number)
print("ends in its own time")
"""


@pytest.mark.parametrize(
    ("hearing", "asked"), [("waiting_for_signals", ""), ("ended_by_signals", "asked by 129\n")]
)
def test_a_copy_of_a_signal_may_arrive_after_its_work_has_ended(
    clean_place: Path, hearing: str, asked: str
) -> None:
    """As when a busy machine passes it on late."""
    command = [sys.executable, "-c", LATE.format(hearing=hearing)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, asked + "ends in its own time\n", "")


IGNORED = """
import signal
from ratectl_cli.framework.signals import ended_by_signals

signal.signal(signal.SIGHUP, signal.SIG_IGN)
with ended_by_signals():
    signal.raise_signal(signal.SIGHUP)
    print("goes on")
"""


def test_ignored_signals_stay_ignored(clean_place: Path) -> None:
    """As with ``nohup``."""
    command = [sys.executable, "-c", IGNORED]
    run = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "goes on\n", "")


FILLED = """
import os, sys
from ratectl_cli.app import _fill_streams
_fill_streams()
with open(sys.argv[1], "w") as file:
    print([os.get_inheritable(each) for each in range(3)], file.fileno() > 2, file=file)
"""


def test_reopened_streams_are_inherited_by_child_processes(clean_place: Path) -> None:
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    subprocess.run([*closed, sys.executable, "-c", FILLED, "seen"], check=True, timeout=20)
    assert Path("seen").read_text() == "[True, True, True] True\n"


def _read_until(process: subprocess.Popen[str], text: str, seen: str = "") -> str:
    assert process.stderr is not None
    while text not in seen:
        line = process.stderr.readline()
        assert line, f"{text!r} did not appear in {seen!r}"
        seen += line
    return seen
