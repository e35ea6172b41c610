"""The record ``agents/<id>`` of an agent: one process at a time holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.errors import BundleError
from ratectl.records import AGENTS, BEATS, AgentRecord
from ratectl.stores.base import Compare, Put

if TYPE_CHECKING:
    from ratectl.stores.base import Item, Lease, Store

__all__ = ["OwnRecord"]

_ATTEMPTS: Final = 2
"""Writes in a row: the second one follows a look at the record that is there."""


class OwnRecord:
    """Writes an agent's record, unless another process holds it: two may be given one id.

    A record of the same instance (see ``Slot``) is that of an earlier run. Any other record ends
    with the lease of its process, and a process that lives writes a beat with every usage report.
    """

    def __init__(self, agent_id: str, instance: str) -> None:
        self._id = agent_id
        self._instance = instance
        self._revision = 0
        """Revision of this process's last write; 0 while there is none in the store."""
        self._others: tuple[int, int] | None = None
        """Revisions of another process's record and beat, as they were first seen."""
        self.problem: str | None = None
        """Description of another process that holds the record and lives; None without one."""

    @property
    def held(self) -> Compare:
        """Return the condition that nobody else has written the record."""
        return Compare(AGENTS + self._id, self._revision)

    def write(self, store: Store, record: AgentRecord, lease: Lease) -> bool:
        """Write the record. Return False if another process holds it."""
        put = Put(AGENTS + self._id, record.encode(), lease)
        for _ in range(_ATTEMPTS):
            result = store.txn([self.held], [put])
            if result.ok:
                self._revision = result.revision
                self._others = self.problem = None
                return True
            item = store.get(AGENTS + self._id)
            other = None if item is None else self._other(item)
            if item is not None and other is not None:
                self._look_for_life(store, item, other)
                return False
            self._revision = 0 if item is None else item.mod_revision
        return False

    def _other(self, item: Item) -> AgentRecord | None:
        """Return the record of another process; None for one that may be overwritten."""
        try:
            record = AgentRecord.decode(item.value)
        except BundleError:
            return None
        # Agents of older versions name no instance.
        return record if record.instance not in ("", self._instance) else None

    def _look_for_life(self, store: Store, item: Item, other: AgentRecord) -> None:
        """Set the problem once the other process has written something since it was first seen."""
        beat = store.get(BEATS + self._id)
        if beat is None:
            return
        seen = (item.mod_revision, beat.mod_revision)
        self._others = self._others or seen
        if seen != self._others:
            self.problem = (
                f"another process uses the agent id {self._id} (pid {other.pid} on {other.host}): "
                "give each its own --id; until then, `ratectl agents` and `ratectl usage` do not "
                "show this process"
            )
