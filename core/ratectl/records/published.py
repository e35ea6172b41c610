"""What publishers write: generations, what is live, and rollouts."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Final, Literal, Self

from ratectl.records.base import FORMAT, HEAD, Record
from ratectl.records.checks import check_fields, generation_problem, sequence_problem

_REMEDY: Final = (
    "Nobody published that: apply the policies again, or go back (`ratectl rollback --to GEN`)"
)

__all__ = [
    "Candidate",
    "Controller",
    "Environment",
    "Head",
    "HistoryEntry",
    "Manifest",
    "RolloutRecord",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment(Record):
    """A store's own identity: a restored or foreign store has another."""

    id: str
    created: str

    def check(self) -> None:
        """See ``Record.check``."""
        check_fields(self)
        if not (self.id.isascii() and self.id.isalnum()):
            raise ValueError(f"an identity has letters and digits alone, not {self.id!r:.100}")


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
    terms: str = ""
    """SHA-256 of what it has to get through (``RolloutRecord.terms``): signed with the head."""

    def check(self) -> None:
        """See ``Record.check``."""
        check_fields(self)
        if not 0 < self.percent <= 100:
            raise ValueError(f"a candidate's share is {self.percent!r}%, not above 0 and up to 100")


@dataclass(frozen=True, slots=True, kw_only=True)
class Head(Record):
    """The live generation. ``sequence`` grows with every write of the head."""

    KIND: ClassVar[str] = "head"
    KEY: ClassVar[str] = HEAD
    REPORTED: ClassVar[str] = "sequence"

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
        value = {"format": FORMAT, **self.signed_part(), "signature": self.signature}
        return json.dumps(value, separators=(",", ":")).encode()

    @classmethod
    def _build(cls, value: dict[str, Any]) -> Self:
        live, candidate, latest = value["live"], value.get("candidate"), value.get("latest", 0)
        if type(latest) is not int:
            raise TypeError(f"latest cannot be {latest!r:.100}")
        return cls(
            sequence=value["sequence"],
            generation=live["generation"],
            bundle=live["bundle"],
            candidate=None if candidate is None else _candidate(candidate),
            latest=latest,
            signature=value.get("signature"),
        )

    def check(self) -> None:
        """See ``Record.check``."""
        check_fields(self)
        tried = self.candidate
        if tried is not None:
            tried.check()
        numbers = (self.generation, self.latest, self.latest if tried is None else tried.generation)
        problems = (sequence_problem(self.sequence), *map(generation_problem, numbers))
        for problem in filter(None, problems):
            raise ValueError(f"{problem}. {_REMEDY}")


def _candidate(value: dict[str, Any]) -> Candidate:
    return Candidate(
        generation=value["generation"],
        bundle=value["bundle"],
        rollout=value["rollout"],
        percent=value["percent"],
        mode=value["mode"],
        terms=value.get("terms", ""),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Controller(Record):
    """Who watches over a rollout at this moment: while nobody does, nobody new takes part."""

    rollout: str
    host: str
    pid: int
    since: str
    nonce: str = ""
    """Of this one, among all that there have been."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


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
    compared: bool = False
    """Whether, in a stage before this one, those that run it could be compared with others."""
    state: str = "running"
    """``running``, ``paused``, ``promoted`` or ``aborted``."""
    reason: str = ""
    """Why it was paused or aborted."""
    by: str = ""
    """Who promoted, paused or aborted it: a person, or the controller."""
    request: str = ""
    """Unique to one step: how a writer recognises its own write after a lost reply."""

    def check(self) -> None:
        """See ``Record.check``."""
        check_fields(self)
        if not self.stages or any(not 0 < each <= 100 for each in self.stages) or self.stage < 0:
            raise ValueError(f"stages are shares above 0% and up to 100%, not {self.stages!r:.100}")
        if self.bake_seconds < 0 or self.min_requests < 0:
            raise ValueError("a stage lasts 0 seconds or more, and takes 0 requests or more")

    @property
    def terms(self) -> str:
        """What the candidate has to get through, as a hash."""
        said = [self.id, self.stages, self.bake_seconds, self.min_requests, self.band]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

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

    KIND: ClassVar[str] = "generation"

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
    signature: str | None = None
    """Ed25519 (see ``signing``), in base64: what is published again must have been published."""

    def signed_part(self) -> dict[str, Any]:
        """All that it says."""
        return {name: value for name, value in asdict(self).items() if name != "signature"}

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

    def check(self) -> None:
        """See ``Record.check``."""
        check_fields(self)
        if datetime.fromisoformat(self.wanted).tzinfo is None:
            raise ValueError(f"wanted is a time without its offset from UTC: {self.wanted}")
