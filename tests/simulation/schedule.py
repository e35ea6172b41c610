"""Random schedules: what a simulated cluster is, what it is asked for, and what happens to it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from ratectl.cluster.protocol.timing import MILLISECOND as MS

DURATION: Final = 2_000 * MS
KEYS: Final = (("one", ""), ("keyed", "a"), ("keyed", "b"))
FAULTS: Final = (
    *["pause"] * 2, *["cut"] * 2, "crash", "crash_owner", *["hint"] * 2, "hint_all", "calm",
    *["store"] * 2, "close", "donate", "resize", "join",
)  # fmt: skip


class Step(NamedTuple):
    """Something that happens at an instant of true time."""

    at: int
    what: str
    args: tuple[int, ...] = ()


@dataclass(frozen=True)
class Schedule:
    """A run of the simulation: it depends on nothing else."""

    seed: int
    members: int = 3
    owners: int = 1
    rate: int = 1_000
    burst: int = 100
    drift: int = 0
    """Bound on the drift of clocks, in millionths."""
    window: int = 0
    """Nanoseconds. 0: token buckets; otherwise ``burst`` is admitted in any window, and ``rate`` is
    of no account."""
    added: int = 0
    """Tokens that each member adds to its share."""
    kept: int = 0
    """Tokens of its share that each member does not lend, if it has twice as many."""
    algorithms: bool = False
    """Each other new size is one of token buckets."""
    gap: int = 2 * MS
    whole: int = 1_000_000
    """Sum of the shares, in millionths."""
    loss: float = 0
    repeat: float = 0
    slow: float = 0
    slow_by: tuple[int, ...] = (20, 40, 55, 80, 150, 400)
    """Milliseconds."""
    roster: bool = False
    """Members renew entries, and lose their shares if they do not."""
    refunds: float = 0
    """How many requests cost less than they were charged."""
    stock: int | None = None
    """Tokens that members hold without requests. None: as owners say."""
    steps: tuple[Step, ...] = field(default=(), repr=False)

    @property
    def largest(self) -> int:
        """Most members that there are at a time, those that are gone included."""
        return self.members + sum(step.what == "join" for step in self.steps)

    def shrunk(self, steps: tuple[Step, ...]) -> Schedule:
        return replace(self, steps=steps)

    def __str__(self) -> str:
        return "\n".join(
            [repr(self), *(f"{at / MS:9.2f} ms  {what} {args}" for at, what, args in self.steps)]
        )


def random_schedule(seed: int, duration: int = DURATION) -> Schedule:
    """Return a hostile schedule: members hoard, clocks differ, and everything fails at times."""
    rnd = random.Random(seed)
    members = rnd.choice([2, 2, 3, 4])
    rate = rnd.choice([200, 1_000, 5_000])
    burst = rnd.choice([4, 20, 100, rate // 4 + 2])
    loss, repeat, slow = rnd.choice(
        [(0, 0, 0), (0.02, 0.1, 0.02), (0.1, 0.2, 0.1), (0.02, 0.1, 0.35)]
    )
    one_way = rnd.random() < 0.4
    added, kept = random.Random(f"beside {seed}").choice([(0, 0)] * 5 + [(1, 0), (2, 0), (0, 1)])
    schedule = Schedule(
        seed=seed,
        members=members,
        owners=rnd.choice([1, 2, 2]),
        rate=rate,
        burst=burst,
        added=added,
        kept=kept,
        drift=rnd.choice([0, 0, 100_000]),
        gap=rnd.choice([2, 8]) * MS,
        whole=rnd.choice([1_000_000, 1_000_000, 700_000]),
        loss=loss,
        repeat=repeat,
        slow=slow,
        slow_by=(20, 40, 55) if one_way else (20, 40, 55, 80, 150, 400),
        roster=rnd.random() < 0.5,
        refunds=random.Random(f"refunds {seed}").choice([0, 0, 0.3, 0.9]),
        stock=rnd.choice([None, 3, burst // members, burst * 9 // 10]),
    )
    steps = [*_faults(rnd, schedule, duration, one_way=one_way), *_load(rnd, schedule, duration)]
    return schedule.shrunk(tuple(sorted(steps)))


def _faults(rnd: random.Random, of: Schedule, duration: int, *, one_way: bool) -> list[Step]:
    steps = []
    at = 5 * MS
    while at < duration:
        kind = rnd.choice(FAULTS)
        lasts = int(10 ** rnd.uniform(1, 2.8) * MS)
        a, b, ways = rnd.randrange(64), rnd.randrange(64), 1 if one_way else rnd.randrange(3)
        steps.append(Step(at, kind, (a, b, lasts, ways)))
        if kind in {"cut", "pause", "crash", "crash_owner", "hint_all", "close"}:
            for _ in range(3):  # floods, when shares may come back
                flood = at + rnd.randrange(20, 300) * MS
                key = rnd.randrange(len(KEYS)) if rnd.random() < 0.5 else 0
                steps.extend(
                    Step(flood + rnd.randrange(300_000), "ask", (i, key, 1, 2 * of.burst))
                    for i in range(of.members + 2)
                )
        at += int(10 ** rnd.uniform(1, 2.3) * MS)
    return steps


def _load(rnd: random.Random, of: Schedule, duration: int) -> list[Step]:
    steps = []
    at = 3 * MS
    while at < duration:
        key = rnd.randrange(len(KEYS)) if rnd.random() < 0.3 else 0
        cost = 1 if rnd.random() < 0.8 else rnd.randint(1, of.burst)
        chance = rnd.random()
        if chance < 0.15:
            steps.extend(
                Step(at + rnd.randrange(3 * MS), "ask", (i, key, cost, 2 * of.burst // cost))
                for i in range(of.members + 2)
            )
        elif chance < 0.4:
            count = rnd.randint(1, max(1, 2 * of.burst // cost))
            steps.append(Step(at, "ask", (rnd.randrange(64), key, cost, count)))
        else:
            steps.append(Step(at, "ask", (rnd.randrange(64), key, cost, rnd.randint(1, 3))))
        at += int(10 ** rnd.uniform(-0.5, 1.7) * MS)
    return steps


def window_schedule(seed: int, duration: int = DURATION) -> Schedule:
    """Return a hostile schedule for limits that are sliding windows."""
    rnd = random.Random(f"windows {seed}")
    return replace(
        random_schedule(seed, duration),
        window=rnd.choice([80, 80, 200, 500]) * MS,
        algorithms=rnd.random() < 0.2,
    )
