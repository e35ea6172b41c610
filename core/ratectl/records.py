"""What the store holds: keys, and the JSON records under them.

=========================  ====================================================================
key                        value
=========================  ====================================================================
``environment``            identity of the environment, written once
``head``                   the live generation, and a candidate beside it: what agents watch
``head/controller``        who controls a rollout now (under a lease); agents watch this as well
``head/panic``             kill switches that are on (see ``panic``); and this
``history/<generation>``   who published what, when, from which commit
``rollouts/<generation>``  how a candidate is to be tried, how far it got, and how it ended
``manifests/<sha256>``     size and number of chunks of a blob, and when it was last wanted
``bundles/<sha256>/<n>``   the blob, in chunks: policies, where they were written (origins), the
                           files that they were written in (documents), or who owns them (owners)
``agents/<id>``            what an agent runs (under a lease)
``usage/<id>``             what an agent has counted (under the same lease)
``beats/<id>``             that it lives, and how much it has decided: what is looked at often
=========================  ====================================================================

Records are read tolerantly (an older reader ignores fields that a newer writer adds), except for
``format``, which says when that would be wrong.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Self

from ratectl.errors import BundleError

__all__ = [
    "AGENTS",
    "BEATS",
    "BUNDLES",
    "CONTROLLER",
    "ENVIRONMENT",
    "HEAD",
    "HISTORY",
    "MANIFESTS",
    "ROLLOUTS",
    "USAGE",
    "AgentRecord",
    "Beat",
    "BesideReport",
    "Candidate",
    "Controller",
    "Environment",
    "Head",
    "HistoryEntry",
    "LimitReport",
    "Manifest",
    "Obeyed",
    "Record",
    "RolloutRecord",
    "UsageRecord",
    "chunk_key",
    "history_key",
    "rollout_key",
    "utc_now",
]

ENVIRONMENT = "environment"
HEAD = "head"
CONTROLLER = "head/controller"
ROLLOUTS = "rollouts/"
HISTORY = "history/"
MANIFESTS = "manifests/"
BUNDLES = "bundles/"
AGENTS = "agents/"
USAGE = "usage/"
BEATS = "beats/"

_FORMAT = 1


def history_key(generation: int) -> str:
    """Padded, so that keys sort as numbers."""
    return f"{HISTORY}{generation:010d}"


def rollout_key(generation: int) -> str:
    """Of the rollout that tries this generation."""
    return f"{ROLLOUTS}{generation:010d}"


def chunk_key(sha256: str, number: int) -> str:
    return f"{BUNDLES}{sha256}/{number:05d}"


def utc_now() -> str:
    """Wall-clock time as ISO 8601 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Common reading and writing of records."""

    def encode(self) -> bytes:
        value = {"format": _FORMAT, **asdict(self)}
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a record.

        :raises BundleError: not such a record, or of a newer format.
        """
        try:
            value = json.loads(data)
            if value.pop("format") != _FORMAT:
                raise BundleError(f"{cls.__name__} has a newer format: upgrade ratectl")
            return cls._build(value)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BundleError(f"not a readable {cls.__name__}: {error}") from None

    @classmethod
    def _build(cls, value: dict[str, Any]) -> Self:
        known = cls.__dataclass_fields__
        return cls(**{name: item for name, item in value.items() if name in known})


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment(Record):
    """A store's own identity: a restored or foreign store has another."""

    id: str
    created: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A generation that is tried beside the live one."""

    generation: int
    bundle: str
    rollout: str
    """Id of the rollout: with an agent's own it says whether that agent takes part."""
    percent: float
    """Share of all agents that take part, in hundredths of a percent at the finest."""
    mode: Literal["enforce", "shadow"] = "enforce"
    """``shadow``: every agent evaluates it beside the live one, and enforces nothing of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head(Record):
    """The live generation. ``sequence`` grows with every write of the head."""

    sequence: int
    generation: int
    bundle: str
    """SHA-256 of the policies' bytes."""
    candidate: Candidate | None = None
    latest: int = 0
    """The highest number that a generation has had, also one that never went live."""
    signature: str | None = None
    """Ed25519 (see ``signing``), in base64; None where nobody signs."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "latest", max(self.latest, self.generation))

    def signed_part(self) -> dict[str, Any]:
        """All that it says, as JSON would have it."""
        return {
            "sequence": self.sequence,
            "live": {"generation": self.generation, "bundle": self.bundle},
            "candidate": None if self.candidate is None else asdict(self.candidate),
            "latest": self.latest,
        }

    def encode(self) -> bytes:
        value = {"format": _FORMAT, **self.signed_part(), "signature": self.signature}
        return json.dumps(value, separators=(",", ":")).encode()

    @classmethod
    def _build(cls, value: dict[str, Any]) -> Self:
        live, candidate = value["live"], value.get("candidate")
        signature = value.get("signature")
        return cls(
            sequence=int(value["sequence"]),
            generation=int(live["generation"]),
            bundle=str(live["bundle"]),
            candidate=None if candidate is None else _candidate(candidate),
            latest=int(value.get("latest", 0)),
            signature=None if signature is None else str(signature),
        )


def _candidate(value: dict[str, Any]) -> Candidate:
    mode = value["mode"]
    if mode not in ("enforce", "shadow"):
        raise ValueError(f"a candidate's mode is enforce or shadow, not {mode!r}")
    return Candidate(
        generation=int(value["generation"]),
        bundle=str(value["bundle"]),
        rollout=str(value["rollout"]),
        percent=float(value["percent"]),
        mode=mode,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Controller(Record):
    """Who watches over a rollout at this moment: while nobody does, nobody new takes part."""

    rollout: str
    host: str
    pid: int
    since: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRecord(Record):
    """How a candidate is tried, how far it got, and how that ended."""

    id: str
    generation: int
    base: int
    """The generation that is live meanwhile."""
    mode: str
    stages: list[float]
    """Percent of all agents, stage by stage; after the last comes the promotion."""
    bake_seconds: float
    """How long each stage lasts at least."""
    min_requests: int
    """How many requests agents that take part must have decided in each stage."""
    band: float | None
    """By how many percentage points their refusals may differ from the others'; None for any."""
    author: str
    started: str
    updated: str
    stage: int = 0
    state: str = "running"
    """``running``, ``paused``, ``promoted`` or ``aborted``."""
    reason: str = ""
    """Why it was paused or aborted."""
    by: str = ""
    """Who promoted, paused or aborted it: a person, or the controller."""

    @property
    def over(self) -> bool:
        """Whether it has been decided."""
        return self.state in ("promoted", "aborted")

    @property
    def percent(self) -> float:
        """Of the stage that it is in."""
        return self.stages[min(self.stage, len(self.stages) - 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry(Record):
    """One published generation: never changed, dropped only when it is among the oldest."""

    generation: int
    bundle: str
    origins: str | None
    """SHA-256 of where each value was written; None where that is not known."""
    action: str
    """``apply``, ``rollback``, or ``canary`` and ``shadow`` for one published as a candidate."""
    author: str
    time: str
    message: str
    commit: str | None
    """Git commit of the applied tree; None outside a repository."""
    dirty: bool | None
    """Whether the tree differed from that commit."""
    summary: dict[str, int]
    """``scopes``, ``limits``, ``budgets``, ``overrides`` and ``exceptions`` declared; ``added``,
    ``removed``, ``changed`` against the last. Entries of earlier versions lack some of them."""
    request: str
    """Unique to one attempt: how a writer recognises its own write after a lost reply."""
    rollback_of: int | None = None
    """For a rollback: the generation whose content this one repeats."""
    passed: dict[str, str] = field(default_factory=dict)
    """Guards that said no, each with the reason for which it was passed."""
    documents: str | None = None
    """SHA-256 of the files that it was written in; None where these are not kept."""

    owners: str | None = None
    """SHA-256 of which set owns what (see ``sets``); None where nobody owns anything."""
    set: str | None = None
    """The set that was published; None for a whole tree."""

    @property
    def blobs(self) -> list[str]:
        """Every blob that it names."""
        blobs = (self.bundle, self.origins, self.documents, self.owners)
        return [sha256 for sha256 in blobs if sha256]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest(Record):
    """How to read a blob back."""

    size: int
    chunks: int
    wanted: str
    """When somebody last meant to publish it: younger than an hour is not garbage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Obeyed:
    """A kill switch that an agent obeys."""

    scope: str
    mode: str
    """``open`` or ``shadow``."""
    source: str
    """``store``, or ``file`` for one in the agent's state directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRecord(Record):
    """What an agent says of itself."""

    id: str
    generation: int
    """The generation it enforces; 0 for none yet."""
    state: str
    """``serving``, ``rejected`` (keeps serving ``generation``) or ``waiting`` (has none yet)."""
    error: str | None
    rejected: int | None
    """The generation it refused, while ``state`` is ``rejected``."""
    applied: str | None
    """When it swapped to ``generation``."""
    swap_ms: float | None
    """How long that took, from seeing the head to enforcing it, in milliseconds."""
    started: str
    reported: str
    host: str
    pid: int
    version: str
    engine: str
    errors: int = 0
    """Decisions answered by ``on_error`` since the start."""
    rollout: str | None = None
    """The rollout whose candidate it runs."""
    sequence: int = 0
    """Of the newest head that it accepted."""
    interval: float = 2.0
    """Seconds between its usage reports."""
    panic: list[Obeyed] = field(default_factory=list)
    panic_sequence: int = 0
    """Of the store's record of switches that it obeys; 0 for none."""

    @classmethod
    def _build(cls, value: dict[str, Any]) -> Self:
        obeyed = [
            Obeyed(scope=str(each["scope"]), mode=str(each["mode"]), source=str(each["source"]))
            for each in value.pop("panic", ())
        ]
        known = cls.__dataclass_fields__
        return cls(panic=obeyed, **{name: of for name, of in value.items() if name in known})


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat(Record):
    """A sign of life, written with every usage record and far smaller."""

    id: str
    generation: int
    since: str
    reported: str
    requests: int
    """Decided since it started; never more than there were (see ``agent.usage``)."""
    refused: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitReport:
    """Counts of one limit in one agent, or of those of its buckets that some overrides select.

    ``recent_*`` cover ``UsageRecord.recent_seconds``.
    """

    scope: str
    limit: str
    shadow: bool
    most: int
    allowed: int
    refused: int
    never: int
    shadow_refused: int
    keys: int
    recent_allowed: int
    recent_refused: int
    peak: float | None
    """Fullest use of any one bucket recently, 0 to 1; None when nothing was admitted."""
    top_refused: list[tuple[str, int]] = field(default_factory=list)
    budget: bool = False
    """Whether it is a budget of ``scope``, drawn from by the whole subtree."""
    overrides: list[str] = field(default_factory=list)
    """Those that select these buckets, among all of the limit's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BesideReport:
    """What a candidate in shadow would have decided otherwise in one agent."""

    rollout: str
    generation: int
    requests: int
    """Decided by both since the agent began to evaluate it."""
    newly_refused: int
    """Let pass, and the candidate would have refused."""
    newly_allowed: int
    """Refused, and the candidate would have let pass."""
    limits: list[tuple[str, str, int, int]] = field(default_factory=list)
    """By which limits, most first: scope, limit (of whichever refused), and both numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRecord(Record):
    """What an agent has counted since it started, most active limits first."""

    id: str
    generation: int
    since: str
    reported: str
    recent_seconds: float
    limits: list[LimitReport]
    omitted: int
    """Less active limits left out to bound the record."""
    no_policy: int
    errors: int
    buckets: int
    overflowed: int
    beside: BesideReport | None = None

    @classmethod
    def _build(cls, value: dict[str, Any]) -> Self:
        beside = value.get("beside")
        if beside is not None:
            limits = [tuple(each) for each in beside.pop("limits")]
            value["beside"] = BesideReport(**beside, limits=limits)
        known = LimitReport.__dataclass_fields__
        value["limits"] = [
            LimitReport(**{name: item for name, item in limit.items() if name in known})
            for limit in value["limits"]
        ]
        return cls(
            **{name: item for name, item in value.items() if name in cls.__dataclass_fields__}
        )
