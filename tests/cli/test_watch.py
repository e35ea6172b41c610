"""``ratectl validate --watch``: real processes, in a pipe and on a terminal."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from cli_support import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cli_support import Cli

GOOD = "apiVersion: ratectl/v1\nscope: /watched\nlimits: {a: {rate: 5/s}}\n"
BAD = GOOD.replace("5/s", "5/x")


class Watched:
    """A process that watches, and its output."""

    def __init__(self, process: subprocess.Popen[bytes], output: int) -> None:
        self.process = process
        self._output = output
        self._seen = ""

    def until(self, text: str) -> str:
        """Return the output up to a text that is still to come."""
        ends = time.monotonic() + 30
        while text not in self._seen:
            ready, _, _ = select.select([self._output], [], [], max(0, ends - time.monotonic()))
            assert ready, f"{text!r} is not in {self._seen!r}"
            more = os.read(self._output, 65_536).decode()
            assert more, f"the process ended: {text!r} is not in {self._seen!r}"
            self._seen += more.replace("\r\n", "\n")
        before, found, self._seen = self._seen.partition(text)
        return before + found


@contextmanager
def watching(folder: Path, *words: str, terminal: bool = False) -> Iterator[Watched]:
    ours, theirs = pty.openpty() if terminal else os.pipe()
    process = subprocess.Popen(
        [*PROGRAM, "validate", "--watch", *words],
        cwd=folder, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
        env={**os.environ, "TERM": "xterm", "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Watched(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_changes_are_validated_until_ctrl_c(tmp_path: Path) -> None:
    file = tmp_path / "policies" / "a.yaml"
    file.parent.mkdir()
    file.write_text(GOOD)
    with watching(tmp_path, "policies") as watched:
        assert watched.until("watching 1 file; Ctrl-C ends\n").startswith("valid: 1 scope")
        file.write_text(BAD)
        assert "error[RC140]" in watched.until("watching 1 file")
        (file.parent / "b.yaml").write_text(GOOD.replace("watched", "other"))
        file.write_text(GOOD)
        assert "valid: 2 scopes and 2 limits in 2 files" in watched.until("watching 2 files")
        for path in file.parent.iterdir():
            path.unlink()
        assert "1 error in 0 files" in watched.until("watching policies; Ctrl-C ends\n")
        watched.process.send_signal(signal.SIGINT)
        assert watched.process.wait(timeout=30) == 130
        assert "Traceback" not in watched.until("interrupted")


def test_store_that_cannot_be_used_does_not_end_the_watch(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(GOOD)
    (tmp_path / "no.db").write_bytes(b"not a store" * 1_000)
    live = ["--base", "live", "--store", f"sqlite:///{tmp_path}/no.db"]
    with watching(tmp_path, "a.yaml", *live) as watched:
        assert "error: " in watched.until("watching 1 file; Ctrl-C ends\n")
        (tmp_path / "no.db").unlink()
        file.write_text(GOOD.replace("5/s", "6/s"))
        watched.until("watching 1 file; Ctrl-C ends\n")
        assert watched.process.poll() is None


def test_terminal_shows_the_newest_result_only(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(BAD)
    with watching(tmp_path, "a.yaml", "--format", "concise", terminal=True) as watched:
        assert watched.until("watching 1 file").startswith("\x1b[H\x1b[2J")
        (tmp_path / "a.yaml").write_text(GOOD)
        text = watched.until("watching 1 file")
        assert "RC140" not in text.partition("\x1b[H\x1b[2J")[2]


@pytest.mark.parametrize(
    "words", [["-"], ["policies", "-o", "json"], ["policies", "--format", "sarif"]]
)
def test_watching_prints_no_document_and_reads_no_stream(
    cli: Cli, tree: Path, words: list[str]
) -> None:
    run = cli("validate", "--watch", *words, stdin=GOOD)
    assert run.code == 64
    assert "--watch" in run.out + run.err
