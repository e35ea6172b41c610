"""Bodies of the JSON API: of requests, which are checked, and of answers. The OpenAPI document
describes these types."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NoReturn, NotRequired, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
    with_config,
)
from typing_extensions import TypedDict

from ratectl.engine.cost import checked_estimate
from ratectl.errors import UsageError
from ratectl.policy.language.scopes import MAX_SCOPE_CHARS, scope_problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "LONGEST_TOKEN", "MOST_REQUESTS", "Answer", "Answers", "Check", "CheckMany", "InvalidBody",
    "Problem", "Release", "Settle", "read",
]  # fmt: skip

MOST_REQUESTS: Final = 100
"""Most requests of one batch."""
LONGEST_TOKEN: Final = 86_400
"""Most seconds until a token expires."""
_MOST_TOLD: Final = 5
_LONGEST_TOLD: Final = 100
"""Characters of a name in an error."""

_Body = TypeVar("_Body", bound="_Request")


class InvalidBody(ValueError):
    """A body that cannot be used."""


def _scope(text: str) -> str:
    problem = scope_problem(text)
    if problem is not None:
        raise ValueError(problem)
    return text


def _cost(given: Any) -> int | dict[str, int]:
    try:
        return checked_estimate(given)
    except UsageError as error:
        raise ValueError(str(error)) from None


_NUMBER: Final[dict[str, Any]] = {"type": "integer", "minimum": 0}
Cost = Annotated[
    Any,
    PlainValidator(_cost),
    WithJsonSchema({"anyOf": [_NUMBER, {"type": "object", "additionalProperties": _NUMBER}]}),
]
Scope = Annotated[
    str,
    AfterValidator(_scope),
    Field(max_length=MAX_SCOPE_CHARS, json_schema_extra={"examples": ["/shop"]}),
]
Token = Annotated[str, Field(pattern="^[A-Za-z0-9_-]{22}$")]


class _Request(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", use_attribute_docstrings=True)


class Check(_Request):
    """A request to decide."""

    scope: Scope
    """Scope of the policies. Requests without a matching policy are allowed."""
    attributes: dict[str, str] = {}
    """What the policies can distinguish, such as the client."""
    cost: Cost = 1
    """Number of requests, or a cost in each unit, like {"tokens": 4000}. 0 charges nothing."""
    expires: Annotated[float, Field(gt=0, le=LONGEST_TOKEN)] | None = None
    """Seconds until the token expires. Asks for a token; a request that holds slots of a
    concurrency limit gets one for 60 seconds otherwise."""


class CheckMany(_Request):
    """Requests to decide one by one, in order. A refused one does not undo those before it."""

    requests: Annotated[list[Check], Field(min_length=1, max_length=MOST_REQUESTS)]


class Settle(_Request):
    """The actual cost of an allowed request."""

    token: Token
    cost: Cost
    """Number of requests, or the cost in the units to correct."""


class Release(_Request):
    """The end of an allowed request."""

    token: Token


_described = with_config(ConfigDict(extra="forbid", use_attribute_docstrings=True))


@_described
class Answer(TypedDict):
    """A decision."""

    allowed: bool
    reason: Literal["ok", "limited", "never", "shadow", "no_policy", "error"]
    """`limited`: allowed after `retry_after`. `never`: waiting does not help. `error`: the limiter
    failed, and `on_error` decided."""
    generation: int
    """Generation of the policies that decided; 0 before any was loaded."""
    limit: str | None
    """Limit that decided: the refusing one, or the one with the least left."""
    scope: str | None
    """Scope that declares the limit."""
    unit: str | None
    capacity: int | None
    """Cost that the limit admits at once when nothing is used."""
    remaining: int | None
    """Cost that would still be admitted."""
    retry_after: float | None
    """Seconds until the same request would be admitted; 0 if it is allowed, null if that is not
    known."""
    reset_after: float | None
    """Seconds until nothing is used, if nothing else is admitted; null if that is not known."""
    source: NotRequired[str]
    """Of a refusal: the place in the policies that sets the limit."""
    token: NotRequired[str]
    """For `/v1/settle` and `/v1/release`."""
    expires: NotRequired[float]
    """Seconds until the token expires."""


@_described
class Answers(TypedDict):
    """Decisions, in the order of the requests."""

    answers: list[Answer]


@_described
class Problem(TypedDict):
    """An error (RFC 9457)."""

    title: str
    status: int
    detail: str
    """What is wrong, and how to mend it."""


# Reading ----------------------------------------------------------------------------------------


def read(model: type[_Body], body: bytes) -> _Body:
    """Return the message in a body.

    :raises InvalidBody: there is none.
    """
    data = _parsed(body)
    if not isinstance(data, dict):
        raise InvalidBody("the body is an object of JSON, like {…}")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        told = [f"{_named(each['loc'])}: {_wording(each)}" for each in problems[:_MOST_TOLD]]
        raise InvalidBody("; ".join(told)) from None


def _parsed(body: bytes) -> Any:
    try:
        return _DECODER.decode(body.decode())
    except InvalidBody:
        raise
    except UnicodeDecodeError:
        raise InvalidBody("the body is not UTF-8") from None
    except RecursionError:
        raise InvalidBody("the body is nested too deeply") from None
    except ValueError as error:
        raise InvalidBody(f"the body is no JSON: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidBody(f"the field {twice!r:.{_LONGEST_TOLD}} is there twice")
    return found


def _constant(name: str) -> NoReturn:
    raise InvalidBody(f"{name} is no number of JSON")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def _named(place: Sequence[int | str]) -> str:
    """Return the place of a value: ``requests[3].attributes.client``."""
    text = ""
    for step in place:
        text += f"[{step}]" if isinstance(step, int) else f".{step:.{_LONGEST_TOLD}}"
    return text.removeprefix(".")


def _wording(problem: Mapping[str, Any]) -> str:
    if problem["type"] == "extra_forbidden":
        return "there is no such field"
    if problem["type"] == "missing":
        return "this field is needed"
    message: str = problem["msg"]
    return message.removeprefix("Value error, ")
