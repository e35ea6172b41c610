"""Acceptance of signed records: which heads this agent may obey, and the newest one that it did."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ratectl.errors import BundleError

if TYPE_CHECKING:
    from ratectl.agent.last_good import LastGood, Slot
    from ratectl.agent.state import AgentState
    from ratectl.records import Head
    from ratectl.signing.continuation import Signable
    from ratectl.signing.signatures import Trust

__all__ = ["Acceptance"]


class Acceptance:
    """Verifies signatures, and remembers the newest accepted head. Without keys, accepts all."""

    def __init__(
        self,
        trust: Trust | None,
        slot: Slot,
        state: AgentState,
        newest: tuple[str, Head] | None = None,
    ) -> None:
        """``trust``: public keys; None without any. ``newest``: as known before a fork."""
        self._trust = trust
        self._slot = slot
        self._state = state
        self.newest = newest
        """The newest head that was obeyed, and its environment."""
        if trust is not None:
            self._remember(trust)

    def _remember(self, trust: Trust) -> None:
        """Restore the newest accepted head from disk, if its signature is valid."""
        for environment, head in self._slot.accepted():
            known, newest = self.newest or (None, None)
            with contextlib.suppress(BundleError):
                trust.verify(head, environment, known, newest)
                self.newest = environment, head

    @property
    def signed(self) -> bool:
        """True if this agent has public keys, and obeys only signed records."""
        return self._trust is not None

    def accept(self, head: Head, environment: str | None) -> None:
        """Note that a head of the store is obeyed.

        :raises BundleError: it must not be obeyed.
        """
        if self._trust is None:
            return
        known, newest = self.newest or (None, None)
        self._trust.verify(head, environment, known, newest)
        assert environment is not None
        if newest is None or head.sequence > newest.sequence:
            self.newest = environment, head
            try:
                self._slot.accept(environment, head)
            except OSError as error:
                self._state.problem("disk", f"cannot note what was accepted: {error}")

    def check_last_good(self, good: LastGood) -> None:
        """:raises BundleError: it must not be enforced."""
        if self._trust is None:
            return
        known = self.newest[0] if self.newest else good.environment
        try:
            # Its head may be older than the newest accepted one: later ones may have failed.
            self._trust.verify(good.head, good.environment, known, None)
        except BundleError as error:
            raise BundleError(f"last-good generation {good.generation}: {error}") from None

    def newest_sequence(self, good: LastGood) -> int:
        """Return the sequence of the newest accepted head that the disk knows."""
        if self._trust is None or good.environment is None:
            return good.head.sequence
        if self.newest is None or self.newest[1].sequence < good.head.sequence:
            self.newest = good.environment, good.head
        return self.newest[1].sequence

    def verify(self, record: Signable, origin: str | None, *, from_disk: bool) -> None:
        """Return if kill switches or a reset may be obeyed.

        ``origin``: environment of the store that the record is from, unless it is ``from_disk``.

        :raises Untrusted: this agent has public keys, and none of them signed the record.
        """
        if self._trust is None:
            return
        known = self.newest[0] if self.newest else None
        environment = (known or self._trust.environment) if from_disk else origin
        self._trust.verify_signature(
            record.KIND, record.signed_part(), record.signature, environment, known
        )
