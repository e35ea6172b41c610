"""The thread that keeps in touch with the server: it says that this process lives, frees slots,
corrects costs, and probes a server that failed."""

from __future__ import annotations

import json
import logging
import os
import random
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from ratectl.central.failure import ServerFailed
from ratectl.central.keys import alive_name
from ratectl.central.question import correction, freeing
from ratectl.central.scripts import BEAT, Call
from ratectl.central.server import ThreadServer
from ratectl.runtime.wakeup import Wakeup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sized

    from ratectl.central.address import ServerAddress
    from ratectl.central.failure import Breaker
    from ratectl.central.question import Count, Slots

__all__ = ["Keeper"]

log = logging.getLogger("ratectl.redis")

_BEAT: Final = 1.0
"""Seconds between two beats."""
_LIVES: Final = 5_000_000
"""Microseconds after its last beat for which a process counts as live."""
_FIRST_PROBE: Final = 0.25
_LAST_PROBE: Final = 5.0
_MOST_KEPT: Final = 10_000
"""Most slots to free, and most corrections, that wait for the server. More are dropped: slots end
after their ``hold``."""
_MOST_CHARGES: Final = 100_000
"""Most charges that wait for the server. More are dropped."""
_MOST_AT_ONCE: Final = 100


class Keeper:
    """Thread and notes of one process. Only ``run`` waits for the server."""

    def __init__(
        self,
        address: ServerAddress,
        deadline: float,
        breaker: Breaker,
        wall_us: Callable[[], int],
    ) -> None:
        """``wall_us``: about the server's time, in microseconds since 1970."""
        self._wall_us = wall_us
        self.server = ThreadServer(address, deadline)
        self._prefix = ""
        self.live: int | None = None
        """Live processes as of the last beat; None before the first one."""
        self.process = os.urandom(8).hex()
        self._breaker = breaker
        self._freed: dict[Slots, None] = {}
        self._corrections: deque[Call] = deque()
        self._charges: deque[Count] = deque()
        self._dropped = 0
        """Notes that were dropped, and were not told of yet."""
        self._sending = False
        self._wakeup = Wakeup()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def started(self) -> bool:
        """True once the thread was started."""
        return self._thread is not None

    def start(self, prefix: str) -> None:
        """Start the thread, unless it runs."""
        self._prefix = prefix
        if self._thread is None and not self._stopped.is_set():
            self._thread = threading.Thread(target=self._run, name="ratectl-redis", daemon=True)
            self._thread.start()

    # Notes, from any thread or handler ----------------------------------------------------------

    def free(self, slots: Slots) -> None:
        """Free slots soon. A decision of this process about the same count frees them as well."""
        if self._has_room(self._freed, _MOST_KEPT):
            self._freed[slots] = None
            self._wakeup.set()

    def correct(self, call: Call) -> None:
        """Correct costs soon, once: a correction whose outcome is unknown is not repeated."""
        if self._has_room(self._corrections, _MOST_KEPT):
            self._corrections.append(call)
            self._wakeup.set()

    def charge(self, count: Count) -> None:
        """Charge one bucket soon, once, whatever is left. Charges of one bucket are sent as one."""
        if self._has_room(self._charges, _MOST_CHARGES):
            self._charges.append(count)
            self._wakeup.set()

    def _has_room(self, notes: Sized, most: int) -> bool:
        """Return True if one more note may wait; else count it as dropped."""
        if len(notes) < most:
            return True
        self._dropped += 1
        return False

    def to_free(self, keys: Iterable[str]) -> list[Slots]:
        """Return slots that were released, and may not be free yet, of these counts."""
        if not self._freed:
            return []
        wanted = set(keys)
        return [slots for slots in tuple(self._freed) if slots.key in wanted][:_MOST_AT_ONCE]

    def are_free(self, freed: Iterable[Slots]) -> None:
        """Note that the server has freed slots."""
        for slots in freed:
            self._freed.pop(slots, None)

    @property
    def is_idle(self) -> bool:
        """True if nothing waits for the server."""
        waiting = self._freed or self._corrections or self._charges
        return not waiting and not self._sending

    # The thread ---------------------------------------------------------------------------------

    def wake(self) -> None:
        """Wake the thread: there may be work, or the breaker has opened."""
        self._wakeup.set()

    def _run(self) -> None:
        """Work until ``close``. Never raises."""
        pause, beat_at = _FIRST_PROBE, time.monotonic()
        while not self._stopped.is_set():
            self._tell_of_dropped()
            if self._breaker.is_open:
                if self._stopped.wait(self._pause(pause)):
                    return
                pause = min(_LAST_PROBE, pause * 2)
                if self._beat():
                    self._breaker.close()
                continue
            pause = _FIRST_PROBE
            self._send()
            if time.monotonic() >= beat_at:
                self._beat()
                beat_at = time.monotonic() + self._pause(_BEAT)
            self._wakeup.wait(beat_at - time.monotonic())

    def _tell_of_dropped(self) -> None:
        dropped, self._dropped = self._dropped, 0
        if dropped:
            log.warning(
                "%d releases, charges or corrections of limits across: redis were dropped, because "
                "too many wait for the server: the limits may admit more for a while",
                dropped,
            )

    @staticmethod
    def _pause(seconds: float) -> float:
        """Return a pause with jitter, so that processes do not come all at once."""
        return seconds * random.uniform(0.75, 1.25)  # noqa: S311  no secret

    def _beat(self, span: int = _LIVES) -> bool:
        argument = json.dumps({"id": self.process, "span": span})
        live = self._asked(Call(BEAT, [alive_name(self._prefix)], argument))
        if isinstance(live, int):
            self.live = max(1, live)
        return live is not None

    def _send(self) -> None:
        self._sending = True
        try:
            while self._freed and not self._breaker.is_open:
                batch = list(self._freed)[:_MOST_AT_ONCE]
                if self._asked(freeing(batch)) is None:
                    break
                self.are_free(batch)
            while self._corrections and not self._breaker.is_open:
                self._asked(self._corrections.popleft())
            while self._charges and not self._breaker.is_open:
                self._send_charges()
        finally:
            self._sending = False

    def _send_charges(self) -> None:
        """Send the oldest charges: one call for many buckets."""
        sums: dict[str, tuple[Count, int]] = {}
        while self._charges and len(sums) < _MOST_AT_ONCE:
            count = self._charges.popleft()
            _, before = sums.get(count.name, (count, 0))
            sums[count.name] = count, before + (count.cost or 0)
        now = self._wall_us()
        self._asked(correction([(count, more, 0) for count, more in sums.values()], now, now))

    def _asked(self, call: Call) -> Any:
        """Return the answer of a script; None for a failure, which is noted."""
        try:
            return self.server.run(call)
        except ServerFailed as error:
            self._breaker.failed(error)
            return None

    # The end ------------------------------------------------------------------------------------

    def close(self) -> None:
        """Send what waits, leave, and end the thread. Takes a few deadlines at most."""
        self._stopped.set()
        self._wakeup.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(2.0)
            if not self._breaker.is_open:
                self._send()
                self._beat(0)
        self.server.close()
