"""Fixtures of the command line's tests."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from cli_support import AUTHOR, GOLDEN, NOW, TREE, Cli
from environments_support import PROJECT
from sets_support import EDGE, PAYMENTS, apply_set, write

if TYPE_CHECKING:
    from pathlib import Path

    from etcd_server import EtcdServer

# Read before any test clears the environment.
_UPDATE = os.environ.get("RATECTL_UPDATE_GOLDEN") == "1"


@pytest.fixture(autouse=True)
def clean_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and only the settings of the test."""
    for name in list(os.environ):
        if name.startswith(("RATECTL_", "CLICOLOR", "_RATECTL")) or name in ("NO_COLOR", "TERM"):
            monkeypatch.delenv(name)
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.setenv("RATECTL_AUTHOR", AUTHOR)
    monkeypatch.setenv("COLUMNS", "100")
    return place


@pytest.fixture
def store_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new store for this test, set as the default store."""
    url = f"sqlite:///{tmp_path}/store.db"
    monkeypatch.setenv("RATECTL_STORE", url)
    return url


@pytest.fixture
def etcd_url(etcd_server: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new environment on a real etcd for this test, set as the default store."""
    url = etcd_server.store_url(uuid.uuid4().hex)
    monkeypatch.setenv("RATECTL_STORE", url)
    return url


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Cli:
    return Cli(monkeypatch)


@pytest.fixture
def tree(clean_place: Path) -> Path:
    """Folder ``policies`` with a file of policies, as commands expect."""
    folder = clean_place / "policies"
    folder.mkdir()
    (folder / "all.yaml").write_text(TREE)
    return folder


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Publications happen at 11:58, and the time is always noon."""
    writers = ("publishing._publish", "publishing.saved_plan", "kill_switch.switches")
    for module in (*writers, "resets.ordering"):
        monkeypatch.setattr(f"ratectl.{module}.utc_now", lambda: "2026-11-23T11:58:00.000Z")
    monkeypatch.setattr("ratectl_cli.framework.clock.now", lambda: NOW)


@pytest.fixture
def published(cli: Cli, tree: Path, store_url: str, still: None) -> str:
    """A store with ``TREE`` as its generation 1."""
    assert cli("apply", "policies", "--yes", "-m", "first").code == 0
    return store_url


Golden = Callable[[str, str], None]


@pytest.fixture
def golden(tmp_path: Path) -> Golden:
    """Compare text with ``golden/<name>.txt``; RATECTL_UPDATE_GOLDEN=1 writes it."""
    update = _UPDATE

    def compare(name: str, text: str) -> None:
        text = text.replace(str(tmp_path), "<tmp>")
        text = re.sub(r"sqlite 3\.\d+\.\d+", "sqlite <version>", text)
        text = re.sub(r"(ok +engine +)(?:c|pure)$", r"\1<engine>", text, flags=re.MULTILINE)
        path = GOLDEN / f"{name}.txt"
        if update:
            path.write_text(text)
        assert text == path.read_text(), f"{path.name} differs: see RATECTL_UPDATE_GOLDEN"

    return compare


@pytest.fixture
def edited(tree: Path, published: str) -> str:
    """``TREE`` is live, and the files raise a limit slightly."""
    (tree / "all.yaml").write_text(TREE.replace("50/s", "51/s"))
    return published


@pytest.fixture
def sets(cli: Cli, store_url: str, still: None) -> str:
    """``edge`` and then ``payments`` are live, each from a folder with its name."""
    write("edge", EDGE)
    write("payments", PAYMENTS)
    for name in ("edge", "payments"):
        assert apply_set(cli, name).code == 0
    return store_url


@pytest.fixture
def project(clean_place: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with ratectl.yaml and a folder ``limits``, which has no store of its own."""
    (clean_place / ".git").mkdir()
    tree.rename(clean_place / "limits")
    (clean_place / "ratectl.yaml").write_text(PROJECT)
    (clean_place / "ratectl.yaml").chmod(0o644)
    monkeypatch.delenv("RATECTL_STORE", raising=False)
    return clean_place
