"""JSON Schema (draft-07, which editors understand) of the policy language, from the models.

This module names no field: descriptions, examples, types and bounds come from the models. It adds
what editors need and pydantic omits: short forms, patterns of names, closed mappings, numbers with
underscores.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from pydantic.json_schema import GenerateJsonSchema

from ratectl.policy.language.field_types import as_list, check_scope, unique
from ratectl.policy.language.kinds import DEFAULT_KIND, KINDS
from ratectl.policy.language.model import API_VERSION
from ratectl.policy.language.scopes import MAX_DEPTH, MAX_SCOPE_CHARS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_core import core_schema

__all__ = ["policy_schema", "schema_text"]

_DRAFT: Final = "http://json-schema.org/draft-07/schema#"
_SEGMENT: Final = r"/(?!\.{1,2}(/|$))[A-Za-z0-9._-]+"

_OF_VALIDATORS: Final[Mapping[Any, Mapping[str, Any]]] = {
    check_scope: {
        "pattern": rf"^(/|({_SEGMENT}){{1,{MAX_DEPTH}}})$",
        "maxLength": MAX_SCOPE_CHARS,
    },
    unique: {"uniqueItems": True},
}
"""Rules of our own validators as JSON Schema."""

_UNDERSCORED: Final = {
    "type": "string",
    "pattern": "^[0-9]{1,3}(_[0-9]{3})+$",
    "description": "A whole number with underscores, such as 1_000_000.",
}
"""ratectl reads this as a number; editors, which read YAML 1.2, take it for text."""


def policy_schema(kind: str | None = None) -> dict[str, Any]:
    """Return the schema of documents of one kind, or of all kinds."""
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
    """Return the schema as text: the committed files, ``init`` and ``ratectl schema`` use it."""
    return json.dumps(policy_schema(kind), indent=2, ensure_ascii=True) + "\n"


class _Generate(GenerateJsonSchema):
    """Pydantic's generator with the rules of our validators."""

    def function_before_schema(
        self, schema: core_schema.BeforeValidatorFunctionSchema
    ) -> dict[str, Any]:
        inner = super().function_before_schema(schema)
        if schema["function"]["function"] is not as_list:
            return inner
        return {"anyOf": [inner["items"], inner]}

    def function_after_schema(
        self, schema: core_schema.AfterValidatorFunctionSchema
    ) -> dict[str, Any]:
        inner = super().function_after_schema(schema)
        rules = _OF_VALIDATORS.get(schema["function"]["function"], {})
        several = next((form for form in inner.get("anyOf", ()) if "items" in form), inner)
        several.update(rules)
        return inner


def _document(kind: str) -> dict[str, Any]:
    """Return the schema of one kind, with the header that every document has."""
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
            "description": "The kind of document." + (" May be left out." if optional else ""),
            "const": kind,
            "examples": [kind],
        },
    }
    schema["properties"] = header | schema["properties"]
    required = ["apiVersion", *([] if optional else ["kind"]), *schema.get("required", [])]
    return {**schema, "required": required}


def _by_kind(first: str, others: list[str]) -> dict[str, Any]:
    """Return a schema that checks a document by its kind, so that errors are about that kind."""
    chosen: dict[str, Any] = {"$ref": f"#/definitions/{first}"}
    for name in reversed(others):
        chosen = {
            "if": {"properties": {"kind": {"const": name}}, "required": ["kind"]},
            "then": {"$ref": f"#/definitions/{name}"},
            "else": chosen,
        }
    kinds = {
        "description": f"The kind of document. Default: {first}.",
        "enum": [first, *others],
        "examples": [first, *others],
    }
    known = {"properties": {"kind": kinds}}
    return {"type": "object", **known, "allOf": [chosen]}


def _tidy(node: Any) -> Any:
    """Return pydantic's schema in draft-07 and without null, which policies never contain."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    tidied: dict[str, Any] = {}
    for key, value in node.items():
        if key in ("properties", "patternProperties", "$defs"):  # keys are names, not keywords
            name = "definitions" if key == "$defs" else key
            tidied[name] = {field: _tidy(schema) for field, schema in value.items()}
        elif key == "description":
            tidied[key] = " ".join(value.replace("``", "`").split())
        elif key in ("examples", "enum", "const"):
            tidied[key] = value
        elif key not in ("title", "default"):
            tidied[key] = _tidy(value)
    return _closed(_without_null(_bounded(tidied)))


def _bounded(schema: dict[str, Any]) -> dict[str, Any]:
    """Turn ``maxLength`` of a list, which pydantic writes, into ``maxItems``."""
    choices = (schema, *schema.get("anyOf", ()))
    lists = [choice for choice in choices if choice.get("type") == "array"]
    if lists and "maxLength" in schema:
        maximum = schema.pop("maxLength")
        for choice in lists:
            choice["maxItems"] = maximum
    return schema


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) == 1:
        schema = choices[0] | {key: value for key, value in schema.items() if key != "anyOf"}
    elif choices:
        schema = {**schema, "anyOf": choices}
    if "$ref" in schema and len(schema) > 1:  # draft-07 ignores keywords beside a $ref
        schema = {"allOf": [{"$ref": schema.pop("$ref")}], **schema}
    return schema


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    if "patternProperties" in schema:
        schema.setdefault("additionalProperties", False)
    if schema.get("type") == "integer":
        texts = ("description", "examples")
        annotations = {key: schema.pop(key) for key in texts if key in schema}
        schema = {**annotations, "anyOf": [schema, dict(_UNDERSCORED)]}
    return schema
