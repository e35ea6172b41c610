"""A process that owns limits across the cluster for others: ``ratectl cluster run``."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from ratectl.agent.cluster import ENTRY_LASTS, TIMING
from ratectl.agent.dedicated_report import DedicatedReport
from ratectl.agent.log import log
from ratectl.cluster.attempt import Attempt
from ratectl.cluster.dedicated import DedicatedNode
from ratectl.cluster.peers import peers_of
from ratectl.cluster.protocol.timing import MILLISECOND, SECOND
from ratectl.errors import UsageError
from ratectl.runtime.closing import Closing
from ratectl.stores import in_one_process, is_server, open_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.cluster.owned import OwnedLimit
    from ratectl.cluster.peers import Peers

__all__ = ["DedicatedOwner"]

_RETRY: Final = 1.0
"""Seconds between two attempts to join again."""
_HAND_OVER: Final = 2 * SECOND
_LEAVE: Final = 3.0


class DedicatedOwner(Closing):
    """Member of a cluster without a share: it owns the limits, or stands by.

    :param url: URL of the store.
    :param name: what the member's id begins with; no agent has it as its id.
    :raises UsageError: other processes do not use this store, or cannot reach this one.
    """

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name
        self._peers = _peers(url)
        self._stopped = threading.Event()
        self._attempt = self._new_attempt()
        self._node: DedicatedNode | None = None
        self._thread = threading.Thread(target=self._run, name="ratectl-owner", daemon=True)
        self._report = DedicatedReport(partial(open_store, url), name, self.owned)

    def start(self) -> str:
        """Join the cluster and begin to work; return the id of the member.

        :raises RatectlError: it cannot join.
        """
        self._attempt.start()
        self._attempt.decided.wait()
        if self._attempt.keeper is None:
            raise self._attempt.error or UsageError(self._attempt.problem or "it was closed")
        self._thread.start()
        self._report.start()
        return self._attempt.member

    def close(self) -> None:
        """Hand over to another member, and leave: within a few seconds. Safe to call twice."""
        self._stopped.set()
        node = self._node
        if node is not None:
            node.stop()
        if self._thread.ident is not None:
            self._thread.join()
        self._attempt.end()
        self._attempt.is_over(_LEAVE)
        self._report.close()

    def owned(self) -> Sequence[OwnedLimit]:
        """Return what this process pools, since the last call; nothing as a stand-by."""
        node = self._node
        return () if node is None else node.limits.take(time.monotonic_ns())

    # The thread that speaks with members --------------------------------------------------------

    def _run(self) -> None:
        while True:
            try:
                self._own(self._attempt)
            except Exception as error:  # noqa: BLE001  the thread must survive any error
                log.error("owning limits across the cluster failed", exc_info=error)
                self._stopped.wait(_RETRY)
            if self._stopped.is_set():
                return
            log.warning("member %s has lost its entry in the roster", self._attempt.member)
            if not self._joins_again():
                return

    def _own(self, attempt: Attempt) -> None:
        assert attempt.keeper is not None
        assert attempt.links is not None
        try:
            node = DedicatedNode(attempt.keeper, attempt.links, TIMING, time.monotonic_ns)
            self._node = node
            if not self._stopped.is_set():
                node.run()
            attempt.stop()  # it names another owner
            until = time.monotonic_ns() + _HAND_OVER
            while not attempt.handed_over.is_set() and time.monotonic_ns() < until:
                node.round(4 * MILLISECOND)
            node.drain()
        finally:
            self._node = None
            attempt.end()

    def _joins_again(self) -> bool:
        """Join under a new id; return False after ``close``."""
        problem = ""
        while not self._stopped.is_set():
            self._attempt.is_over(_LEAVE)
            attempt = self._attempt = self._new_attempt()
            attempt.start()
            attempt.decided.wait()
            if attempt.keeper is not None:
                log.info("member %s has joined", attempt.member)
                return True
            if attempt.problem and attempt.problem != problem:
                problem = attempt.problem
                log.warning("it cannot join again: %s", problem)
            self._stopped.wait(_RETRY)
        return False

    def _new_attempt(self) -> Attempt:
        return Attempt(
            partial(open_store, self._url), self._peers, self._name, ENTRY_LASTS, TIMING,
            time.monotonic_ns, dedicated=True,
        )  # fmt: skip


def _peers(url: str) -> Peers:
    """Return the way to the processes that use a store.

    :raises UsageError: there is none.
    """
    if in_one_process(url):
        raise UsageError(f"no other process can use {url}: name a store that several share")
    peers = peers_of(server=is_server(url))
    if peers is None:
        raise UsageError(
            "members on other machines cannot reach this process: set RATECTL_CLUSTER_LISTEN to "
            "an address such as 10.0.0.5:7946, and certificates (docs/cluster.md)"
        )
    return peers
