# The compiled core of the engine; see csrc/_fast.c.

from collections.abc import Callable, Iterable
from typing import Any, Final

from ratectl.engine.cost import Cost
from ratectl.engine.decision import Decision as _Decision

MOST: Final[int]

def floor(*args: object) -> None: ...
def now() -> int: ...
def bind(
    describe: Callable[[Any], str],
    settle_nothing: Callable[[Any, object], None],
    explain: Callable[[Any], object],
    /,
) -> None: ...
def fill(
    group: Group, at: int, most: int, now: int, /
) -> tuple[int, tuple[int, int, int, int, int]]: ...
def witness(file: int, /) -> bool: ...
def dismiss(file: int, /) -> None: ...

class Wallet:
    deadline: int
    granted: int
    reported: int
    free: int
    missed: int
    largest: int

class Rule:
    kind: int
    def __init__(
        self,
        kind: int,
        blocked: bool,
        most: int,
        per_ns: int,
        per_token: int,
        window_ns: int,
        cells: int,
        hold_ns: int,
        even: int,
        offset: object,
        /,
    ) -> None: ...

class Slot:
    cost: int
    until: int
    def release(self) -> None: ...

class Batch:
    held: int
    closed: bool
    soonest: int
    def take(self, cost: int, until: int, /) -> Slot: ...
    def expire(self, now: int, /) -> None: ...

class Counters:
    allowed: int
    refused: int
    never: int
    shadow_refused: int
    waited: int
    absent: int
    lowest: int | None
    refused_keys: dict[object, int]
    busiest: list[tuple[object, int, int, int]]
    sampled: int
    skipped: int
    def halve(self) -> None: ...
    def seen(self, key: int, shown: object, /) -> None: ...
    def refuse(self, key: int, shown: object, never: bool, /) -> None: ...

class Group:
    rule: Rule
    epoch: int
    shadow: bool
    skips: bool
    owner: Callable[[], Any]
    count: int
    former: int
    boxed: list[int]
    def key(self, attributes: object, /) -> int: ...
    def mark(self, key: int, /) -> None: ...
    def marked(self, key: int, /) -> bool: ...
    def serial(self) -> int: ...
    def get(self, key: int, /) -> Any: ...
    def set(self, key: int, bucket: tuple[int, int, Any] | list[Any], /) -> bool: ...
    def add(self, key: int, now: int, held: list[tuple[Group, int]], /) -> bool: ...
    def remove(self, key: int, /) -> None: ...
    def get_shared(self, slot: int, /) -> Any: ...
    def set_shared(self, slot: int, bucket: tuple[int, int, Any] | list[Any], /) -> bool: ...
    def shared_slots(self) -> list[int]: ...
    def clear_shared(self) -> None: ...
    def changed(
        self, seq: int, now: int, before: Rule, after: Rule, native: bool, left: bool, /
    ) -> None: ...
    def free_saved(self) -> None: ...
    def forget(self, before: int, /) -> None: ...
    def begin(self, fields: tuple[Any, ...] | None, /) -> None: ...
    def know(self, start: int, end: int, /) -> None: ...
    def behind(self, at: int, most: int, /) -> tuple[int, list[int]]: ...
    def drop(self, chunks: int, /) -> int: ...
    def flush(self) -> None: ...
    def retire(self) -> None: ...

class Chooser:
    memos: tuple[dict[object, int], ...]
    states: int
    def __init__(self, names: tuple[str, ...], /) -> None: ...
    def learn(self, classes: tuple[int, ...], /) -> int: ...

class Selection: ...

class Active:
    def __init__(self, chooser: Chooser | None, /) -> None: ...
    def choose(self, state: int | None, selection: Selection, /) -> None: ...

class Decision(_Decision):
    _costs: dict[str, int] | None
    _notes: Any
    def _charges(self) -> Any: ...
    def _request(self) -> Any: ...

class Core:
    turn: int
    last: int
    mirrored: bool
    watched: bool
    no_policy: int
    failed: Any
    unready: Any
    buckets: int
    most_buckets: int
    bytes: int
    overflowed: int
    evicted: int
    most_bytes: int
    timings: tuple[tuple[int, ...], int]
    sweeping: bool
    evicts: bool
    def __init__(
        self,
        own_clock: bool,
        hash_here: bool,
        k0: int,
        k1: int,
        key_bits: int,
        max_bytes: int,
        max_buckets: int,
        slowly: Callable[..., Any],
        engine: object,
        plain: Callable[..., object],
        usage_error: type[Exception],
        /,
    ) -> None: ...
    def check(
        self, scope: str, attributes: Any = ..., cost: Cost = 1, now: int | None = None
    ) -> _Decision: ...
    def check_many(self, requests: Iterable[Any], now: int | None = None, /) -> list[_Decision]: ...
    def attempt(
        self, scope: str, attributes: Any, cost: Cost, now: int | None, alone: bool, waits: bool, /
    ) -> tuple[_Decision, int] | None: ...
    def gate(self, scope: str, names: tuple[str, ...], cost: Cost, /) -> Callable[..., bool]: ...
    def install(self, active: dict[str, Active | None], generation: int, /) -> None: ...
    def select(
        self, scope: str, groups: tuple[Group, ...], shadow: bool, marks: tuple[Group, ...], /
    ) -> Selection: ...
    def group(
        self, scope: str, name: str, per: tuple[str, ...], counters: Any, unit: str | None, /
    ) -> Group: ...
