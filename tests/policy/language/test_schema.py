"""JSON Schema: committed as generated, complete for editors, and in agreement with the loader."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from pydantic import BaseModel, Field

from ratectl.policy.language.kinds import KINDS
from ratectl.policy.language.rates import Rate
from ratectl.policy.language.schema import policy_schema, schema_text
from ratectl.policy.loading.loader import load
from ratectl.policy.yaml.reader import read

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
COMMITTED = ROOT / "schemas" / "policy.v1.schema.json"
FILES = sorted((ROOT / "policies").rglob("*.yaml"))
POLICY = "apiVersion: ratectl/v1\nscope: /shop\n"
TEST = "apiVersion: ratectl/v1\nkind: PolicyTest\nname: a burst\n"
STEP = f"{TEST}steps: [{{scope: /shop, expect: {{allowed: 1}}, "

BAD = {
    "no scope": "apiVersion: ratectl/v1\n",
    "no version": "scope: /shop\n",
    "version": "apiVersion: v1\nscope: /shop\n",
    "kind": f"kind: Polcy\n{POLICY}",
    "relative scope": "apiVersion: ratectl/v1\nscope: shop\n",
    "scope with dots": "apiVersion: ratectl/v1\nscope: /shop/../x\n",
    "scope that ends in a slash": "apiVersion: ratectl/v1\nscope: /shop/\n",
    "unknown field": f"{POLICY}limit: {{}}\n",
    "unknown field of a limit": f"{POLICY}limits: {{spike: {{rate: 1/s, bursts: 1}}}}\n",
    "unknown field of a cap": f"{POLICY}caps: {{spike: {{rate: 1/s, per: x}}}}\n",
    "limits as a list": f"{POLICY}limits: [spike]\n",
    "limit as text": f"{POLICY}limits: {{spike: 1/s}}\n",
    "name of a limit": f'{POLICY}limits: {{"a b": {{rate: 1/s}}}}\n',
    "name of an attribute": f'{POLICY}limits: {{spike: {{per: "a b"}}}}\n',
    "attribute twice": f"{POLICY}limits: {{spike: {{per: [a, a]}}}}\n",
    "many attributes": f"{POLICY}limits: {{spike: {{per: [a, b, c, d, e, f, g, h, i]}}}}\n",
    "rate without duration": f"{POLICY}limits: {{spike: {{rate: 100}}}}\n",
    "rate of a minute or a month": f"{POLICY}limits: {{spike: {{rate: 1/m}}}}\n",
    "rate of milliseconds": f"{POLICY}limits: {{spike: {{rate: 1/ms}}}}\n",
    "rate of many months": f"{POLICY}limits: {{spike: {{rate: 1/3month}}}}\n",
    "negative rate": f'{POLICY}limits: {{spike: {{rate: "-1/s"}}}}\n',
    "negative burst": f"{POLICY}limits: {{spike: {{burst: -1}}}}\n",
    "large burst": f"{POLICY}limits: {{spike: {{burst: 10000000000}}}}\n",
    "burst as text": f'{POLICY}limits: {{spike: {{burst: "200"}}}}\n',
    "burst with decimals": f"{POLICY}limits: {{spike: {{burst: 1.5}}}}\n",
    "algorithm": f"{POLICY}limits: {{spike: {{algorithm: leaky-bucket}}}}\n",
    "mode": f"{POLICY}limits: {{spike: {{mode: dry}}}}\n",
    "on_error": f"{POLICY}on_error: open\n",
    "protected as text": f'{POLICY}protected: "true"\n',
    "long description": f"{POLICY}description: {'x' * 1001}\n",
    "unset twice": f"{POLICY}unset: [a, a]\n",
    "test without a name": "apiVersion: ratectl/v1\nkind: PolicyTest\nsteps: [{scope: /}]\n",
    "test without steps": TEST,
    "test of nothing": f"{TEST}steps: []\n",
    "test at a scope": f"{STEP}}}]\nscope: /shop\n",
    "start without a zone": f"{STEP}}}]\nstart: 2026-01-05T00:00:00\n",
    "step at a number": f"{STEP}at: 5}}]\n",
    "step at an unknown unit": f"{STEP}every: 5m}}]\n",
    "no request": f"{STEP}times: 0}}]\n",
    "number as an attribute": f"{STEP}attributes: {{client: 7}}}}]\n",
    "expectation outside": f"{STEP}allowed: 1}}]\n",
    "first of none": f"{TEST}steps: [{{scope: /shop, expect: {{first_refused: 0}}}}]\n",
    "unknown reason": f"{TEST}steps: [{{scope: /shop, expect: {{reason: denied}}}}]\n",
}

GOOD = {
    "kind": f"kind: Policy\n{POLICY}",
    "root": "apiVersion: ratectl/v1\nscope: /\n",
    "one attribute": f"{POLICY}limits: {{spike: {{rate: 1/s, per: tenant}}}}\n",
    "several attributes": f"{POLICY}limits: {{spike: {{rate: 1/s, per: [a, b]}}}}\n",
    "no attribute": f"{POLICY}limits: {{spike: {{rate: 1/s, per: []}}}}\n",
    "off": f"{POLICY}limits: {{spike: {{mode: off}}}}\n",
    "unlimited": f"{POLICY}limits: {{spike: {{rate: unlimited}}}}\n",
    "underscores": f"{POLICY}limits: {{spike: {{rate: 1_000/s, burst: 1_000}}}}\n",
    "spaces": f'{POLICY}limits: {{spike: {{rate: "10 / 2 min"}}}}\n',
    "test": f"{POLICY}---\n{STEP}at: 1.5h, times: 1_000, every: 10 ms}}]\n",
    "test at a time": f"{POLICY}---\n{STEP}at: 2026-01-05 01:00+01:00}}]\n",
    "start": f"{POLICY}---\n{STEP}}}]\nstart: 2026-01-05T00:00Z\n",
    "none": f"{POLICY}---\n{TEST}steps: [{{scope: /shop, expect: {{first_refused: none}}}}]\n",
    "effective": f"{POLICY}---\n{TEST}steps: [{{scope: /shop, effective: {{absent: [x]}}}}]\n",
}


@pytest.fixture(scope="module")
def validator() -> Draft7Validator:
    return Draft7Validator(policy_schema())


def documents(text: str | bytes) -> list[Any]:
    """Read documents as ratectl does: `mode: off` is text, as in editors."""
    data = text.encode() if isinstance(text, str) else text
    return [document.root.value for document in read(data, "x").documents]


def fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every property of a schema and of its definitions."""
    for name, property_ in schema.get("properties", {}).items():
        yield f"{path}{name}", property_
        yield from fields(property_, f"{path}{name}.")
    for name, definition in schema.get("definitions", {}).items():
        yield from fields(definition, f"{name}.")


def test_the_committed_schema_is_current() -> None:
    assert COMMITTED.read_text() == schema_text(), (
        "run: ratectl schema > schemas/policy.v1.schema.json"
    )


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_it_is_a_schema_of_draft_07(kind: str | None) -> None:
    schema = policy_schema(kind)
    Draft7Validator.check_schema(schema)
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert "$defs" not in json.dumps(schema)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_example_tree_is_accepted(validator: Draft7Validator, path: Path) -> None:
    read_documents = documents(path.read_bytes())
    assert read_documents
    for document in read_documents:
        validator.validate(document)


@pytest.mark.parametrize("text", BAD.values(), ids=list(BAD))
def test_bad_documents_are_rejected(validator: Draft7Validator, text: str) -> None:
    """The loader rejects them as well."""
    (document,) = documents(text)
    assert list(validator.iter_errors(document))
    assert not load(["-"], stdin=text.encode()).ok


@pytest.mark.parametrize("text", GOOD.values(), ids=list(GOOD))
def test_good_documents_are_accepted(validator: Draft7Validator, text: str) -> None:
    for document in documents(text):
        validator.validate(document)
    assert load(["-"], stdin=text.encode()).ok


@pytest.mark.parametrize(("path", "field"), [*fields(policy_schema())])
def test_every_field_is_described_with_examples(path: str, field: dict[str, Any]) -> None:
    """Every example is valid."""
    assert field.get("description"), f"{path}: give the model's field a description"
    assert field.get("examples"), f"{path}: give the model's field examples"
    whole = {**field, "definitions": policy_schema().get("definitions", {})}
    for example in field["examples"]:
        Draft7Validator(whole).validate(example)


def test_unknown_fields_are_refused_everywhere() -> None:
    def mappings(node: Any) -> Iterator[dict[str, Any]]:
        if isinstance(node, dict):
            if node.get("type") == "object" and "if" not in node and "allOf" not in node:
                yield node
            for key, value in node.items():
                if key != "examples":
                    yield from mappings(value)
        elif isinstance(node, list):
            for each in node:
                yield from mappings(each)

    for mapping in mappings(policy_schema("Policy")):
        assert mapping.get("additionalProperties", True) is not True


@given(
    st.from_regex(
        r"\A ?[0-9][0-9_]{0,4}(\.[0-9]{1,3})? ?/ ?[0-9]{0,3} ?"
        r"(s|sec|seconds|min|m|ms|h|hr|d|day|w|weeks|month|months|x) ?\Z"
    )
    | st.sampled_from(["unlimited", "100", "1/", "/s"])
)
def test_the_pattern_of_rates_agrees_with_the_parser(text: str) -> None:
    schema = policy_schema()["definitions"]["LimitFields"]["properties"]["rate"]
    try:
        Rate.parse(text)
    except ValueError:
        parsed = False
    else:
        parsed = True
    assert bool(re.search(schema["pattern"], text)) == parsed


class _Notice(BaseModel):
    scope: str = Field(description="Whose.", examples=["/"])
    until: str = Field(description="When it ends.", examples=["2026-11-30"])


def test_documents_of_several_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is checked by its own kind; only the first kind may be left out."""
    monkeypatch.setitem(KINDS, "Notice", _Notice)  # type: ignore[misc]
    schema = policy_schema()
    Draft7Validator.check_schema(schema)
    validator = Draft7Validator(schema)
    header = {"apiVersion": "ratectl/v1", "scope": "/"}
    validator.validate({**header, "on_error": "deny"})
    validator.validate({**header, "kind": "Policy", "on_error": "deny"})
    validator.validate({**header, "kind": "Notice", "until": "x"})
    for bad in ({"kind": "Notice"}, {"until": "x"}, {"kind": "Notice", "on_error": "deny"}):
        assert list(validator.iter_errors({**header, **bad}))
    assert list(validator.iter_errors({**header, "kind": "Other"}))
    assert policy_schema("Notice")["required"] == ["apiVersion", "kind", "scope", "until"]
