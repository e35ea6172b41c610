"""Loading of any bytes: a short, repeatable form of ``make fuzz``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hostile import SEEDS, check_anything, mutants
from ratectl.policy import codes
from ratectl.policy.language.model import LimitFields, Policy
from ratectl.policy.yaml import events

if TYPE_CHECKING:
    from pathlib import Path

HEADER = "apiVersion: ratectl/v1\nscope: /a\n"

VALUES = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text("a1/s-", max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["a", "a b", *LimitFields.model_fields]), inner, max_size=3
        )
    ),
)
FIELDS = st.dictionaries(st.sampled_from([*Policy.model_fields, "kind", "x"]), VALUES)


@given(st.binary(max_size=200))
@settings(max_examples=1000)
def test_bytes(data: bytes) -> None:
    check_anything(data)


@given(st.text(max_size=200))
@settings(max_examples=1000)
def test_text(text: str) -> None:
    check_anything(text.encode("utf-8", "replace"))


@given(st.text(alphabet="ab:-,[]{}&*!|>'\"%@#\\?<0x1e.~ \t\n", max_size=80))
@settings(max_examples=1000)
def test_text_like_yaml(text: str) -> None:
    check_anything((HEADER + text).encode())


@given(FIELDS)
@settings(max_examples=200)
def test_any_value_in_any_field(fields: dict[str, object]) -> None:
    text = json.dumps({"apiVersion": "ratectl/v1", "scope": "/a", **fields})
    for found in check_anything(text.encode()).diagnostics:
        assert "is not valid" not in found.message  # every kind of error has its own message


@given(mutants())
@settings(max_examples=500)
def test_mutants_of_policies(data: bytes) -> None:
    check_anything(data)


@pytest.mark.parametrize("path", SEEDS, ids=lambda path: path.stem)
def test_the_seeds_themselves(path: Path) -> None:
    check_anything(path.read_bytes())


@pytest.mark.parametrize("parser", [yaml.SafeLoader, events._LOADER])
@pytest.mark.parametrize(
    ("text", "code", "place"),
    [
        # libyaml adds a missing last line end, and reports a place below it.
        ("a: b\n?", codes.NULL, (2, 2)),
        ("{a: b,!", codes.TAG, (1, 7)),
        # The Python parser gives no place for a code point that is no character.
        ('a: b\n\nc: ["\\U0010FFFF", "\\U00110000"]\n', codes.SYNTAX, (3, 20)),
        ('a: b\n\nc: "\\UFFFFFFFF"\n', codes.SYNTAX, (3, 5)),
    ],
)
def test_found_by_fuzzing(
    parser: object,
    text: str,
    code: str,
    place: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "_LOADER", parser)
    found = [
        (d.code, (d.span.line, d.span.column)) for d in check_anything(text.encode()).diagnostics
    ]
    assert (code, place) in found
