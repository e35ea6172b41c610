"""Surroundings of the demo: a folder, a store and environment variables, removed afterwards."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ratectl.errors import BundleError, RatectlError, Refused
from ratectl.history.generations import read_history, read_live
from ratectl.stores import open_store
from ratectl.stores.base import MAX_OPS, Delete
from ratectl_cli.framework.signals import ended_by_signals

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["AUTHOR", "Stage", "set_up"]

AUTHOR: Final = "ratectl demo"
"""Author of all generations of the demo, which shows that an environment belongs to the demo."""


class Stage:
    """Folder and store of the demo."""

    def __init__(self, folder: Path, store: str) -> None:
        self.folder = folder
        self.store = store
        self.policies = folder / "policies"


@contextmanager
def set_up(store: str | None, *, keep: bool) -> Iterator[Stage]:
    """Prepare everything for the first command, and remove it at the end, unless ``keep``.

    Meanwhile the working directory and the environment variables are those of the demo, so that the
    printed commands are the commands that run.

    :raises Refused: the environment contains records that are not the demo's.
    :raises UsageError: ``store`` is not the URL of a store.
    """
    named = _absolute(store) if store else None
    folder = Path(tempfile.mkdtemp(prefix="ratectl-demo-"))
    before = Path.cwd()
    own = named or f"sqlite:///{folder / 'demo.db'}"
    try:
        _only_ours(own)
        _clear(own)
        with as_file(files("ratectl_cli") / "examples" / "policies") as example:
            shutil.copytree(example, folder / "policies")
        variables = {"RATECTL_STORE": own, "RATECTL_ENV": None, "RATECTL_AUTHOR": AUTHOR}
        with _environment(variables), ended_by_signals():
            os.chdir(folder)
            yield Stage(folder, own)
    finally:
        os.chdir(before)
        if not keep:
            try:
                if store is not None:
                    with suppress(RatectlError):
                        _only_ours(own)
                        _clear(own)
            finally:  # also if the user interrupts the wait for a store that does not answer
                shutil.rmtree(folder, ignore_errors=True)


def _absolute(url: str) -> str:
    """Return a URL that leads to the same store from any working directory.

    :raises UsageError: it is no URL of a store.
    """
    with open_store(url) as store:
        return store.url


def _only_ours(url: str) -> None:
    """:raises Refused: the environment contains records that are not of an earlier demo."""
    with open_store(url) as store:
        if not store.list("").items:
            return
        try:
            authors = {entry.author for entry in read_history(store)}
        except BundleError:
            authors = set()
        if authors != {AUTHOR}:
            what = "generations" if read_live(store).generation else "records"
            raise Refused(
                f"{store.url} holds {what} that are not the demo's; name an environment of its "
                "own, like etcd://127.0.0.1:2379/demo"
            )


def _clear(url: str) -> None:
    """Delete the records of an earlier demo."""
    with open_store(url) as store:
        keys = [item.key for item in store.list("").items]
        for at in range(0, len(keys), MAX_OPS):
            store.txn((), [Delete(key) for key in keys[at : at + MAX_OPS]])


@contextmanager
def _environment(changes: Mapping[str, str | None]) -> Iterator[None]:
    """Set variables, or unset those whose value is None, until the end of the block."""
    before = {name: os.environ.get(name) for name in changes}
    _set(changes)
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
