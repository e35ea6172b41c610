"""Hostile input of the kinds that took other systems down, by their numbers in a list.

Policies are loaded as from users, bundles as by agents. The complete messages are in
``invalid_policies``; the cost of the bombs is in ``cli/test_bombs.py``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bombs import BOMBS
from hostile import load_text
from ratectl.compiler.activation import activate
from ratectl.engine import engine_type
from ratectl.engine.pure import PureEngine
from ratectl.errors import BundleError
from ratectl.policy import bundle, codes
from ratectl.policy.bundle import digest, encode_policies
from ratectl.policy.language.model import Cap, LimitFields, Policy
from ratectl.policy.language.scopes import MAX_DEPTH
from ratectl.policy.yaml.text import MAX_BYTES

if TYPE_CHECKING:
    from ratectl.engine.api import PlanSet
    from ratectl.policy.loading.loader import Loaded

INVALID = Path(__file__).parents[2] / "invalid_policies"
HEADER = "apiVersion: ratectl/v1\nscope: /a\n"
LIMIT = HEADER + "limits:\n  x: {rate: 1/s, burst: 5}\n"

Finding = tuple[str, str]
"""Code and line:column of a finding; an empty place is the whole file."""


def found_in(loaded: Loaded) -> list[Finding]:
    spans = [(found.code, found.span) for found in loaded.diagnostics]
    return [(code, f"{span.line}:{span.column}" if span.line else "") for code, span in spans]


def limit(fields: str) -> str:
    return f"{HEADER}limits:\n  x: {{{fields}}}\n"


def of_file(stem: str) -> bytes:
    return (INVALID / f"{stem}.yaml").read_bytes()


REFUSED: dict[str, tuple[str | bytes, list[Finding]]] = {
    "1 a field left blank": (of_file("null_blank"), [(codes.NULL, "6:5")]),
    "1 a limit left blank": (of_file("null_braces"), [(codes.NULL, "3:10")]),
    "1 an item left blank": (of_file("null_item"), [(codes.NULL, "4:4")]),
    "1 null": (of_file("null_limit"), [(codes.NULL, "4:12")]),
    "1 a tilde": (of_file("null_tilde"), [(codes.NULL, "3:8")]),
    "2 no byte": (b"", [(codes.NO_POLICIES, "")]),
    "2 remarks alone": ("# soon\n---\n", [(codes.NO_POLICIES, "")]),
    "4 a key twice": (of_file("duplicate_key"), [(codes.DUPLICATE_KEY, "6:3")]),
    "4 quoted the second time": (of_file("duplicate_key_quoted"), [(codes.DUPLICATE_KEY, "3:1")]),
    "4 in braces": (limit("rate: 1/s, rate: 2/s"), [(codes.DUPLICATE_KEY, "4:18")]),
    "4 a scope twice": (f"{LIMIT}---\n{LIMIT}", [(codes.DUPLICATE_SCOPE, "7:8")]),
    "5 base 60": (of_file("number_base_60"), [(codes.NUMBER_FORM, "3:14")]),
    "5 octal": (of_file("number_octal"), [(codes.NUMBER_FORM, "4:29")]),
    "5 an exponent": (of_file("number_exponent"), [(codes.NUMBER_FORM, "4:29")]),
    "5 no": (HEADER + "protected: no\n", [(codes.WORD, "3:12")]),
    "5 nan": (of_file("not_finite_nan"), [(codes.NOT_FINITE, "4:29")]),
    "5 inf": (of_file("not_finite_inf"), [(codes.NOT_FINITE, "4:29")]),
    "5 true as a rate": (of_file("rate_boolean"), [(codes.RATE, "4:17")]),
    "5 true as a burst": (limit("rate: 1/s, burst: true"), [(codes.TYPE, "4:25")]),
    "6 200,000 bits as a burst": (
        limit(f"rate: 1/s, burst: 0x{'f' * 50_000}"),
        [(codes.NUMBER_SIZE, "4:25")],
    ),
    "6 200,000 bits as a rate": (
        limit(f"rate: '{'9' * 60_000}/s'"),
        [(codes.RATE, "4:13")],
    ),
    "11 NUL": (of_file("character_nul"), [(codes.CHARACTER, "3:9")]),
    "11 a newline in a key": (of_file("character_in_key"), [(codes.CHARACTER, "3:10")]),
    "11 bidi": (of_file("character_bidi"), [(codes.CHARACTER, "3:9")]),
    "11 bidi in a key": (
        HEADER + 'limits: {"a\\u202eb": {rate: 1/s}}\n',
        [(codes.CHARACTER, "3:10")],
    ),
    "11 a lone surrogate in a key": (
        HEADER + 'limits: {"\\ud800": {rate: 1/s}}\n',
        [(codes.SYNTAX, "3:11")],
    ),
    "11 a lone surrogate in bytes": (
        HEADER.encode() + b"limits: {\xed\xa0\x80: {rate: 1/s}}\n",
        [(codes.ENCODING, "3:10")],
    ),
    "12 a number beside its text": (
        HEADER + "limits: {5: {rate: 1/s}, '5': {rate: 2/s}}\n",
        [(codes.KEY, "3:10")],
    ),
    "12 true beside its text": (
        HEADER + "limits: {true: {rate: 1/s}, 'true': {rate: 2/s}}\n",
        [(codes.KEY, "3:10")],
    ),
    "13 above the root": (of_file("scope_dots"), [(codes.SCOPE, "2:8")]),
    "13 its own parent": (LIMIT + "parent: /a\n", [(codes.UNKNOWN_FIELD, "5:1")]),
    "13 a scope of depth 1,000": (
        f"apiVersion: ratectl/v1\nscope: {'/a' * 1_000}\n",
        [(codes.SCOPE, "2:8")],
    ),
    "14 a field of a newer schema": (of_file("unknown_field_far"), [(codes.UNKNOWN_FIELD, "3:1")]),
    "14 a field of a newer limit": (
        limit("rate: 1/s, magic: {a: b}"),
        [(codes.UNKNOWN_FIELD, "4:18")],
    ),
    "14 a newer version": (
        "apiVersion: ratectl/v2\nscope: /a\nmagic: 1\n",
        [(codes.API_VERSION, "1:13")],
    ),
    "15 a negative burst": (of_file("range_negative"), [(codes.RANGE, "4:29")]),
    "15 a negative rate": (of_file("rate_negative"), [(codes.RATE, "4:17")]),
    "15 a burst of 10^18 - 1": (limit(f"rate: 1/s, burst: {10**18 - 1}"), [(codes.RANGE, "4:25")]),
    "15 a burst of 10^18": (of_file("number_too_long"), [(codes.NUMBER_SIZE, "4:29")]),
    "15 a rate of 10^18": (limit(f"rate: {10**18}/s"), [(codes.RATE, "4:13")]),
}


@pytest.mark.parametrize(("text", "expected"), REFUSED.values(), ids=REFUSED)
def test_policies_are_refused(text: str | bytes, expected: list[Finding]) -> None:
    loaded = load_text(text)
    assert found_in(loaded) == expected
    assert not loaded.ok


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused(name: str) -> None:
    bomb = BOMBS[name]
    loaded = load_text(bomb.text())
    assert any(code == bomb.code and re.fullmatch(bomb.place, at) for code, at in found_in(loaded))
    assert not loaded.ok


@pytest.mark.parametrize("field", [*Policy.model_fields, "apiVersion", "kind"])
@pytest.mark.parametrize("blank", ["", " null", " ~", " # to do"])
def test_1_blank_fields_of_a_policy_are_refused(field: str, blank: str) -> None:
    others = [line for line in HEADER.splitlines() if not line.startswith(f"{field}:")]
    loaded = load_text("\n".join([*others, f"{field}:{blank}", ""]))
    assert codes.NULL in [found.code for found in loaded.diagnostics]
    assert not loaded.ok


@pytest.mark.parametrize("field", LimitFields.model_fields)
@pytest.mark.parametrize("part", ["limits", "budgets", "caps"])
def test_1_blank_fields_of_a_limit_are_refused(part: str, field: str) -> None:
    loaded = load_text(f"{HEADER}{part}:\n  x:\n    {field}:\n")
    expected = [(codes.NULL, "5:5")]
    if part == "caps" and field not in Cap.model_fields:
        expected.append((codes.UNKNOWN_FIELD, "5:5"))
    assert found_in(loaded) == expected


@pytest.mark.parametrize("times", [2, 10])
def test_3_a_file_past_the_bound_is_refused(times: int) -> None:
    assert found_in(load_text(b"#" * (times * MAX_BYTES))) == [(codes.TOO_LARGE, "")]


def many(count: int) -> str:
    document = "apiVersion: ratectl/v1\nscope: /t/s{}\nlimits: {{x: {{rate: 1/s}}}}\n"
    return "---\n".join(document.format(number) for number in range(count))


def of_loaded(text: str) -> PlanSet:
    """Return the plans of an agent after the text is published."""
    loaded = load_text(text)
    assert loaded.ok, found_in(loaded)
    data = encode_policies(loaded.tree)
    return activate(data, digest(data), 1)


@pytest.mark.parametrize("times", [1, 2, 10])
def test_3_a_tree_that_grows_is_enforced(times: int) -> None:
    assert len(of_loaded(many(150 * times)).scopes) == 150 * times


@pytest.mark.parametrize("times", [2, 10])
def test_3_a_bundle_past_the_bound_is_refused_unread(
    times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encode_policies(load_text(many(50)).tree)
    monkeypatch.setattr(bundle, "MAX_BUNDLE_BYTES", len(data) // times)
    with pytest.raises(BundleError, match=f"has {len(data)} bytes, more than"):
        activate(data, digest(data), 1)


def test_13_the_deepest_tree_is_enforced() -> None:
    """Scopes nest by their paths, so no scope can inherit from itself."""
    chain = "---\n".join(
        f"apiVersion: ratectl/v1\nscope: {'/a' * depth}\nlimits: {{x{depth}: {{rate: 1/s}}}}\n"
        for depth in range(1, MAX_DEPTH + 1)
    )
    assert len(of_loaded(chain).scopes["/a" * MAX_DEPTH].limits) == MAX_DEPTH


def bundle_of(*documents: bytes) -> bytes:
    """Return a bundle of policies in any bytes."""
    header = b'{"exceptions":0,"format":2,"policies":%d}' % len(documents)
    return b"\n".join((header, *documents, b""))


def wide(limits: int, scopes: int) -> bytes:
    """Return a bundle whose scopes all inherit the same limits."""
    root = {"scope": "/", "limits": {f"x{at}": {"rate": "1/s"} for at in range(limits)}}
    below = [{"scope": f"/s{at}"} for at in range(scopes)]
    return bundle_of(*(json.dumps(fields).encode() for fields in (root, *below)))


def test_13_a_bundle_that_inherits_too_much_is_not_enforced() -> None:
    data = wide(2_500, 1_000)
    with pytest.raises(BundleError, match="inherit more than 2000000 limits"):
        activate(data, digest(data), 1)


def test_13_many_limits_are_checked_in_few_scopes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six requests at each of 200 scopes would evaluate half a million limits here."""
    checked: set[str] = set()
    swap = engine_type().swap
    monkeypatch.setattr(
        engine_type(),
        "swap",
        lambda engine, plans, now=None: checked.update(plans.scopes) or swap(engine, plans, now),
    )
    data = wide(500, 300)
    activate(data, digest(data), 1)
    assert 10 <= len(checked) <= 25


@pytest.mark.parametrize("fields", ["rate: 0/s", "rate: 0/s, burst: 0", "rate: 1/s, burst: 0"])
def test_15_a_rate_of_zero_admits_only_the_burst(fields: str) -> None:
    engine = PureEngine(lambda: 0)
    engine.swap(of_loaded(limit(fields)), now=0)
    year = 365 * 86_400 * 10**9
    answers = [engine.check("/a", {}, now=year * at).allowed for at in range(3)]
    assert answers[1:] == [False, False]


def policy(**fields: Any) -> bytes:
    """Return a bundle of one policy with any fields."""
    return bundle_of(json.dumps({"scope": "/a", **fields}).encode())


def x(**fields: Any) -> bytes:
    """Return a bundle of one limit."""
    return policy(limits={"x": fields})


NOT_ENFORCED = {
    "1 null as a limit": (policy(limits={"x": None}), "at policies.0.limits.x"),
    "1 a limit of nothing": (x(), "/a: limit 'x' has no rate"),
    "2 no byte": (b"", "bundle is invalid (0 bytes)"),
    "4 a scope twice": (
        bundle_of(b'{"scope":"/a"}', b'{"scope":"/a"}'),
        "bundle declares a scope twice",
    ),
    "5 true as a rate": (x(rate=True), "at policies.0.limits.x.rate"),
    "5 true as a burst": (x(rate="1/s", burst=True), "at policies.0.limits.x.burst"),
    "5 nan as a burst": (x(rate="1/s", burst=float("nan")), "at policies.0.limits.x.burst"),
    "6 200,000 bits as a burst": (
        bundle_of(b'{"scope":"/a","limits":{"x":{"burst":%s}}}' % (b"9" * 60_000)),
        "bundle is invalid",
    ),
    "9 nesting 5,000": (bundle_of(b"[" * 5_000), "bundle is invalid"),
    "11 NUL in a name": (policy(limits={"\0": {"rate": "1/s"}}), "at policies.0.limits"),
    "11 a newline behind a name": (policy(limits={"x\n": {"rate": "1/s"}}), "at policies.0.limits"),
    "11 bidi in a name": (policy(limits={"\u202e": {"rate": "1/s"}}), "at policies.0.limits"),
    "11 a lone surrogate": (policy(limits={"\ud800": {"rate": "1/s"}}), "bundle is invalid"),
    "13 a scope of depth 1,000": (
        bundle_of(json.dumps({"scope": "/a" * 1_000}).encode()),
        "at policies.0.scope",
    ),
    "14 a field of a newer schema": (policy(magic=1), "at policies.0.magic"),
    "14 a newer format": (b'{"format":3,"policies":{}}', "upgrade ratectl"),
    "15 a negative burst": (x(rate="1/s", burst=-1), "at policies.0.limits.x.burst"),
    "15 a negative rate": (x(rate="-1/s"), "at policies.0.limits.x.rate"),
    "15 a burst of 10^18": (x(rate="1/s", burst=10**18), "at policies.0.limits.x.burst"),
    "15 a rate of 10^18": (x(rate=f"{10**18}/s"), "at policies.0.limits.x.rate"),
}
"""Bundles that ``apply`` never writes, but that a broken or hostile store may have."""


@pytest.mark.parametrize(("data", "words"), NOT_ENFORCED.values(), ids=NOT_ENFORCED)
def test_bundles_are_not_enforced(data: bytes, words: str) -> None:
    with pytest.raises(BundleError) as raised:
        activate(data, digest(data), 1)
    assert words in str(raised.value)


def test_2_a_bundle_of_no_policies_limits_nothing() -> None:
    data = bundle_of()
    assert activate(data, digest(data), 1).scopes == {}


def test_every_number_is_covered() -> None:
    numbers = {int(name.split()[0]) for name in (*REFUSED, *BOMBS, *NOT_ENFORCED)}
    assert numbers == set(range(1, 16))
