"""The tutorial, word for word, in a real shell: on SQLite, and on etcd."""

from __future__ import annotations

import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from etcd_server import EtcdServer

PAGE: Final = Path(__file__).parents[2] / "docs" / "tutorial.md"
BLOCK: Final = re.compile(r"```(console|python|yaml) tutorial ?(\S*)\n(.*?)```", re.DOTALL)
STEP: Final = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
MARK: Final = "\x1f"


def script(text: str) -> tuple[str, list[tuple[str, str]]]:
    """Return a shell script of all commands, and each command with what the page shows."""
    lines, steps = [], []
    for kind, name, block in BLOCK.findall(text):
        if kind != "console":
            lines.append(f"cat > {name} <<'FILE'\n{block}FILE")
            continue
        for command, shown in STEP.findall(block):
            steps.append((command, shown))
            lines.append(f"printf '{MARK}'\n{command}")
    return "set -m\n" + "\n".join(lines) + "\n", steps


def masked(text: str) -> str:
    """Return a text without what differs from run to run: numbers, hosts, widths of columns."""
    text = re.sub(r"\d+(\.\d+)?%?|\bjust now\b|\b0 (s|ms|min) ago\b", "0", text)
    text = re.sub(r"\b0 (s|ms|min)( ago)?\b", "0", text)
    text = re.sub(r"^(cart-0 +0 +serving +0) .*", r"\1", text, flags=re.MULTILINE)
    return re.sub(r"[ ─]+", " ", text)


def shows(shown: str, out: str) -> bool:
    pieces = [masked(piece) for piece in re.split(r" *…\n|…\n", shown)]
    return bool(re.fullmatch("(?s:.*)".join(map(re.escape, pieces)), masked(out)))


def play(place: Path, url: str | None) -> None:
    text = PAGE.read_text("utf-8")
    if url is not None:
        first = 'apply --yes -m "first limits"'
        text = text.replace("sqlite:///rates.db", url)
        text = text.replace(first, f"{first} --allow-first tutorial")
        text = text.replace("\ngeneration 1 is live", "\n…\ngeneration 1 is live")
    commands, steps = script(text)
    bin_ = Path(sys.executable).parent
    ran = subprocess.run(
        ["bash", "-c", commands], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=120, check=False,
        env={"PATH": f"{bin_}:/usr/bin:/bin", "HOME": str(place), "COLUMNS": "100",
             "RATECTL_AUTHOR": "Ada <ada@example.org>", "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    outputs = ran.stdout.split(MARK)[1:]
    assert len(outputs) == len(steps), ran.stdout
    for (command, shown), out in zip(steps, outputs, strict=True):
        out = re.sub(r"^\[1\] .*\n", "", out, flags=re.MULTILINE)  # of the shell: a job began
        assert shows(shown, out), f"$ {command}\n{out}\ninstead of\n{shown}"


@pytest.mark.servers
def test_every_line_of_the_tutorial_does_what_the_page_shows(tmp_path: Path) -> None:
    play(tmp_path, None)


@pytest.mark.servers
@pytest.mark.etcd
def test_every_line_of_the_tutorial_works_on_etcd(tmp_path: Path, etcd_server: EtcdServer) -> None:
    play(tmp_path, etcd_server.store_url(f"tutorial-{uuid.uuid4().hex[:8]}"))
