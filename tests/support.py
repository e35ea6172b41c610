"""Small helpers of several tests."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from ratectl.cluster.entries import Hint, read_hints
from ratectl.engine import why_not_compiled
from ratectl.policy.language.model import Policy, PolicyTree
from ratectl.publishing._publish import publish
from ratectl.publishing.provenance import Provenance

if TYPE_CHECKING:
    from pathlib import Path

    from ratectl.records import HistoryEntry
    from ratectl.stores.base import Store

__all__ = [
    "CRASHING",
    "ME",
    "POISON",
    "ROLLOUT",
    "Link",
    "embed_repository",
    "hint_of",
    "once",
    "policies",
    "publish_policies",
    "simple",
]

once = pytest.mark.skipif(
    os.environ.get("RATECTL_ENGINE") == "pure" and not why_not_compiled(),
    reason="servers, packages and long loops run once: with the compiled engine",
)

ME = Provenance("tester <tester@example.org>", "a test")

CRASHING = {
    **os.environ,
    "ASAN_OPTIONS": ":".join(
        [os.environ.get("ASAN_OPTIONS", "")]
        + [f"handle_{each}=0" for each in ("segv", "sigbus", "abort", "sigill", "sigfpe")]
    ),
}
"""Environment of a process that is to crash: a sanitizer must not change how it ends."""


def policies(**scopes: dict[str, Any]) -> PolicyTree:
    """Return ``policies(**{"/": {"limits": {…}}})`` as a tree."""
    return PolicyTree(
        {scope: Policy.model_validate({"scope": scope, **said}) for scope, said in scopes.items()}
    )


def simple(rate: str = "2/s", **fields: Any) -> PolicyTree:
    """Return a tree with one limit, ``spike``, per tenant, at ``/``."""
    return policies(**{"/": {"limits": {"spike": {"rate": rate, "per": "tenant", **fields}}}})


POISON = policies(**{"/": {"limits": {"spike": {"burst": 3}}}})
"""Policies with a limit without a rate: `ratectl` refuses them, and no agent enforces them."""

ROLLOUT = "7d1f0b1e52ab4c0f9e0d6a3c2b1a0f5e"
"""Id of a rollout, which decides which agents take part."""


def publish_policies(store: Store, tree: PolicyTree) -> HistoryEntry:
    """Publish a tree, and assert that it is a new generation."""
    entry = publish(store, tree, ME)
    assert entry is not None
    return entry


def embed_repository(folder: Path, command: str) -> None:
    """Write files that look like a Git repository with a command in its settings."""
    (folder / "objects").mkdir(parents=True)
    (folder / "objects" / "x").touch()
    (folder / "refs" / "heads").mkdir(parents=True)
    (folder / "refs" / "heads" / "main").write_text("0" * 39 + "1\n")
    (folder / "HEAD").write_text("ref: refs/heads/main\n")
    (folder / "config").write_text(
        '[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tworktree = "."\n'
        f'\tfsmonitor = "{command}"\n\thooksPath = "."\n[user]\n\tname = Mallory\n'
    )


class Link:
    """A TCP hop between a client and a server that can be cut, held (black hole) and restored."""

    def __init__(self, target_port: int) -> None:
        self._target = target_port
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._open = True
        self._flowing = threading.Event()
        self._flowing.set()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        started = threading.Event()
        self._loop.call_soon(started.set)
        self._loop.create_task(self._listen())
        self._thread.start()
        assert started.wait(5)

    def cut(self) -> None:
        """Reset every connection and refuse new ones."""
        self._do(self._cut())

    def restore(self) -> None:
        """Accept connections again, on the same port."""
        self._do(self._listen())

    def close(self) -> None:
        self.cut()
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _do(self, step: Any) -> None:
        asyncio.run_coroutine_threadsafe(step, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()

    async def _end(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, there[1]}
        try:
            await asyncio.gather(self._pump(reader, there[1]), self._pump(there[0], writer))
        finally:
            for side in (writer, there[1]):
                self._writers.discard(side)
                side.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


def hint_of(store: Store, shard: str) -> Hint:
    """Return who owns a shard of the limits across the cluster, as a store tells."""
    hints, _ = read_hints(store)
    return hints.get(shard) or Hint(shard, None, 0)
