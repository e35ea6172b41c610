"""Targets of decisions, compared with the figures of a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from bench.deciding import ours
from bench.deciding.floors import C_CALL, CLOCK
from bench.deciding.peers import LIMITS_FIXED

if TYPE_CHECKING:
    from bench.deciding.results import Results

__all__ = ["Target", "as_json", "show", "targets"]


@dataclass(frozen=True, slots=True)
class Target:
    """A target; ``figure`` is None if this run could not measure it."""

    what: str
    most: float | None
    least: float | None
    unit: str
    figure: float | None

    @property
    def held(self) -> bool | None:
        if self.figure is None:
            return None
        return (self.most is None or self.figure <= self.most) and (
            self.least is None or self.figure >= self.least
        )

    @property
    def wanted(self) -> str:
        sign, bound = ("≤", self.most) if self.most is not None else ("≥", self.least)
        return f"{sign} {bound:g} {self.unit}"


def _at_most(what: str, bound: float, unit: str, figure: float | None) -> Target:
    return Target(what, bound, None, unit, figure)


def _at_least(what: str, bound: float, unit: str, figure: float | None) -> Target:
    return Target(what, None, bound, unit, figure)


def targets(results: Results, keys: int) -> list[Target]:
    """Return every target; those of a million keys need a run with that many."""
    return [*_public(results), *_twin(results), *_gate(results), *_million(results, keys)]


def _public(of: Results) -> list[Target]:
    check = f"c: {ours.CHECK}"
    return [
        _at_most("C, agent.check, one limit", 150, "ns", of.ns(check)),
        _at_least(f"… faster than {LIMITS_FIXED}", 15, "×", of.ratio(LIMITS_FIXED, check)),
        _at_most("C, agent.check, 3 levels, 6 limits", 300, "ns", of.ns(f"c: {ours.SIX}")),
        *(
            _at_most(f"C, {name}", 400, "ns", of.ns(f"c: {name}"))
            for name in (ours.SLOTS, ours.SLOTS_BESIDE)
        ),
        _at_most(
            "C, agent.check, beside an empty C call and a clock reading",
            1.4,
            "×",
            of.ratio(check, C_CALL, CLOCK),
        ),
        _at_most(
            "C, agent.check, 6 limits, beside one", 2.5, "×", of.ratio(f"c: {ours.SIX}", check)
        ),
        _at_most("C, agent.check_many, each of 32", 60, "ns", of.ns(f"c: {ours.MANY}")),
    ]


def _twin(of: Results) -> list[Target]:
    """Return the targets of the pure engine: its time, and its ratio to peers made for threads."""
    check = f"pure: {ours.CHECK}"
    promised = [_at_most("pure, agent.check, one limit", 1500, "ns", of.ns(check))]
    said, seen = of.fastest_peer(exact=False), of.fastest_peer(exact=True)
    peers = {said: "locks", seen: "was exact under threads"}
    if said == seen:
        peers = {seen: "locks, and was exact under threads"}
    for name, remark in peers.items():
        ratio = None if name is None else of.ratio(name, check)
        promised.append(_at_least(f"… faster than {name} ({remark})", 1.4, "×", ratio))
    return promised


def _gate(of: Results) -> list[Target]:
    gate = f"c: {ours.GATE}"
    return [
        _at_most("C, gate, one limit, beside an empty C call", 5, "×", of.ratio(gate, C_CALL)),
        _at_least("C, gate, one limit, 4 threads", 8, "M/s", of.millions(gate)),
    ]


def _million(of: Results, keys: int) -> list[Target]:
    """Return targets for a million keys: windows need more memory for limits above 65,535."""
    gates = {name: f"c: {name}" for name in (ours.GATE, ours.GATE_WINDOW, ours.GATE_WIDE)}
    enough = keys >= 1_000_000
    size = {name: of.bytes_per_key(gate) if enough else None for name, gate in gates.items()}
    zipf = of.zipf(gates[ours.GATE]) if enough else None
    said = "C, memory of a key,"
    return [
        _at_most("C, gate, one limit, 1M zipf keys", 250, "ns", zipf),
        _at_most(f"{said} token bucket", 80, "B", size[ours.GATE]),
        _at_most(f"{said} sliding window of 60,000", 80, "B", size[ours.GATE_WINDOW]),
        _at_most(f"{said} sliding window of 10^9", 80, "B", size[ours.GATE_WIDE]),
    ]


def show(promised: list[Target]) -> None:
    """Print a line for each target."""
    words = {True: "held", False: "NOT HELD", None: "not measured here"}
    for target in promised:
        figure = "–" if target.figure is None else f"{target.figure:.4g} {target.unit}"
        print(f"  {target.what:<66} {target.wanted:>11}  {figure:>11}  {words[target.held]}")


def as_json(promised: list[Target]) -> list[dict[str, object]]:
    return [asdict(target) | {"held": target.held} for target in promised]
