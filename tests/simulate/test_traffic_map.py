"""Traffic maps: their meaning, and every mistake with its exact message."""

from __future__ import annotations

from pathlib import Path

import pytest

from ratectl.errors import UsageError
from ratectl.simulate import MapError, read_map
from ratectl.simulate.calls import Mapper, Unusable

HEAD = "apiVersion: ratectl/v1\nkind: TrafficMap\n"

MISTAKES = Path(__file__).parent / "mistakes"


@pytest.mark.parametrize("name", sorted(path.stem for path in MISTAKES.glob("*.yaml")))
def test_every_mistake_has_its_exact_finding(name: str) -> None:
    """There is one file for each mistake, with the exact findings beside it."""
    path = MISTAKES / f"{name}.yaml"
    with pytest.raises(MapError) as raised:
        read_map(path.read_bytes(), path.name)
    text = "".join(f"{found}\n" for found in raised.value.diagnostics)
    assert text == path.with_suffix(".txt").read_text(encoding="utf-8")
    assert str(raised.value) == f"the traffic map {path.name} is not valid"
    assert isinstance(raised.value, UsageError)


def test_there_are_mistakes() -> None:
    assert len(list(MISTAKES.glob("*.yaml"))) >= 39


def test_a_finding_shows_its_line() -> None:
    with pytest.raises(MapError) as raised:
        read_map((HEAD + "format: combned\nscope: /\n").encode(), "map.yaml")
    assert raised.value.diagnostics[0].source_line == "format: combned"


def mapper(body: str) -> Mapper:
    return Mapper(read_map((HEAD + body).encode(), "map.yaml"))


def test_the_first_rule_that_matches_gives_the_scope() -> None:
    rules = "{match: /a/*, scope: /one}, {match: '*.png', scope: /two}, {match: /b, scope: /three}"
    found = mapper(f"format: combined\nscope: {{field: path, rules: [{rules}]}}\n")
    cases = {
        "/a/x.png": "/one",
        "/a/": "/one",
        "/a": None,
        "/c/d.png": "/two",
        "/b": "/three",
        "/b/": None,
        "/c\n.png": "/two",
    }
    assert {path: found.scope({"path": path}) for path in cases} == cases
    assert found.scope({}) is None


def test_a_field_may_hold_the_scope_itself() -> None:
    found = mapper("format: jsonl\ntime: at\nscope: {field: scope}\n")
    assert found.scope({"scope": "/web/files"}) == "/web/files"
    assert found.scope({"scope": "web"}) is None
    assert found.scope({"scope": "/a/../b"}) is None


def test_attributes_are_fields_constants_or_heads_of_paths() -> None:
    text = "{a: x, b: {const: acme}, c: {field: p, segments: 1}, d: {field: p, segments: 2}}"
    found = mapper(f"format: jsonl\ntime: at\nscope: /\nattributes: {text}\n")
    assert found.attributes({"x": "1", "p": "/files/a/b?c=/d"}) == {
        "a": "1", "b": "acme", "c": "/files", "d": "/files/a"
    }  # fmt: skip
    assert found.attributes({"p": "/"}) == {"b": "acme", "c": "/", "d": "/"}
    assert found.attributes({"p": "?x"})["c"] == "/"
    assert found.attributes({}) == {"b": "acme"}


def test_cost_is_a_number_or_a_field_rounded_up() -> None:
    assert mapper("format: combined\nscope: /\n").cost({}) == 1
    assert mapper("format: combined\nscope: /\ncost: 3\n").cost({}) == 3
    found = mapper("format: combined\nscope: /\ncost: {field: bytes, per: 1000}\n")
    costs = {"0": 0, "1": 1, "1000": 1, "1001": 2}
    assert {size: found.cost({"bytes": size}) for size in costs} == costs
    assert found.cost({}) == 0
    for wrong in ("-1", "1.5", "x", "9" * 19, "٣"):
        with pytest.raises(Unusable, match="bytes is not a whole number"):
            found.cost({"bytes": wrong})


def test_the_example_is_valid() -> None:
    example = Path(__file__).parents[2] / "docs" / "examples" / "web.map.yaml"
    found = Mapper(read_map(example.read_bytes(), example.name))
    scopes = {"/": "/web", "/files/a.zip": "/web/files", "/search": "/web/search"}
    assert {path: found.scope({"path": path}) for path in scopes} == scopes
