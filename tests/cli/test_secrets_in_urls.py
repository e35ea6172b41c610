"""No command prints a password in a store's URL, and no file contains it."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import ratectl
from leaky_urls import LEAKY, SECRET
from ratectl.errors import UsageError
from ratectl.stores import open_store

if TYPE_CHECKING:
    from cli_support import Cli

COMMANDS = [
    ("history",),
    ("history", "-o", "json"),
    ("doctor", "-v"),
    ("doctor", "-o", "json"),
    ("agents", "-vv"),
    ("cluster", "-vv"),
    ("cluster", "forget", "x", "--yes"),
    ("agent", "run"),
    ("plan", "policies", "-o", "yaml"),
    ("apply", "policies", "--yes", "-vv"),
    ("panic", "status"),
    ("demo",),
]


def written(folder: Path) -> bytes:
    """Return names and contents of all files below a folder."""
    paths = sorted(folder.rglob("*"))
    names = "\n".join(map(str, paths)).encode()
    return names + b"\n".join(path.read_bytes() for path in paths if path.is_file())


@pytest.mark.parametrize("url", LEAKY)
def test_no_command_prints_the_password_in_a_url(cli: Cli, tree: Path, url: str) -> None:
    for words in COMMANDS:
        run = cli(*words, "--store", url)
        assert run.code == 64, words
        assert SECRET not in run.out + run.err, words
        assert run.out + run.err, words


def test_no_file_is_named_after_a_url(
    cli: Cli, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url in LEAKY:
        monkeypatch.setenv("RATECTL_STORE", url)
        run = cli("history")
        assert run.code == 64
        assert SECRET not in run.out + run.err
    assert SECRET.encode() not in written(tmp_path)


@pytest.mark.parametrize("command", ["plan", "validate", "fmt", "test", "pull", "init", "nonsense"])
def test_a_url_in_place_of_another_argument_is_not_repeated(
    cli: Cli, published: str, command: str
) -> None:
    for words in ((command, LEAKY[0]), (command, "policies", LEAKY[0]), (LEAKY[0],)):
        run = cli(*words)
        assert run.code != 0, words
        assert SECRET not in run.out + run.err, words
    assert not [path for path in Path().rglob("*") if "etcd" in path.name]


@pytest.mark.parametrize(
    "url",
    [
        "etcd://root:x'hunter2@host/prod",
        'etcd://root:x"hunter2@host/prod',
        "etcd://root:x hunter2@host/prod",
        "etcd://root:x\thunter2@host/prod",
        "etcd://host/prod;password=hunter2",
        "etcd:root:hunter2@host/prod",
        "etcd:/root:hunter2@host/prod",
        "root:hunter2@host/prod",
    ],
)
def test_no_argument_that_holds_a_password_is_repeated(cli: Cli, published: str, url: str) -> None:
    for words in (
        (url,),
        (f"--{url}",),
        ("agent", "run", "--public-key", url),
        ("apply", "policies", "--sign", url),
        ("apply", "policies", "--wait-for", url),
        ("apply", "policies", "--canary", url),
        ("apply", "policies", f"--canary={url}"),
        ("check", url),
        ("history", url),
        ("history", "--timeout", url),
        ("history", "-o", url),
        ("rollback", "--to", url),
        ("panic", "on", "--scope", url, "--reason", "x"),
        ("plan", url),
        ("test", url),
        ("validate", url),
        ("validate", "policies", "--base", url),
        ("init", url),
        ("pull", url),
        ("key", "generate", url),
    ):
        run = cli(*words)
        assert run.code != 0, words
        assert SECRET not in run.out + run.err, words
    assert not [path for path in Path().rglob("*") if SECRET in str(path)]


@pytest.mark.parametrize("url", LEAKY)
def test_no_error_of_the_library_contains_the_password(
    url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for use in (open_store, lambda url: ratectl.Agent(url, state_dir=tmp_path / "state")):
        with pytest.raises(UsageError) as raised:
            use(url)
        assert SECRET not in str(raised.value)
        assert SECRET not in repr(raised.value)
        # Without the lines of source code, which are this test's own.
        chain = traceback.TracebackException.from_exception(raised.value, lookup_lines=False)
        assert SECRET not in "".join(chain.format_exception_only())
        assert raised.value.__cause__ is None
    assert SECRET not in caplog.text
    assert SECRET.encode() not in written(tmp_path)


@pytest.mark.etcd
def test_a_password_from_the_environment_is_not_printed(
    cli: Cli, etcd_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATECTL_ETCD_USER", "root")
    monkeypatch.setenv("RATECTL_ETCD_PASSWORD", SECRET)
    for words in (("doctor", "-vv", "-o", "json"), ("history", "-vv"), ("agents",)):
        run = cli(*words)
        assert SECRET not in run.out + run.err
