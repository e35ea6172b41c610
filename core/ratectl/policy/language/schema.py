"""JSON Schema (draft-07, which editors understand) of the policy language, from the models.

Nothing here knows a field: descriptions, examples, types and bounds are the models' own. What
editors need and pydantic does not say is added by kind: short forms, patterns of names, closed
mappings, numbers with underscores.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from pydantic.json_schema import GenerateJsonSchema

from ratectl.policy.language.kinds import DEFAULT_KIND, KINDS
from ratectl.policy.language.model import API_VERSION, _as_list, _check_scope, _unique
from ratectl.policy.language.scopes import MAX_DEPTH, MAX_SCOPE_CHARS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_core import core_schema

__all__ = ["policy_schema", "schema_text"]

_DRAFT: Final = "http://json-schema.org/draft-07/schema#"
_SEGMENT: Final = r"/(?!\.{1,2}(/|$))[A-Za-z0-9._-]+"

_SAID_BY_VALIDATORS: Final[Mapping[Any, Mapping[str, Any]]] = {
    _check_scope: {
        "pattern": rf"^(/|({_SEGMENT}){{1,{MAX_DEPTH}}})$",
        "maxLength": MAX_SCOPE_CHARS,
    },
    _unique: {"uniqueItems": True},
}
"""What our own validators demand, in words of JSON Schema."""

_UNDERSCORED: Final = {
    "type": "string",
    "pattern": "^[0-9]{1,3}(_[0-9]{3})+$",
    "description": "A whole number with underscores, such as 1_000_000.",
}
"""ratectl reads it as a number, and YAML 1.2, as editors know it, as text."""


def policy_schema(kind: str | None = None) -> dict[str, Any]:
    """The schema of documents of one kind, or of all kinds."""
    names = [kind] if kind is not None else list(KINDS)
    schemas = {name: _document(name) for name in names}
    definitions: dict[str, Any] = {}
    for schema in schemas.values():
        definitions |= schema.pop("definitions", {})
    first, *others = schemas
    body = schemas[first]
    if others:
        definitions |= schemas
        body = _by_kind(first, others)
    whole = {
        "$schema": _DRAFT,
        "title": f"ratectl {kind or 'policies'} ({API_VERSION})",
        **body,
    }
    if definitions:
        whole["definitions"] = dict(sorted(definitions.items()))
    return whole


def schema_text(kind: str | None = None) -> str:
    """The schema as committed, written by ``init`` and printed by ``ratectl schema``."""
    return json.dumps(policy_schema(kind), indent=2, ensure_ascii=True) + "\n"


class _Generate(GenerateJsonSchema):
    """Pydantic's generator, taught what our validators accept and demand."""

    def function_before_schema(
        self, schema: core_schema.BeforeValidatorFunctionSchema
    ) -> dict[str, Any]:
        inner = super().function_before_schema(schema)
        if schema["function"]["function"] is not _as_list:
            return inner
        return {"anyOf": [inner["items"], inner]}

    def function_after_schema(
        self, schema: core_schema.AfterValidatorFunctionSchema
    ) -> dict[str, Any]:
        inner = super().function_after_schema(schema)
        said = _SAID_BY_VALIDATORS.get(schema["function"]["function"], {})
        several = next((each for each in inner.get("anyOf", ()) if "items" in each), inner)
        several.update(said)
        return inner


def _document(kind: str) -> dict[str, Any]:
    """The schema of one kind, with the header that every document has."""
    schema: dict[str, Any] = _tidy(
        KINDS[kind].model_json_schema(
            schema_generator=_Generate, ref_template="#/definitions/{model}"
        )
    )
    optional = kind == DEFAULT_KIND
    header = {
        "apiVersion": {
            "description": "The policy language that the document is written in.",
            "const": API_VERSION,
            "examples": [API_VERSION],
        },
        "kind": {
            "description": "What the document is." + (" May be left out." if optional else ""),
            "const": kind,
            "examples": [kind],
        },
    }
    schema["properties"] = header | schema["properties"]
    required = ["apiVersion", *([] if optional else ["kind"]), *schema.get("required", [])]
    return {**schema, "required": required}


def _by_kind(first: str, others: list[str]) -> dict[str, Any]:
    """Each document by the schema of its kind: errors then speak of that kind alone."""
    chosen: dict[str, Any] = {"$ref": f"#/definitions/{first}"}
    for name in reversed(others):
        chosen = {
            "if": {"properties": {"kind": {"const": name}}, "required": ["kind"]},
            "then": {"$ref": f"#/definitions/{name}"},
            "else": chosen,
        }
    kinds = {
        "description": f"What the document is; {first} where nothing is said.",
        "enum": [first, *others],
        "examples": [first, *others],
    }
    known = {"properties": {"kind": kinds}}
    return {"type": "object", **known, "allOf": [chosen]}


def _tidy(node: Any) -> Any:
    """Pydantic's schema in draft-07, and as people write policies: without null."""
    if isinstance(node, list):
        return [_tidy(each) for each in node]
    if not isinstance(node, dict):
        return node
    tidied: dict[str, Any] = {}
    for key, value in node.items():
        if key in ("properties", "patternProperties", "$defs"):  # names, not words of the schema
            name = "definitions" if key == "$defs" else key
            tidied[name] = {each: _tidy(schema) for each, schema in value.items()}
        elif key == "description":
            tidied[key] = " ".join(value.replace("``", "`").split())
        elif key in ("examples", "enum", "const"):
            tidied[key] = value
        elif key not in ("title", "default"):
            tidied[key] = _tidy(value)
    return _closed(_without_null(_bounded(tidied)))


def _bounded(schema: dict[str, Any]) -> dict[str, Any]:
    """The most items of a list, which pydantic takes for the length of a text."""
    choices = (schema, *schema.get("anyOf", ()))
    lists = [each for each in choices if each.get("type") == "array"]
    if lists and "maxLength" in schema:
        most = schema.pop("maxLength")
        for each in lists:
            each["maxItems"] = most
    return schema


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    choices = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    if len(choices) == 1:
        schema = choices[0] | {key: value for key, value in schema.items() if key != "anyOf"}
    elif choices:
        schema = {**schema, "anyOf": choices}
    if "$ref" in schema and len(schema) > 1:  # draft-07 overlooks what stands beside a $ref
        schema = {"allOf": [{"$ref": schema.pop("$ref")}], **schema}
    return schema


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    if "patternProperties" in schema:
        schema.setdefault("additionalProperties", False)
    if schema.get("type") == "integer":
        said = ("description", "examples")
        about = {key: schema.pop(key) for key in said if key in schema}
        schema = {**about, "anyOf": [schema, dict(_UNDERSCORED)]}
    return schema
