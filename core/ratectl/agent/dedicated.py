"""A process that owns limits across the cluster for others: ``ratectl cluster run``."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Final

from ratectl.agent.cluster import ENTRY_LASTS, TIMING
from ratectl.agent.dedicated_report import DedicatedReport
from ratectl.agent.log import log
from ratectl.cluster.attempt import Attempt
from ratectl.cluster.dedicated import DedicatedNode
from ratectl.cluster.peers import peers_of
from ratectl.cluster.protocol.timing import SECOND
from ratectl.errors import RatectlError, UsageError
from ratectl.records import ENVIRONMENT
from ratectl.runtime.closing import Closing
from ratectl.stores import in_one_process, is_server, open_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.cluster.owned import OwnedLimit
    from ratectl.cluster.peers import Peers

__all__ = ["DedicatedOwner"]

_RETRY: Final = 1.0
"""Seconds between two attempts to join."""
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
        self._attempt: Attempt | None = None
        self._node: DedicatedNode | None = None
        self._thread = threading.Thread(target=self._run, name="ratectl-owner", daemon=True)
        self._report = DedicatedReport(partial(open_store, url), name, self.owned)

    @property
    def member(self) -> str | None:
        """Id of the member; None if it has not joined yet."""
        return None if self._attempt is None else self._attempt.member

    def start(self) -> None:
        """Join the cluster and begin to work. Before the first publication, only wait for it.

        :raises RatectlError: it cannot join.
        """
        if self._is_published():
            self._join()
        else:
            log.info("nothing is published in %s yet: it joins after that", self._url)
        self._thread.start()
        self._report.start()

    def close(self) -> None:
        """Hand over to another member, and leave: within a few seconds. Safe to call twice."""
        self._stopped.set()
        node = self._node
        if node is not None:
            node.stop()
        if self._thread.ident is not None:
            self._thread.join()
        self._leave()
        self._report.close()

    def owned(self) -> Sequence[OwnedLimit]:
        """Return what this process pools, since the last call; nothing as a stand-by."""
        node = self._node
        return () if node is None else node.owned(time.monotonic_ns())

    # The thread that speaks with members --------------------------------------------------------

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                if self._attempt is None and not self._joins():
                    return
                self._own()
            except Exception as error:  # noqa: BLE001  the thread must survive any error
                log.error("owning limits across the cluster failed", exc_info=error)
                self._stopped.wait(_RETRY)
            if not self._stopped.is_set():
                log.warning("member %s has lost its entry in the roster", self.member)
                self._leave()

    def _own(self) -> None:
        attempt = self._attempt
        assert attempt is not None
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
                node.round()
            node.drain()
        finally:
            self._node = None
            attempt.end()

    # Joining and leaving -------------------------------------------------------------------------

    def _is_published(self) -> bool:
        """Return True if the store has an identity: members of another one are refused."""
        with closing(open_store(self._url)) as store:
            return store.get(ENVIRONMENT) is not None

    def _joins(self) -> bool:
        """Join as soon as that is possible; return False after ``close``."""
        problem = ""
        while not self._stopped.is_set():
            try:
                if self._is_published():
                    self._join()
                    return True
            except RatectlError as error:
                if str(error) != problem:
                    problem = str(error)
                    log.warning("it cannot join: %s", problem)
            self._stopped.wait(_RETRY)
        return False

    def _join(self) -> None:
        """Join under a new id.

        :raises RatectlError: it cannot join.
        """
        attempt = Attempt(
            partial(open_store, self._url), self._peers, self._name, ENTRY_LASTS, TIMING,
            time.monotonic_ns, dedicated=True,
        )  # fmt: skip
        attempt.start()
        attempt.decided.wait()
        if attempt.keeper is None:
            raise attempt.error or UsageError(attempt.problem or "it was closed")
        self._attempt = attempt
        log.info("ready: member %s of the cluster of %s", attempt.member, self._url)

    def _leave(self) -> None:
        attempt = self._attempt
        if attempt is not None:
            attempt.end()
            attempt.is_over(_LEAVE)
            self._attempt = None


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
