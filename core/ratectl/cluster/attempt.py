"""One attempt to be a member of the cluster: the thread that speaks with the store."""

from __future__ import annotations

import logging
import secrets
import threading
from contextlib import suppress
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from ratectl.cluster.keeper import Keeper
from ratectl.cluster.roster import Roster
from ratectl.errors import RatectlError
from ratectl.records import ENVIRONMENT, Environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.cluster.peers import Peers
    from ratectl.cluster.protocol.timing import Timing
    from ratectl.cluster.transport.links import Links
    from ratectl.stores.base import Store

__all__ = ["Attempt"]

log = logging.getLogger("ratectl.cluster")

_PERSON: Final = b"ratectl cluster"
"""Separates this use of an environment's id, which only those know that read the store."""
_DRAIN: Final = 10.0
"""Seconds that the thread waits until the share is not used any more."""


class Attempt:
    """A thread that joins the roster, keeps the member's entry, and leaves.

    Whoever takes part reads the attributes. Only this thread waits for the store.
    """

    def __init__(
        self,
        open_store: Callable[[], Store],
        peers: Peers,
        agent_id: str,
        lasts: int,
        timing: Timing,
        clock: Callable[[], int],
        *,
        dedicated: bool = False,
    ) -> None:
        """``dedicated``: the member owns limits for others, and never has a share."""
        self._open_store = open_store
        self._peers = peers
        self.member = peers.member(agent_id, secrets.token_hex(4))
        self._lasts = lasts
        self._timing = timing
        self._clock = clock
        self._dedicated = dedicated
        self.decided = threading.Event()
        """Set when the member has joined, or has failed to."""
        self.keeper: Keeper | None = None
        """None: it has not joined."""
        self.links: Links | None = None
        """Links for the thread that speaks with peers, until it says ``ended``."""
        self.secret = secrets.token_bytes(16)
        """What all members of the environment number keys under, once it has joined."""
        self.problem: str | None = None
        self.error: RatectlError | None = None
        """What ``problem`` tells, if it is no error of this program."""
        self.handed_over = threading.Event()
        """Set when another member was named as owner, if this one is: nobody comes any more."""
        self._stopped = threading.Event()
        self._ended = threading.Event()
        self._leaves = True
        self._thread = threading.Thread(target=self._run, name="ratectl-roster", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to name another owner, and then to wait for ``end``."""
        self._stopped.set()
        keeper = self.keeper
        if keeper is not None:
            keeper.stop()

    def end(self, *, leaves: bool = True) -> None:
        """Say that the links are not used any more. The first call counts.

        :param leaves: the share is not lent or used any more: others may have it at once.
        """
        if not self._ended.is_set():
            self._leaves = leaves
        self._ended.set()
        self.stop()

    def is_over(self, timeout: float = 0) -> bool:
        """Wait (seconds) until the thread has ended; return False if it has not."""
        if self._thread.ident is None:
            return True  # it could not be started
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            store = self._open_store()
            try:
                self._serve(store)
            finally:
                store.close()
        except RatectlError as error:
            self.problem, self.error = str(error), error
        except Exception as error:  # nobody else sees an error of this thread
            log.debug("a member of the cluster", exc_info=error)
            self.problem = f"{type(error).__name__}: {error}"
        finally:
            self.decided.set()
            self.handed_over.set()

    def _serve(self, store: Store) -> None:
        record = store.get(ENVIRONMENT)
        environment = Environment.decode(record.value).id if record else "new"
        self.secret = blake2b(environment.encode(), digest_size=16, person=_PERSON).digest()
        with self._peers.links(self.member, environment, self._ended.is_set) as (links, address):
            self.links = links
            self._keep(store, address)

    def _keep(self, store: Store, address: str) -> None:
        roster = Roster(store, self.member, self._lasts, self._timing, dedicated=self._dedicated)
        keeper = Keeper(roster, address, self._lasts, self._clock)
        keeper.step(self._clock())  # it joins
        self.keeper = keeper
        if self._stopped.is_set():
            keeper.stop()
        self.decided.set()
        keeper.run()
        with suppress(RatectlError):  # then others find out by themselves
            keeper.hand_over()
        self.handed_over.set()
        if self._ended.wait(_DRAIN) and self._leaves:
            keeper.leave(self._clock())
