"""Other libraries, in memory, set up as documented and so that they admit.

Left out: limiters that log every request (`limits` moving window, pyrate-limiter's
``InMemoryBucket``), which cannot admit one key for ever; and limiters that only sleep.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from bench.deciding.candidate import KEY, Candidate

if TYPE_CHECKING:
    from bench.deciding.candidate import Builder, Setting

__all__ = ["LIMITS_FIXED", "PEERS"]

LIMITS_FIXED = "limits: fixed window"

_DAY = 86_400


def _limits(strategy: str, setting: Setting) -> Candidate:
    """Its memory store has a timer thread that visits all keys; the candidate waits for it."""
    import limits

    storage = limits.storage.MemoryStorage()
    names = {
        "hit": getattr(limits.strategies, strategy)(storage).hit,
        "item": limits.RateLimitItemPerDay(setting.most),
    }

    def rest() -> None:
        storage.timer.join()  # the timer changes, so read it again

    return Candidate("peer", "hit(item, key)", names, rest=rest)


def _throttled(using: str, setting: Setting) -> Candidate:
    """Its memory store holds 1,024 keys by default, and then forgets the oldest."""
    import throttled
    from throttled.rate_limiter import Quota, Rate
    from throttled.store import MemoryStore

    bucket = using in ("token_bucket", "gcra")
    rate = Rate(timedelta(days=1), setting.per_day if bucket else setting.most)
    store = MemoryStore(options={"MAX_SIZE": 2 * setting.keys})
    names = {
        "limit": throttled.Throttled(
            using=using, quota=Quota(rate, setting.most), store=store
        ).limit
    }
    return Candidate("peer", "limit(key)", names, admitted="not {}.limited")


def _pyrate(setting: Setting) -> Candidate:
    """Its default is one bucket for all keys: this factory makes one for each, as documented."""
    import pyrate_limiter as pyrate

    rates = [pyrate.Rate(setting.per_day, pyrate.Duration.DAY, burst=setting.most)]
    clock = pyrate.MonotonicClock()

    class Factory(pyrate.BucketFactory):  # type: ignore[misc]
        def __init__(self) -> None:
            self._buckets: dict[str, pyrate.StateBucket] = {}

        def wrap_item(self, name: str, weight: int = 1) -> Any:
            return pyrate.RateItem(name, clock.now(), weight=weight)

        def get(self, item: Any) -> Any:
            bucket = self._buckets.get(item.name)
            if bucket is None:
                # Not ``create``: its thread visits all buckets, which have nothing to leak.
                bucket = self._buckets[item.name] = pyrate.StateBucket(rates, pyrate.GCRA())
            return bucket

    names = {"acquire": pyrate.Limiter(Factory()).try_acquire}
    return Candidate("peer", "acquire(key, blocking=False)", names)


def _token_bucket(setting: Setting) -> Candidate:
    """No lock: its documentation calls the effect of races negligible."""
    import token_bucket

    storage = token_bucket.MemoryStorage()
    limiter = token_bucket.Limiter(setting.per_day / _DAY, setting.most, storage)
    return Candidate("peer", "consume(key)", {"consume": limiter.consume}, locked=False)


def _aiolimiter(setting: Setting) -> Candidate:
    """One object for each key, for one event loop; it waits instead of refusing."""
    import aiolimiter

    class Limiters(dict[str, Any]):
        def __missing__(self, key: str) -> Any:
            made = aiolimiter.AsyncLimiter(setting.most, setting.most * _DAY / setting.per_day)
            self[key] = made
            return made

    limiters = Limiters()
    return Candidate(
        "peer",
        "await acquire()",
        {"acquire": limiters[KEY].acquire, "limiters": limiters},
        "await limiters[key].acquire()",
        locked=False,
        asynchronous=True,
    )


PEERS: dict[str, Builder] = {
    LIMITS_FIXED: lambda setting: _limits("FixedWindowRateLimiter", setting),
    "limits: sliding-window counter": lambda setting: _limits(
        "SlidingWindowCounterRateLimiter", setting
    ),
    "throttled-py: fixed window": lambda setting: _throttled("fixed_window", setting),
    "throttled-py: sliding window": lambda setting: _throttled("sliding_window", setting),
    "throttled-py: token bucket": lambda setting: _throttled("token_bucket", setting),
    "throttled-py: GCRA": lambda setting: _throttled("gcra", setting),
    "pyrate-limiter: GCRA": _pyrate,
    "token-bucket": _token_bucket,
    "aiolimiter": _aiolimiter,
}
