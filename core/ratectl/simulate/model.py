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
"""Fields of the formats that have no names of their own in the log."""


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
    """Which field says when, and how it is written."""

    field: FieldName
    format: TimeFormat = "iso"


class ScopeRule(_Model):
    """A value, ``*`` standing for any text in it, and the scope that it means."""

    match: Annotated[str, Field(min_length=1, max_length=1000)]
    scope: Scope


class ScopeMap(_Model):
    """One scope for all (``const``), or by a field: the first rule that matches its value; without
    rules the field holds the scope itself."""

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
            raise _wrong("rules match the value of a field", "write which field, or delete them")
        return self


class Attribute(_Model):
    """Where an attribute comes from: a field, the first segments of a path, or always the same."""

    field: FieldName | None = None
    const: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    segments: Annotated[int, Field(ge=1, le=64)] | None = None
    """Only this many segments of a path: 1 is ``/files`` of ``/files/a.zip?x=1``."""

    @model_validator(mode="after")
    def _one_source(self) -> Attribute:
        if (self.const is None) == (self.field is None):
            raise _wrong(
                "an attribute needs either a field or a const",
                "write the name of a field, or {const: acme}",
            )
        if self.const is not None and self.segments is not None:
            raise _wrong("segments cut the value of a field", "write which field, or delete it")
        return self


class CostMap(_Model):
    """Units that a request takes: the same for all, or by a number in the log, rounded up."""

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


class TrafficMap(_Model):
    """A whole map."""

    api_version: Literal["ratectl/v1"] = Field(alias="apiVersion")
    kind: Literal["TrafficMap"]
    format: Format
    time: Annotated[TimeMap, _short("field", str)] | None = None
    scope: Annotated[ScopeMap, _short("const", str)]
    attributes: dict[AttributeName, Annotated[Attribute, _short("field", str)]] = Field(
        default_factory=dict
    )
    cost: Annotated[CostMap, _short("const", int)] = CostMap(const=1)
