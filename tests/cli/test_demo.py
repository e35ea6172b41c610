"""``ratectl demo`` as a user runs it: its output, its end, and no remains."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cli_support import PROGRAM

from ratectl.policy.read import load_valid
from ratectl.publishing._publish import publish
from ratectl.publishing.provenance import Provenance
from ratectl.stores import open_store
from ratectl.traffic import generate, write_log
from ratectl_cli.demo.feed import Feed, plan_feed, scope_of
from ratectl_cli.demo.fleet import DemoFailed
from ratectl_cli.demo.stage import AUTHOR, set_up
from ratectl_cli.demo.story import Phase, Story

if TYPE_CHECKING:
    from etcd_server import EtcdServer

SHORT = ("--duration", "6")

STORY = [
    r"\$ export RATECTL_STORE=sqlite:////.*/demo\.db",
    r"\$ ratectl validate policies/",
    r"valid: 11 scopes",
    r"\$ ratectl apply policies/ -m 'first policies'( --allow-first 'a demonstration')? --yes",
    r"generation 1 is live",
    r"# 2 processes of a website",
    r"\$ ratectl agents",
    r"web-1 .* serving",
    r"web-2 .* serving",
    r"\$ ratectl usage /web",
    r"/web .*generation 1 .*2/2 agents",
    r"-   spike: \{rate: 10/s, burst: 40\}",
    r"\+   spike: \{rate: 1/s, burst: 5\}",
    r"\$ ratectl apply policies/ -m 'tighten the website' --allow-below-use '.*' --yes",
    r"spike  tightened",
    r"generation 2 is live",
    r"web-1 enforces generation 2: \d+ ms after it was published",
    r"web-2 enforces generation 2: \d+ ms after it was published",
    r"\$ ratectl usage /web",
    r"most refused by spike",
    r"\$ ratectl rollback --yes -m 'readers are refused'",
    r"generation 3 is live",
    r"web-2 enforces generation 3",
    r"\$ ratectl history",
    r"3 .*rollback to 1",
    r"as published +[\d,]+ +\d+\.\d%",
    r"tightened +[\d,]+ +\d+\.\d%",
    r"rolled back +[\d,]+ +\d+\.\d%",
    r"They decided [\d,]+ requests meanwhile; 0 failed",
]


def environment(folder: Path) -> dict[str, str]:
    """Environment in which the demo uses only ``folder``."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("RATECTL", "CLICOLOR"))}
    return {**clean, "TMPDIR": str(folder), "XDG_STATE_HOME": str(folder), "PYTHONUTF8": "1"}


def command(*words: str) -> list[str]:
    return [*PROGRAM, "demo", *words]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Empty folder, which must be empty afterwards."""
    empty = tmp_path / "demo"
    empty.mkdir()
    return empty


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), env=environment(folder), capture_output=True, text=True, timeout=60,
        check=False, cwd=folder,
    )  # fmt: skip


def assert_told(text: str) -> None:
    """Assert every line of the demo, in order."""
    at = 0
    for expected in STORY:
        match = re.compile(expected).search(text, at)
        assert match, f"no {expected!r} after:\n{text[:at][-500:]}\n--- in:\n{text[at:]}"
        at = match.end()


def ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return (
        Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    )


def wait_until_ended(pids: list[int]) -> None:
    deadline = time.monotonic() + 15
    while not all(map(ended, pids)):
        assert time.monotonic() < deadline, f"still running: {pids}"
        time.sleep(0.05)


def test_the_whole_demo_in_a_pipe(folder: Path) -> None:
    """Real output in order, exit 0, no colour; no process, no file left."""
    done = run(folder, *SHORT)
    assert (done.returncode, done.stderr) == (0, "")
    assert_told(done.stdout)
    assert "\x1b" not in done.stdout
    pids = [
        int(pid)
        for pid in re.findall(r"^web-\d .*serving .*?(\d+)  (?:c|pure)", done.stdout, re.MULTILINE)
    ]
    assert len(pids) == 4
    assert all(map(ended, pids))
    assert list(folder.iterdir()) == []


def test_a_log_as_a_document_and_kept(folder: Path) -> None:
    """--log, -o json and --keep: one document, and a store that stays."""
    log = folder / "access.log"
    with log.open("w", encoding="utf-8") as file:
        write_log(islice(generate(3), 5_000), file)
        file.write("not a line\n")
    temporary = folder / "tmp"
    temporary.mkdir()
    done = run(temporary, "--log", str(log), "--keep", "--agents", "1", "-o", "json", *SHORT)
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    assert (found["kind"], found["succeeded"], found["problem"]) == ("Demo", True, None)
    assert [each["exit_code"] for each in found["commands"]] == [0] * len(found["commands"])
    assert {each["generation"] for each in found["acknowledgements"]} == {2, 3}
    loose, tight, restored = (phase["refused_share"] for phase in found["phases"])
    assert loose < tight > restored
    (kept,) = temporary.iterdir()
    assert "{rate: 1/s, burst: 5}" in (kept / "policies/web/site.yaml").read_text(encoding="utf-8")
    with open_store(f"sqlite:///{kept / 'demo.db'}") as store:
        assert len(store.list("history/").items) == 3
        assert store.list("agents/").items == ()


@pytest.mark.etcd
def test_the_demo_leaves_no_key_in_etcd(folder: Path, etcd_server: EtcdServer) -> None:
    """The demo in its own environment, which is empty afterwards."""
    url = etcd_server.store_url(f"demo-{os.getpid()}")
    done = run(folder, "--store", url, *SHORT)
    assert (done.returncode, done.stderr) == (0, "")
    assert_told(done.stdout.replace(url, "sqlite:////elsewhere/demo.db"))
    with open_store(url) as store:
        assert store.list("").items == ()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("wait", [0.0, 1.0])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ended_by_a_signal(folder: Path, number: signal.Signals, code: int, wait: float) -> None:
    """Ctrl-C reaches all processes of the terminal; nothing stays."""
    with subprocess.Popen(
        command(), env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    ) as process:  # fmt: skip
        pids = agents_of(process)
        time.sleep(wait)
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        _, complaint = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in complaint
    assert all(map(ended, pids))
    assert list(folder.iterdir()) == []


def test_agents_end_when_the_demo_is_killed(folder: Path) -> None:
    """After SIGKILL the folder stays, but the processes end by themselves."""
    with subprocess.Popen(
        command(), env=environment(folder), stdout=subprocess.PIPE, text=True
    ) as process:
        pids = agents_of(process)
        process.kill()
    wait_until_ended(pids)


def agents_of(process: subprocess.Popen[str]) -> list[int]:
    """Return the process ids of the demo's agents, once they have started."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 15
    while len(pids := children.read_text(encoding="ascii").split()) < 2:
        assert time.monotonic() < deadline, "no agents were started"
        time.sleep(0.02)
    return [int(pid) for pid in pids]


@pytest.mark.parametrize("somebody", ["generations", "records"])
def test_environments_of_others_are_refused(folder: Path, somebody: str) -> None:
    """An environment with generations or records of others: exit 77, unchanged."""
    url = f"sqlite:///{folder / 'prod.db'}"
    (folder / "a.yaml").write_text("{apiVersion: ratectl/v1, scope: /}", encoding="utf-8")
    with open_store(url) as store:
        if somebody == "generations":
            publish(store, load_valid([folder / "a.yaml"]).tree, Provenance("alice"))
        else:
            store.put("agents/waiting", b"{}")
        before = store.list("")
        done = run(folder, "--store", url)
        assert done.returncode == 77
        assert f"holds {somebody} that are not the demo's" in done.stderr
        assert store.list("") == before
    assert not list(folder.glob("ratectl-demo-*"))


def test_an_environment_of_an_earlier_demo_is_used_again(folder: Path) -> None:
    """After --keep or a crash the same store works again, also with a relative path."""
    (folder / "a.yaml").write_text("{apiVersion: ratectl/v1, scope: /}", encoding="utf-8")
    with open_store(f"sqlite:///{folder / 'demo.db'}") as store:
        publish(store, load_valid([folder / "a.yaml"]).tree, Provenance(AUTHOR))
        with subprocess.Popen(
            command("--store", "sqlite:///demo.db"), env=environment(folder), cwd=folder,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        ) as process:  # fmt: skip
            agents_of(process)
            assert [item.key for item in store.list("history/").items] == ["history/0000000001"]
            process.send_signal(signal.SIGINT)
        assert process.returncode == 130
        assert store.list("").items == ()


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (("--log", "missing.log"), 64, "cannot read the log missing.log: No such file"),
        (("--log", "."), 64, "cannot read the log .: Is a directory"),
        (("--log", os.devnull), 64, "holds 0 readable requests"),
        (("--duration", "1"), 64, "--duration must be at least 6"),
        (("--agents", "0"), 64, "--agents must be at least 1"),
        (("--store", "redis://x"), 64, "not a store URL"),
        (("--store", "etcd://127.0.0.1:1/demo"), 69, "127.0.0.1:1"),
    ],
)
def test_a_demo_that_cannot_start_prints_a_message(
    folder: Path, words: tuple[str, ...], code: int, complaint: str
) -> None:
    """A message and an exit code, no traceback, no remains."""
    done = run(folder, *words)
    assert done.returncode == code, done.stderr
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("phases", "errors", "problem"),
    [
        ([(900, 0), (700, 200), (900, 1)], 0, None),
        ([(900, 0), (895, 5), (900, 0)], 0, "refusals did not rise"),
        ([(900, 0), (700, 200), (700, 200)], 0, "did not fall again"),
        ([(0, 0), (0, 0), (0, 0)], 0, "refusals did not rise"),
        ([(900, 0), (700, 200), (900, 1)], 2, "2 decisions failed"),
    ],
)
def test_the_demo_fails_if_something_did_not_happen(
    phases: list[tuple[int, int]], errors: int, problem: str | None
) -> None:
    """Shares of refusals before, during and after; failed decisions."""
    story = Story.__new__(Story)
    story.phases = [Phase(name, 1, *each) for name, each in zip("abc", phases, strict=True)]
    story.decided = {"errors": errors}
    if problem is None:
        story.judge()
    else:
        with pytest.raises(DemoFailed, match=problem):
            story.judge()


def test_agents_share_the_traffic() -> None:
    """Together they decide each request of the stretch once; then the stretch is repeated."""
    feed, _ = plan_feed(5, None, None, agents=2, stretch=2.0)
    whole = list(islice(feed.requests(), 1_500))
    first = [each for each in whole if each[0] < 2]
    shares = [
        list(islice(Feed(**{**vars_of(feed), "share": n, "shares": 2}).requests(), 700))
        for n in (0, 1)
    ]
    merged = sorted([each for share in shares for each in share if each[0] < 2], key=lambda e: e[0])
    assert merged == first
    assert 400 < len(first) < 800
    again = next(each for each in whole if each[0] >= 2)
    assert again == (first[0][0] + 2, first[0][1])


def vars_of(feed: Feed) -> dict[str, Any]:
    return {name: getattr(feed, name) for name in feed.__slots__}


@pytest.mark.parametrize(
    ("route", "scope"),
    [
        ("/files", "/web/files"),
        ("/favicon.ico", "/web/favicon.ico"),
        ("/", "/web"),
        ("/..", "/web"),
        ("/a b", "/web"),
        ("*", "/web"),
        ("", "/web"),
    ],
)
def test_parts_of_the_site_are_scopes(route: str, scope: str) -> None:
    """Every route in a log gives a valid scope."""
    request = next(generate(1))
    assert scope_of(request._replace(attributes={"route": route})) == scope


def test_the_folder_is_removed_if_the_wait_for_the_store_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def impatient(_: str) -> None:
        raise KeyboardInterrupt

    place = set_up(f"sqlite:///{tmp_path}/x.db", keep=False)
    folder = place.__enter__().folder
    monkeypatch.setattr("ratectl_cli.demo.stage._clear", impatient)
    with pytest.raises(KeyboardInterrupt):
        place.__exit__(None, None, None)
    assert not folder.exists()
