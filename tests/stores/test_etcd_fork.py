"""Fork of a busy process: the parent's store is unaffected, the child opens a store of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest
from etcd_helpers import environment

if TYPE_CHECKING:
    from etcd_server import EtcdServer

pytestmark = pytest.mark.etcd

# The script runs in a separate process, since the test process has other threads and channels. It
# forks repeatedly while one thread watches and another one reads. It prints what failed, or exits
# with 0. An alarm ends a child that hangs.
SCRIPT = """
    import os, signal, sys, threading, time
    from ratectl.errors import UsageError
    from ratectl.stores.base import Events, Interrupted
    from ratectl.stores.etcd import EtcdStore

    url, forks = sys.argv[1], int(sys.argv[2])

    def follow(store, start):
        seen = []
        watch = store.watch("", start)
        thread = threading.Thread(target=take, args=(watch, seen))
        thread.start()
        return watch, thread, seen

    def take(watch, seen):
        for event in watch:
            seen.append(event)

    def has(seen, revision):
        end = time.monotonic() + 10
        while time.monotonic() < end:
            if any(isinstance(e, Events) and e.revision == revision for e in list(seen)):
                return True
            time.sleep(0.01)
        return False

    def child(inherited, old_watch):
        signal.alarm(20)
        for call in (lambda: inherited.get("k"), lambda: inherited.put("k", b"")):
            try:
                call()
            except UsageError as error:
                assert "fork" in str(error)
            else:
                raise AssertionError("an inherited store was usable")
        old_watch.close()
        inherited.close()
        with EtcdStore.from_url(url) as store:
            start = store.put("child", b"")
            watch, thread, seen = follow(store, start)
            assert has(seen, start)
            grandchild = os.fork()
            if grandchild == 0:
                signal.alarm(20)
                with EtcdStore.from_url(url) as own:
                    own.get("k")
                os._exit(0)
            assert os.waitpid(grandchild, 0)[1] == 0, "grandchild"
            assert has(seen, store.put("child", b"again"))
        thread.join(5)
        assert not thread.is_alive()

    store = EtcdStore.from_url(url)
    watch, thread, seen = follow(store, store.list("").revision + 1)
    stop, reads, failures = threading.Event(), [], []

    def read():
        while not stop.is_set():
            try:
                store.get("k")
                reads.append(1)
            except Exception as error:
                failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    slowest = 0
    for n in range(forks):
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                child(store, watch)
                code = 0
            finally:
                sys.stdout.flush()
                os._exit(code)
        slowest = max(slowest, time.monotonic() - began)
        assert os.waitpid(pid, 0)[1] == 0, "child"
    assert has(seen, store.put("parent", b"")), "the parent's watch ended"
    stop.set()
    reader.join()
    store.close()
    thread.join(5)
    assert not thread.is_alive()
    assert not failures, failures
    assert reads
    assert not [e for e in seen if isinstance(e, Interrupted)], seen
    assert slowest < 1, slowest
"""


@pytest.mark.parametrize("support", [None, "0", "1"])
def test_fork_does_not_affect_the_parent_and_the_child_opens_a_new_store(
    etcd_server: EtcdServer, support: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result does not depend on the setting of gRPC's fork support."""
    monkeypatch.delenv("GRPC_ENABLE_FORK_SUPPORT", raising=False)
    if support is not None:
        monkeypatch.setenv("GRPC_ENABLE_FORK_SUPPORT", support)
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), etcd_server.store_url(environment()), "5"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stdout + result.stderr
