"""The in-memory store, for tests and examples: ``memory://NAME``.

- **One process.** All stores of one name in a process share their contents. They live until the
  process ends. The command line refuses such a store.
- **Fork.** A child cannot use its parent's stores: every call raises ``StoreUnavailable``. Names
  that the parent has not opened are free for the child.
- **Bounded history.** The last 1,000 revisions are kept for watches; older ones are compacted.
- **Leases** use the monotonic clock. The next call, or a watch, ends a lease that is due.
"""

from __future__ import annotations

from ratectl.stores.memory.store import MemoryStore

__all__ = ["MemoryStore"]
