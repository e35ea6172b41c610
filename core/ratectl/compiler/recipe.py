"""Recipes: the plan of one limit under any set of conditions, from plain data.

A recipe holds the layers of a limit, one for each document on its path that says something of it.
They hold texts, numbers and the language's rates, durations and reset times; no policies. Equal
layers are shared by all scopes that inherit them. A plan is what resolution would give (see
``policy.resolution.resolver``), for one limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ratectl.compiler.algorithms import engine_algorithm
from ratectl.compiler.origins import merged_origins
from ratectl.engine.algorithms.sliding_window import SlidingWindow
from ratectl.engine.algorithms.token_bucket import TokenBucket
from ratectl.engine.limit_plan import LimitPlan
from ratectl.policy.resolution.algorithms.registry import ALGORITHMS, DEFAULT_ALGORITHM
from ratectl.policy.resolution.building import DEFAULT_MODE, parameters_of
from ratectl.policy.resolution.conditions import bits
from ratectl.policy.resolution.effective_limit import (
    DEFAULT_ABSENT,
    DEFAULT_CONSISTENCY,
    DEFAULT_UNIT,
    Problem,
)
from ratectl.policy.resolution.merge import is_tighter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ratectl.compiler.surroundings import Surroundings
    from ratectl.engine.conditional_limit import Mask
    from ratectl.engine.limit_plan import Origins
    from ratectl.policy.language.model import Cap, LimitFields
    from ratectl.policy.resolution.algorithms.protocol import Parameters
    from ratectl.policy.resolution.clipping import Clipped
    from ratectl.policy.resolution.effective_limit import Limit
    from ratectl.runtime.cooperative import Kept

__all__ = ["Chain", "Fields", "Layer", "Recipe", "declared_fields", "limit_plan"]

Fields = tuple[tuple[str, Any], ...]
"""Names and values of the fields that one document sets."""


class Layer(NamedTuple):
    """Definition of one limit by the documents of one scope. Conditions are local to the limit."""

    scope: str
    unset: bool
    """True if the limit above is dropped."""
    declared: Fields | None
    first: int
    """Number of the first override."""
    overrides: tuple[tuple[str, Fields | None, Fields | None], ...]
    """Name (``gold@/payments``) and fields of each override, in order, and its cap; None for an
    override that only caps the limit, or does not."""
    exceptions: tuple[tuple[str, int | None, Fields], ...]
    """Name, number and fields of each exception; the number is None if all requests match."""
    cap: Fields | None
    """Tightest cap on the path down to here; None if this scope declares none."""


Chain = tuple["Chain", Layer] | None
"""Layers of a path, nested: (of the scopes above, of this one)."""


_Exception = tuple["Mask", str, Fields]
"""Condition of an exception that holds (0 for none), its name and its fields."""

_Cap = dict[str, tuple[Any, str]]
"""Tightest cap by field, and the scope or override that declares it."""


class _Merged:
    """Merged fields: their values, and the conditions that select the bucket by each field."""

    __slots__ = ("sources", "touched", "values")

    def __init__(self, other: _Merged | None = None) -> None:
        self.values: dict[str, Any] = dict(other.values) if other else {}
        self.touched: dict[str, Mask] = dict(other.touched) if other else {}
        self.sources: dict[str, str] = dict(other.sources) if other else {}
        """Scope, override or exception that sets each field."""

    def merge(self, fields: Fields, bit: Mask, source: str, *, exception: bool = False) -> None:
        """Set fields by a condition (``bit``; 0 for none). See ``merge_fields`` and ``_touched``.

        The override that chose the algorithm still counts when another chooses it again, and so
        does one whose value an exception replaces.
        """
        values, touched = self.values, self.touched
        algorithm = next((value for field, value in fields if field == "algorithm"), None)
        if algorithm is not None:
            rules = ALGORITHMS[algorithm]
            for field in [name for name, value in values.items() if not rules.takes(name, value)]:
                del values[field], touched[field], self.sources[field]
        for field, value in fields:
            earlier = touched.get(field, 0) if exception or field == "algorithm" else 0
            values[field], touched[field] = value, earlier | bit
            self.sources[field] = source


class _Usable(NamedTuple):
    """Merged fields that make a usable limit, its parameters, and what caps clip of it."""

    merged: _Merged
    parameters: Parameters
    clips: Mapping[str, Clipped]


class Recipe:
    """Function from the conditions of one limit or budget, as a local mask, to its plan."""

    __slots__ = ("_budget", "_chain", "_kept", "_name", "_scope", "_surroundings")

    def __init__(
        self,
        scope: str,
        name: str,
        chain: Chain,
        surroundings: Surroundings,
        kept: Kept,
        *,
        budget: bool,
    ) -> None:
        self._scope = scope
        self._name = name
        self._chain = chain
        self._surroundings = surroundings
        self._kept = kept
        """Large containers that the chain lives in."""
        self._budget = budget

    def __call__(self, local: Mask) -> LimitPlan | None:
        """Return the plan under exactly these conditions; None if there is nothing to decide.

        If the merged fields make no usable limit (``validate`` reports that for pairs of
        overrides), exceptions that leave none are ignored, then the last condition, then the one
        before, and so on.
        """
        layers = _layers(self._chain)
        cap, capping = _cap(layers, local)
        while True:
            declared, exceptions = _declared(layers, local), _exceptions(layers, local)
            if declared is None and not exceptions:
                return None
            ceiling = {field: value for field, (value, _) in cap.items()}
            usable = self._usable(declared, exceptions, ceiling)
            if usable is not None:
                return self._plan(usable, layers, capping, cap)
            if not local:
                return None
            local ^= 1 << local.bit_length() - 1

    def _usable(
        self,
        declared: _Merged | None,
        exceptions: Sequence[_Exception],
        cap: Mapping[str, Any],
    ) -> _Usable | None:
        """Return a usable limit with all exceptions, or else with those that leave one usable."""
        whole = self._built(_amended(declared, exceptions), cap)
        if whole is not None or not exceptions:
            return whole
        found = None if declared is None else self._built(declared, cap)
        for exception in exceptions:
            tried = self._built(
                _amended(declared if found is None else found.merged, [exception]), cap
            )
            found = tried or found
        return found

    def _built(self, merged: _Merged, cap: Mapping[str, Any]) -> _Usable | None:
        clips: dict[str, Clipped] = {}
        parameters = parameters_of(self._name, merged.values, cap, clips, budget=self._budget)
        return None if isinstance(parameters, Problem) else _Usable(merged, parameters, clips)

    def _plan(
        self, usable: _Usable, layers: Sequence[Layer], capping: Mask, cap: _Cap
    ) -> LimitPlan | None:
        merged, parameters, clips = usable
        values, touched = merged.values, capping
        for mask in merged.touched.values():
            touched |= mask
        caps = {field: (cap[clip.by][1], clip.by) for field, clip in clips.items()}
        return limit_plan(
            self._scope, self._name, parameters, self._surroundings,
            algorithm=values.get("algorithm", DEFAULT_ALGORITHM), per=values.get("per", ()),
            across=values.get("across"),
            consistency=values.get("consistency", DEFAULT_CONSISTENCY),
            mode=values.get("mode", DEFAULT_MODE), unit=values.get("unit", DEFAULT_UNIT),
            absent=values.get("absent", DEFAULT_ABSENT), budget=self._budget,
            overrides=_refs(layers, touched) if touched else (),
            origins=merged_origins(self._name, merged.sources, caps, budget=self._budget),
        )  # fmt: skip


def limit_plan(
    scope: str,
    name: str,
    parameters: Parameters | Limit,
    surroundings: Surroundings,
    *,
    algorithm: str,
    per: tuple[str, ...],
    across: str | None,
    consistency: str,
    mode: str,
    unit: str,
    absent: str,
    overrides: tuple[str, ...],
    origins: Origins,
    budget: bool,
) -> LimitPlan | None:
    """Return the plan of a limit; None if there is nothing to decide."""
    rate = parameters.rate
    if mode == "off" or (rate is not None and rate.unlimited) or not surroundings.takes(across):
        return None
    bucket = engine_algorithm(algorithm, parameters, surroundings.offset)
    pools = surroundings.pools
    if across == "cluster" and pools is not None:
        assert isinstance(bucket, TokenBucket | SlidingWindow)  # others take no across: cluster
        group = scope, name, budget, overrides, per, unit
        bucket = pools.bucket(group, bucket, optimistic=consistency == "optimistic")
    return LimitPlan(
        scope=scope,
        name=name,
        algorithm=bucket,
        per=per,
        shadow=mode == "shadow",
        budget=budget,
        overrides=overrides,
        unit=unit,
        skips=absent == "skip",
        origins=origins,
    )


def declared_fields(declared: LimitFields | Cap) -> Fields:
    """Return the fields that a document sets, as plain data."""
    return tuple([(name, value) for name, value in declared.__dict__.items() if value is not None])


def _layers(chain: Chain) -> list[Layer]:
    """Return the layers of a path from ``/`` down."""
    layers = []
    while chain is not None:
        chain, layer = chain
        layers.append(layer)
    return layers[::-1]


def _declared(layers: Sequence[Layer], local: Mask) -> _Merged | None:
    """Merge limits and overrides. Return None if no document defines the limit."""
    merged: _Merged | None = None
    for layer in layers:
        if layer.unset:
            merged = None
        if layer.declared is not None:
            merged = merged or _Merged()
            merged.merge(layer.declared, 0, layer.scope)
        # Only the set bits are visited: a request satisfies few of thousands of overrides.
        for position in bits(_held(layer, local)):
            ref, fields, _ = layer.overrides[position]
            if fields is not None:
                merged = merged or _Merged()
                merged.merge(fields, 1 << layer.first + position, ref)
    return merged


def _cap(layers: Sequence[Layer], local: Mask) -> tuple[_Cap, Mask]:
    """Return the tightest cap under these conditions, and the conditions that cap the limit.

    Conditions that set nothing usable are ignored, but their caps are not.
    """
    tightest: _Cap = {}
    capping = 0
    for layer in layers:
        _tighten(tightest, layer.cap or (), layer.scope)
        for position in bits(_held(layer, local)):
            ref, _, cap = layer.overrides[position]
            if cap is not None:
                capping |= 1 << layer.first + position
                _tighten(tightest, cap, ref)
    return tightest, capping


def _tighten(tightest: _Cap, cap: Fields, source: str) -> None:
    for field, value in cap:
        if field not in tightest or is_tighter(value, tightest[field][0]):
            tightest[field] = value, source


def _exceptions(layers: Sequence[Layer], local: Mask) -> list[_Exception]:
    """Return the exceptions that hold, in their order."""
    return [
        (0 if number is None else 1 << number, ref, fields)
        for layer in layers
        for ref, number, fields in layer.exceptions
        if number is None or local >> number & 1
    ]


def _amended(merged: _Merged | None, exceptions: Sequence[_Exception]) -> _Merged:
    """Return a copy of merged fields with exceptions."""
    amended = _Merged(merged)
    for bit, ref, fields in exceptions:
        amended.merge(fields, bit, ref, exception=True)
    return amended


def _held(layer: Layer, local: Mask) -> Mask:
    """Return the overrides of a layer that hold, by their positions in it."""
    return local >> layer.first & (1 << len(layer.overrides)) - 1


def _refs(layers: Sequence[Layer], local: Mask) -> tuple[str, ...]:
    """Return the names of conditions, in their order."""
    refs = []
    for layer in layers:
        refs += [layer.overrides[position][0] for position in bits(_held(layer, local))]
        refs += [
            ref for ref, number, _ in layer.exceptions if number is not None and local >> number & 1
        ]
    return tuple(refs)
