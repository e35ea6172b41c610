"""Every exit code that commands document, and its message."""

from __future__ import annotations

import socket
import stat
import time
from typing import TYPE_CHECKING

import pytest
from cli_support import Cli, report_agent

from ratectl.errors import (
    BundleError,
    OutcomeUnknown,
    StoreMisconfigured,
    StoreUnauthenticated,
)
from ratectl.policy.read import load_valid
from ratectl.publishing._publish import publish
from ratectl.publishing.provenance import Provenance
from ratectl.stores import open_store
from ratectl_cli.framework.session import Session

if TYPE_CHECKING:
    from pathlib import Path

STORE_COMMANDS = [
    ("history",),
    ("show",),
    ("agents",),
    ("cluster",),
    ("cluster", "forget", "edge-1.0000000a", "--yes"),
    ("usage",),
    ("top",),
    ("check", "/shop", "--live"),
    ("explain", "/shop", "--live"),
    ("plan", "policies"),
    ("apply", "policies", "--yes"),
    ("diff", "policies"),
    ("pull",),
    ("blame", "/shop"),
    ("rollback", "--yes"),
    ("rollout", "status"),
    ("rollout", "run"),
    ("rollout", "pause"),
    ("rollout", "promote", "--yes"),
    ("rollout", "abort"),
    ("panic",),
    ("panic", "on", "--scope", "/", "--reason", "x"),
    ("panic", "off"),
    ("usage", "reset", "/shop", "--limit", "spike", "--key", "x", "--reason", "y", "--yes"),
]


def closed_port() -> int:
    """A port without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.mark.parametrize(
    "words",
    [
        ("valdate",),
        ("validate", "-"),
        ("history", "--limit", "0"),
        ("history", "--nonsense"),
        ("history", "-o", "xml"),
        ("history", "--timeout", "0"),
        ("history", "--timeout", "soon"),
        ("history", "--timeout", "1e400"),
        ("history", "--timeout", "1e10"),
        ("plan", ""),
        ("validate", "policies", ""),
        ("check", "/shop", "--policies", ""),
        ("diff", "policies", "--to", "1"),
        ("history", "--color", "pink"),
        ("show", "latest"),
        ("explain", "shop"),
        ("explain", "/a//b"),
        ("explain", "/shop", "--live", "--policies", "policies"),
        ("check", "/shop", "--attr", "tenant"),
        ("check", "/shop", "--attr", "=x"),
        ("check", "/shop", "-a", "a=1", "-a", "a=2"),
        ("check", "/shop", "--cost", "-1"),
        ("check", "/shop", "-n", "many"),
        ("usage", "shop"),
        ("usage", "resett"),
        ("usage", "reset"),
        ("usage", "reset", "shop", "--limit", "spike", "--key", "x", "--reason", "y"),
        ("agent",),
        ("agent", "run", "--timeout", "1"),
        ("cluster", "run", "--timeout", "1"),
        ("cluster", "run", "--id", "a b"),
        ("cluster", "run", "--id", "a" * 51),
        ("agent", "walk"),
        ("panic", "onn"),
        ("panic", "on"),
        ("panic", "on", "--scope", "/"),
        ("panic", "on", "--reason", "x"),
        ("panic", "on", "--scope", "shop", "--reason", "x"),
        ("panic", "on", "--scope", "/", "--reason", " "),
        ("panic", "on", "--scope", "/", "--reason", "x" * 501),
        ("panic", "on", "--scope", "/", "--reason", "x", "--state-dir", "/tmp"),
        ("panic", "on", "--scope", "/", "--reason", "x", "--local", "--wait"),
        ("panic", "off", "--scope", "shop"),
        ("panic", "off", "--local", "--wait"),
        ("panic", "--state-dir", "/tmp"),
        ("history", "--store", "redis://x"),
        ("history", "--store", "sqlite://relative.db"),
        ("history", "--store", "etcd://host:2379"),
        ("history", "--store", "etcd://user:secret@host/prod"),
        (),
    ],
    ids=" ".join,
)
def test_usage_errors_exit_64_with_the_reason(cli: Cli, tree: Path, words: tuple[str, ...]) -> None:
    run = cli(*words, tty=words == ("validate", "-"))
    assert (run.code, run.out) == (64, "")
    assert run.err.startswith(("error: ", "Usage: ", "\x1b[1;31merror: "))
    assert "secret" not in run.err
    assert "Traceback" not in run.err


def test_a_bad_setting_is_a_usage_error(
    cli: Cli, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATECTL_STORE", "nonsense")
    assert cli("history").code == 64
    assert cli("doctor").code == 64


def test_invalid_policies_exit_65_with_every_finding(cli: Cli, tree: Path, store_url: str) -> None:
    (tree / "bad.yaml").write_text(
        "apiVersion: ratectl/v1\nscope: /bad\nlimits: {a: {rat: 1/s}, b: {rate: -1/s}}\n"
    )
    for words in (
        ("apply", "policies", "--yes"),
        ("explain", "/bad/below"),
        ("check", "/shop", "--policies", "policies"),
    ):
        run = cli(*words)
        assert (run.code, run.out) == (65, "")
        assert run.err.count("error[RC") >= 2
    assert cli("validate", "policies").code == 1
    assert cli("explain", "/shop").code == 0, "which they do not concern"


def test_nothing_published_exits_65(cli: Cli, store_url: str) -> None:
    for words in (
        ("show",),
        ("check", "/x", "--live"),
        ("explain", "/x", "--live"),
        ("rollback", "--yes"),
    ):
        run = cli(*words)
        assert run.code == 65
        assert "ratectl apply" in run.err


def test_generations_that_do_not_exist_exit_64(cli: Cli, published: str) -> None:
    for words in (("show", "9"), ("rollback", "--to", "9", "--yes")):
        run = cli(*words)
        assert run.code == 64
        assert "there is no generation 9: the live one is 1" in run.err


def test_a_damaged_generation_exits_65_and_can_be_replaced(
    cli: Cli, tree: Path, published: str
) -> None:
    with open_store(published) as store:
        chunk = next(iter(store.list("bundles/").items))
        for item in store.list("bundles/").items:
            store.put(item.key, b"x" * len(item.value))
        assert chunk
    assert cli("show").code == 65
    doctor = cli("doctor")
    assert doctor.code == 1
    assert "corrupt" in doctor.out
    (tree / "all.yaml").write_text("apiVersion: ratectl/v1\nscope: /new\n")
    run = cli("apply", "policies", "--yes")
    assert run.code == 0
    assert "cannot be read" in run.err
    assert cli("show").code == 0


@pytest.mark.parametrize("words", STORE_COMMANDS, ids=lambda words: words[0])
def test_an_unreachable_store_exits_69_within_5_seconds(
    cli: Cli, tree: Path, words: tuple[str, ...]
) -> None:
    port = closed_port()
    started = time.monotonic()
    run = cli(*words, "--store", f"etcd://127.0.0.1:{port}/test")
    assert time.monotonic() - started < 5
    assert (run.code, run.out) == (69, "")
    assert f"127.0.0.1:{port}" in run.err, "the address"
    assert "refused" in run.err, "gRPC's own words"


def test_a_silent_store_exits_69_within_5_seconds(cli: Cli) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        url = f"etcd://127.0.0.1:{silent.getsockname()[1]}/test"
        started = time.monotonic()
        run = cli("history", "--store", url)
        assert time.monotonic() - started < 5
        assert run.code == 69
        started = time.monotonic()
        assert cli("history", "--store", url, "--timeout", "0.5").code in (69, 124)
        assert time.monotonic() - started < 2


def test_an_impossible_store_path_exits_69(cli: Cli, clean_place: Path) -> None:
    (clean_place / "file").write_text("")
    run = cli("history", "--store", "sqlite:///file/below.db")
    assert run.code == 69
    (clean_place / "text.db").write_text("not a database, by far" * 100)
    assert cli("history", "--store", "sqlite:///text.db").code == 69


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoreUnauthenticated("wrong password"), 77),
        (StoreMisconfigured("too old"), 69),
        (OutcomeUnknown("no reply"), 69),
        (BundleError("newer format"), 65),
        (PermissionError(13, "Permission denied", "x"), 77),
        (OSError(5, "Input/output error", "x"), 69),
        (MemoryError(), 70),
        (ZeroDivisionError("boom"), 70),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_errors_have_their_codes(
    cli: Cli, store_url: str, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("ratectl.history.generations.read_live", fail)
    run = cli("history")
    assert run.code == code
    assert "Traceback" not in run.err
    document = cli("history", "-o", "json").document
    assert (document["kind"], document["exit_code"]) == ("Error", code)
    if code == 70:
        assert "this is a bug" in run.err
        assert "Traceback" in cli("history", "-v").err


def test_a_lost_race_exits_75_and_names_the_change(
    cli: Cli, tree: Path, published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rival = load_valid([tree]).tree
    (tree / "more.yaml").write_text("{apiVersion: ratectl/v1, scope: /more}\n")
    others = type(rival)({"/rival": rival.policies["/shop"].model_copy(update={"scope": "/rival"})})

    def meanwhile(*_: object, **__: object) -> None:
        with open_store(published) as store:
            assert publish(store, others, Provenance("Rival <r@example.org>"))

    with monkeypatch.context() as patch:
        patch.setattr(Session, "confirm", meanwhile)
        run = cli("apply", "policies")
    assert run.code == 75
    assert "generation 2 (apply by Rival" in run.err
    assert "generation 1" in run.err
    assert cli("history", "-o", "json").document["live"] == 2
    passing = ("--allow-removals", "theirs", "--yes")
    with monkeypatch.context() as patch:
        patch.setattr(Session, "confirm", lambda *_, **__: cli("apply", "policies", *passing))
        assert cli("rollback", "--to", "1").code == 75


def test_applying_nothing_exits_77(cli: Cli, clean_place: Path, published: str) -> None:
    (clean_place / "empty").mkdir()
    (clean_place / "blank.yaml").write_text("# nothing\n")
    for path in ("empty", "blank.yaml"):
        run = cli("apply", path, "--yes")
        assert run.code == 77
        assert "nothing to apply" in run.err
        assert cli("validate", path).code == 1
    assert cli("apply", "-", "--yes", stdin="").code == 77
    assert cli("apply", "nowhere", "--yes").code == 65, "a wrong path is an error, not nothing"


def test_rolling_back_the_first_generation_exits_77(cli: Cli, published: str) -> None:
    assert cli("rollback", "--yes").code == 77
    assert cli("rollback", "--to", "1", "--yes").code == 64


def test_init_never_overwrites(cli: Cli, clean_place: Path) -> None:
    (clean_place / "policies").mkdir()
    (clean_place / "policies" / "mine.yaml").write_text("mine")
    run = cli("init")
    assert run.code == 77
    assert "policies/mine.yaml" in run.err
    assert [path.name for path in (clean_place / "policies").iterdir()] == ["mine.yaml"]
    (clean_place / "file").write_text("")
    assert cli("init", "file").code == 77


def test_time_up_exits_124(cli: Cli, store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ratectl.history.generations.read_live", lambda _: time.sleep(10))
    started = time.monotonic()
    run = cli("history", "--timeout", "0.2")
    assert run.code == 124
    assert time.monotonic() - started < 2
    assert "0.2 s" in run.err


def test_ctrl_c_exits_130(cli: Cli, store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ratectl.history.generations.read_live", interrupt)
    assert cli("history").code == 130
    assert cli("history", "-o", "json").document["exit_code"] == 130


def test_findings_exit_1(cli: Cli, tree: Path, published: str) -> None:
    by_files = ("--policies", "policies")
    assert cli("check", "/small", "-n", "6", *by_files).code == 1
    assert cli("check", "/small", "-n", "5", *by_files).code == 0
    assert cli("check", "/small", "-n", "1000", *by_files).code == 1
    assert cli("check", "/small", "--cost", "0", "-n", "50", *by_files).code == 0
    (tree / "all.yaml").write_text("{apiVersion: ratectl/v1, scope: /only}\n")
    assert cli("explain", "/other").code == 1
    check = cli("check", "/other", *by_files)
    assert (check.code, "no policy" in check.out) == (0, True)
    report_agent(published, state="rejected", rejected=1, error="bad")
    assert cli("doctor").code == 1


def test_unreadable_files(
    cli: Cli, tree: Path, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.open", refuse)
    run = cli("validate", "policies")
    assert run.code == 1
    assert "cannot read policies/all.yaml: permission denied" in run.out


def test_the_default_store_is_private_and_below_the_state_directory(
    cli: Cli, tree: Path, tmp_path: Path
) -> None:
    assert cli("history").code == 0
    doctor = cli("doctor", "-o", "json")
    assert doctor.code == 0
    found = {each["check"]: each for each in doctor.document["findings"]}
    assert found["store"]["verdict"] == "warning", "it may be another file that was meant"
    assert found["store"]["detail"].endswith("nothing is there yet; the first apply makes it")
    assert not (tmp_path / "state").exists(), "to look creates nothing"
    assert cli("apply", "policies", "--yes").code == 0
    path = tmp_path / "state" / "ratectl" / "ratectl.db"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
