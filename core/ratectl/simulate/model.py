"""Traffic maps as pydantic models: how the fields of a log become scope, attributes and cost."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ratectl.engine.cost import REQUESTS
from ratectl.policy.language.field_types import UnitName
from ratectl.policy.language.scopes import scope_problem

__all__ = [
    "ACCESS_FIELDS",
    "Attribute",
    "CostMap",
    "Format",
    "ScopeMap",
    "ScopeRule",
    "TimeFormat",
    "TimeMap",
    "TrafficMap",
]

Format = Literal["common", "combined", "jsonl", "csv"]
TimeFormat = Literal["iso", "unix", "unix_ms", "unix_us", "unix_ns", "clf"]

ACCESS_FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "common": ("client", "method", "path", "status", "bytes"),
    "combined": ("client", "method", "path", "status", "bytes", "agent"),
}
"""Fields of the formats without field names in the log."""


def _scope(scope: str) -> str:
    problem = scope_problem(scope)
    if problem:
        reason, _, hint = problem.partition(": ")
        raise _wrong(
            f"{scope!r} is not a scope: {reason}", hint or "write / or a path like /web/files"
        )
    return scope


def _wrong(reason: str, hint: str) -> PydanticCustomError:
    return PydanticCustomError("map", "{reason}", {"reason": reason, "hint": hint})


def _short(key: str, kind: type) -> BeforeValidator:
    """``client: ip`` is short for ``client: {field: ip}``."""

    def expand(value: Any) -> Any:
        return {key: value} if value.__class__ is kind else value

    return BeforeValidator(expand)


FieldName = Annotated[str, Field(min_length=1, max_length=200)]
AttributeName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$")]
Scope = Annotated[str, AfterValidator(_scope)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class TimeMap(_Model):
    """Field with the time of a request, and its format."""

    field: FieldName
    format: TimeFormat = "iso"


class ScopeRule(_Model):
    """Rule that maps a value, in which ``*`` stands for any text, to a scope."""

    match: Annotated[str, Field(min_length=1, max_length=1000)]
    scope: Scope


class ScopeMap(_Model):
    """Scope of the requests: one for all (``const``), or by the value of a field.

    The first rule that matches the value gives the scope; without rules the value is the scope.
    """

    const: Scope | None = None
    field: FieldName | None = None
    rules: Annotated[tuple[ScopeRule, ...], Field(strict=False, max_length=1000)] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> ScopeMap:
        if (self.const is None) == (self.field is None):
            raise _wrong(
                "scope needs either one scope for all or a field",
                "write scope: /web, or {field: path, rules: […]}",
            )
        if self.const is not None and self.rules is not None:
            raise _wrong("rules match the value of a field", "write the field, or delete the rules")
        return self


class Attribute(_Model):
    """Source of an attribute: a field, the first segments of a path, or a constant."""

    field: FieldName | None = None
    const: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    segments: Annotated[int, Field(ge=1, le=64)] | None = None
    """Number of segments of a path to keep: 1 keeps ``/files`` of ``/files/a.zip?x=1``."""

    @model_validator(mode="after")
    def _one_source(self) -> Attribute:
        if (self.const is None) == (self.field is None):
            raise _wrong(
                "an attribute needs either a field or a const",
                "write the name of a field, or {const: acme}",
            )
        if self.const is not None and self.segments is not None:
            raise _wrong("segments cut the value of a field", "write the field, or delete segments")
        return self


class CostMap(_Model):
    """Cost of a request: a constant, or a number in the log divided by ``per``, rounded up."""

    const: Annotated[int, Field(ge=0, le=10**9)] | None = None
    field: FieldName | None = None
    per: Annotated[int, Field(ge=1, le=10**12)] = 1

    @model_validator(mode="after")
    def _one_source(self) -> CostMap:
        if (self.const is None) == (self.field is None):
            raise _wrong(
                "cost needs either a number or a field", "write cost: 1, or {field: bytes, per: …}"
            )
        return self


def _by_unit(value: Any) -> Any:
    """Return a cost by unit: ``cost: 1`` and ``cost: {field: bytes}`` count requests."""
    fields = CostMap.model_fields
    if isinstance(value, dict) and not any(key in fields for key in value):
        return value
    return {REQUESTS: value}


class TrafficMap(_Model):
    """Traffic map: time, scope, attributes and cost of the requests in a log."""

    api_version: Literal["ratectl/v1"] = Field(alias="apiVersion")
    kind: Literal["TrafficMap"]
    format: Format
    time: Annotated[TimeMap, _short("field", str)] | None = None
    scope: Annotated[ScopeMap, _short("const", str)]
    attributes: dict[AttributeName, Annotated[Attribute, _short("field", str)]] = Field(
        default_factory=dict
    )
    cost: Annotated[
        dict[UnitName, Annotated[CostMap, _short("const", int), _short("field", str)]],
        Field(min_length=1, max_length=16),
        BeforeValidator(_by_unit),
    ] = Field(default_factory=lambda: {REQUESTS: CostMap(const=1)})
    """By unit. A number, or a mapping with the fields of ``CostMap``, is that of requests."""

    @property
    def cost_fields(self) -> dict[str, str]:
        """Fields of the log that costs are read from, by unit."""
        return {unit: cost.field for unit, cost in self.cost.items() if cost.field is not None}
