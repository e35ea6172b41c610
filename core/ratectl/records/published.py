"""Records of publishers: the environment, the head, history, rollouts and blobs."""

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
    "PastReset",
    "RolloutRecord",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment(Record):
    """Identity of an environment, stored with it. Another environment has another."""

    id: str
    created: str
    name: str = ""
    """Name that people use; empty if nobody gave it one."""
    confirm: bool = False
    """True if publishing needs the name as confirmation."""
    sign_required: bool = False
    """True if every head, switch and reset has to be signed."""

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
    """Id of the rollout. It decides, with an agent's id, if that agent takes part."""
    percent: float
    """Percentage of all agents that take part, to 0.01%."""
    mode: Literal["enforce", "shadow"] = "enforce"
    """``shadow``: every agent evaluates it beside the live generation, and does not enforce it."""
    terms: str = ""
    """SHA-256 of the terms of its rollout (``RolloutRecord.terms``): signed with the head."""

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
    """Highest number of a generation so far, also of one that never went live."""
    signature: str | None = None
    """Ed25519 (see ``signing``), in base64; None if it is not signed."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "latest", max(self.latest, self.generation))

    def signed_part(self) -> dict[str, Any]:
        """Return everything except the signature, as JSON."""
        return {
            "sequence": self.sequence,
            "live": {"generation": self.generation, "bundle": self.bundle},
            "candidate": None if self.candidate is None else asdict(self.candidate),
            "latest": self.latest,
        }

    def encode(self) -> bytes:
        """See ``Record.encode``."""
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
    """The process that controls a rollout. Without one, no more agents take part."""

    rollout: str
    host: str
    pid: int
    since: str
    nonce: str = ""
    """Distinguishes this controller from all earlier ones."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRecord(Record):
    """A rollout: its terms, its progress and its end."""

    id: str
    generation: int
    base: int
    """The generation that is live during the rollout."""
    mode: str
    stages: list[float]
    """Percentage of all agents in each stage. After the last stage comes the promotion."""
    bake_seconds: float
    """Shortest length of a stage."""
    min_requests: int
    """Fewest requests that participating agents must have decided in each stage."""
    band: float | None
    """Largest allowed difference of refusals between both groups of agents, in percentage points;
    None for any."""
    author: str
    started: str
    updated: str
    stage: int = 0
    compared: bool = False
    """True if, in an earlier stage, participating agents could be compared with the others."""
    state: str = "running"
    """``running``, ``paused``, ``promoted`` or ``aborted``."""
    reason: str = ""
    """Reason of a pause or an abort."""
    by: str = ""
    """The person or controller that promoted, paused or aborted it."""
    request: str = ""
    """Unique to one step. After a lost reply, a writer recognises its own write by it."""

    def check(self) -> None:
        """See ``Record.check``."""
        check_fields(self)
        if not self.stages or any(not 0 < stage <= 100 for stage in self.stages) or self.stage < 0:
            raise ValueError(f"stages are shares above 0% and up to 100%, not {self.stages!r:.100}")
        if self.bake_seconds < 0 or self.min_requests < 0:
            raise ValueError("a stage lasts 0 seconds or more, and takes 0 requests or more")

    @property
    def terms(self) -> str:
        """Hash of everything that the candidate has to pass."""
        terms = [self.id, self.stages, self.bake_seconds, self.min_requests, self.band]
        return hashlib.sha256(json.dumps(terms).encode()).hexdigest()

    @property
    def over(self) -> bool:
        """True after the promotion or the abort."""
        return self.state in ("promoted", "aborted")

    @property
    def percent(self) -> float:
        """Percentage of agents in the current stage."""
        return self.stages[min(self.stage, len(self.stages) - 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry(Record):
    """One published generation. Entries never change; only the oldest are deleted."""

    KIND: ClassVar[str] = "generation"

    generation: int
    bundle: str
    origins: str | None
    """SHA-256 of the positions of all values in files; None where they are unknown."""
    action: str
    """``apply``, ``rollback``, or ``canary`` and ``shadow`` for one published as a candidate."""
    author: str
    time: str
    message: str
    commit: str | None
    """Git commit of the applied tree; None outside a repository."""
    dirty: bool | None
    """True if the tree differed from that commit."""
    summary: dict[str, int]
    """Numbers of declared ``scopes``, ``limits``, ``budgets``, ``overrides`` and ``exceptions``;
    ``added``, ``removed`` and ``changed`` since the last. Entries of older versions lack some."""
    request: str
    """Unique to one attempt. After a lost reply, a writer recognises its own write by it."""
    rollback_of: int | None = None
    """For a rollback: the generation whose contents this one repeats."""
    passed: dict[str, str] = field(default_factory=dict)
    """Guards that refused the publication, and the reasons given for bypassing them."""
    signature: str | None = None
    """Ed25519 (see ``signing``), in base64: proof, for a rollback, that this was published."""

    def signed_part(self) -> dict[str, Any]:
        """Return everything except the signature."""
        return {name: value for name, value in asdict(self).items() if name != "signature"}

    documents: str | None = None
    """SHA-256 of the source files; None where they are not kept."""

    owners: str | None = None
    """SHA-256 of the owners of documents (see ``publishing.ownership``); None without owners."""
    set: str | None = None
    """The set that was published; None for a whole tree."""

    @property
    def blobs(self) -> list[str]:
        """SHA-256 of every blob that the entry refers to."""
        blobs = (self.bundle, self.origins, self.documents, self.owners)
        return [sha256 for sha256 in blobs if sha256]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest(Record):
    """Size and number of chunks of a blob."""

    size: int
    chunks: int
    wanted: str
    """When a publisher last used it. A blob used within the last hour is not garbage."""

    def check(self) -> None:
        """See ``Record.check``."""
        check_fields(self)
        if datetime.fromisoformat(self.wanted).tzinfo is None:
            raise ValueError(f"wanted is a time without its offset from UTC: {self.wanted}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PastReset(Record):
    """A reset in the history. Entries never change; only the oldest are deleted."""

    sequence: int
    scope: str
    limit: str
    budget: bool
    attributes: list[str]
    """Attributes that the key has values of."""
    key_hash: str
    """Hash of the key, which the history does not show."""
    reason: str
    author: str
    time: str
    expires: str
    signed: bool
