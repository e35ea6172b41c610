"""Bundles: the same bytes for the same meaning, and nothing but BundleError for anything else."""

from __future__ import annotations

import json
import random
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.trees import exceptions, overrides, tree, with_overrides, written
from ratectl.errors import BundleError
from ratectl.policy import bundle
from ratectl.policy.bundle import (
    decode_origins,
    decode_policies,
    digest,
    encode_origins,
    encode_policies,
)
from ratectl.policy.language.model import Exemption, PolicyTree, SourceMap, with_exceptions
from ratectl.runtime.cooperative import Pacer, cooperative

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Written = dict[str, dict[str, Any]]

POLICIES: Written = {
    "/": {
        "limits": {
            "spike": {"rate": "100/s", "burst": 200, "per": ["tenant"]},
            "steady": {"algorithm": "sliding-window", "rate": "1500/min", "mode": "shadow"},
        },
        "caps": {"spike": {"rate": "400/s", "burst": 1000}},
        "owner": "team-é",
    },
    "/payments/checkout": {
        "on_error": "deny", "protected": True, "unset": ["steady"],
        "limits": {"spike": {"rate": "unlimited"}, "half": {"rate": "0.5/s"}},
        "budgets": {
            "slots": {"algorithm": "concurrency", "max": 9, "hold": "1.50min"},
            "month": {"algorithm": "quota", "rate": "9/month", "resets": "31 00:00 Europe/Berlin"},
            "fleet": {"rate": "5000/s", "burst": 10_000, "across": "cluster"},
        },
        "trusted_proxies": ["10.0.0.0/8", "2001:db8::/32"],
    },
}  # fmt: skip

MINIMAL = b'{"exceptions":0,"format":2,"policies":0}\n'


def one(policy: bytes) -> bytes:
    """Return a bundle with one document, in any bytes."""
    return b'{"exceptions":0,"format":2,"policies":1}\n' + policy + b"\n"


# -- canonical bytes


def test_the_bytes_are_stable() -> None:
    """If this changes, the format must change."""
    assert encode_policies(tree({})) == MINIMAL
    spelling = {"/b": {"limits": {"x": {"rate": "1_000 / 60s", "per": "t"}}}, "/a": {"owner": "é"}}
    assert encode_policies(tree(spelling)).decode() == (
        '{"exceptions":0,"format":2,"policies":2}\n'
        '{"owner":"é","scope":"/a"}\n'
        '{"limits":{"x":{"per":["t"],"rate":"1000/60s"}},"scope":"/b"}\n'
    )
    assert digest(b"").startswith("e3b0c44298fc1c149afbf4c8996fb924")


@given(written, st.randoms(use_true_random=False))
def test_order_does_not_change_the_bytes(spelling: Written, chance: random.Random) -> None:
    assert encode_policies(tree(_shuffled(spelling, chance))) == encode_policies(tree(spelling))


def _shuffled(value: Any, chance: random.Random) -> Any:
    if not isinstance(value, dict):
        return value
    items = [(key, _shuffled(inner, chance)) for key, inner in value.items()]
    chance.shuffle(items)
    return dict(items)


@given(written)
def test_policies_survive_the_round_trip(spelling: Written) -> None:
    data = encode_policies(tree(spelling))
    read = decode_policies(data)
    assert read.policies == tree(spelling).policies
    assert encode_policies(read) == data
    assert read.sources == {}


@given(written)
def test_different_meanings_have_different_bytes(spelling: Written) -> None:
    before = encode_policies(tree(spelling))
    other = {**spelling, "/other": {"limits": {}}}
    assert encode_policies(tree(other)) != before


@pytest.mark.parametrize(
    "spellings",
    [("100/s", "100 / s", "100/1s", "1_0_0/sec", "100.0/second"), ("0.50/min", "0.5/minutes")],
)
def test_spelling_does_not_change_the_bytes(spellings: tuple[str, ...]) -> None:
    trees = [tree({"/": {"limits": {"x": {"rate": rate}}}}) for rate in spellings]
    assert len({encode_policies(of) for of in trees}) == 1


@pytest.mark.parametrize(
    ("spellings", "written"),
    [
        (("6:00", "06:00", "06:00 UTC", " 06:00  UTC "), "06:00 UTC"),
        (("mon 06:00", "Mon 6:00 UTC", "MON 06:00"), "Mon 06:00 UTC"),
        (("01 00:00", "1 0:00"), "1 00:00 UTC"),
    ],
)
def test_spelling_of_resets_does_not_change_the_bytes(
    spellings: tuple[str, ...], written: str
) -> None:
    trees = [tree({"/": {"budgets": {"x": {"resets": resets}}}}) for resets in spellings]
    assert {encode_policies(of) for of in trees} == {
        one(b'{"budgets":{"x":{"resets":"%s"}},"scope":"/"}' % written.encode())
    }


def test_spelling_of_networks_does_not_change_the_bytes() -> None:
    networks = ("2001:DB8:0::/32", "2001:db8::/32")
    trees = [tree({"/": {"trusted_proxies": [network]}}) for network in networks]
    assert len({encode_policies(of) for of in trees}) == 1
    assert decode_policies(encode_policies(tree(POLICIES))).policies == tree(POLICIES).policies


def test_places_do_not_change_the_bytes() -> None:
    here = tree(POLICIES)
    assert here.sources
    assert encode_policies(PolicyTree(here.policies)) == encode_policies(here)


# -- origins


def test_origins_survive_the_round_trip() -> None:
    sources = {"/": SourceMap("a/b é.yaml", {"": (1, 1, 5), "limits.x.rate": (7, 3, 9)})}
    of = PolicyTree({}, sources)
    assert decode_origins(encode_origins(of)) == sources
    assert encode_origins(of) != encode_origins(PolicyTree({}))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xff", b"null", b"[]", b"{}", b'{"sources":[]}', b'{"sources":{"/":5}}',
        b'{"sources":{"/":{"file":"a"}}}', b'{"sources":{"/":{"file":"a","at":{"x":[1,2]}}}}',
        b'{"sources":{"/":{"file":"a","at":{"x":[1,2,"y"]}}}}',
        b'{"sources":{"/":{"file":"a","at":{"x":[1,2,1e999]}}}}',
        b'{"sources":{"/":{"file":"a","at":{"x":[1,2,NaN]}}}}',
        b"[" * 100_000, b'{"sources":' * 100_000, b"9" * 5_000,
    ],
    ids=range(15),
)  # fmt: skip
def test_bytes_that_are_not_origins_are_refused(data: bytes) -> None:
    with pytest.raises(BundleError, match="origins are not readable"):
        decode_origins(data)


# -- what is not a bundle


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "bundle is invalid (0 bytes)"),
        (b"\xff\xfe", "bundle is invalid (2 bytes)"),
        (b"null", "bundle is invalid"),
        (MINIMAL + b"x", "bundle is invalid"),
        (b'{"exceptions":0,"format":2}', "at policies: Field required"),
        (b'{"exceptions":0,"format":2,"policies":-1}', "at policies: Input should be greater"),
        (b'{"exceptions":0,"policies":0}', "it reads 2): upgrade ratectl"),
        (b'{"exceptions":0,"format":"2","policies":0}', "it reads 2): upgrade ratectl"),
        (b'{"format":3,"policies":[]}', "a format this version cannot read (it reads 2)"),
        (b'{"format":3,"policies":{"new":"shape"},"more":1}', "upgrade ratectl"),
        (b'{"exceptions":0,"format":2,"policies":0,"more":1}', "at more: Extra inputs"),
        (one(b'{"scope":"a"}'), "at policies.0.scope: a scope starts with"),
        (MINIMAL.replace(b'policies":0', b'policies":2') + b'{"scope":"/"}\n' * 2, "a scope twice"),
        (MINIMAL + b'{"scope":"/"}\n', "its header counts other documents than it holds"),
        (one(b'{"scope":"/","limits":{"x":{"rate":"5"}}}'), "is not a rate"),
        (one(b'{"scope":"/","limits":{"x":{"rate":5}}}'), "needs a duration"),
        (one(b'{"scope":"/","limits":{"x":{"burst":1.5}}}'), "x.burst"),
        (one(b'{"scope":"/","limits":{"x":{"burst":-1}}}'), "x.burst"),
        (one(b'{"scope":"/","limits":{"x":{"later":1}}}'), "x.later"),
        (one(b'{"scope":"/","protected":1}'), "protected"),
        (one(b'{"scope":"/","format":1}'), "at policies.0.format: Extra inputs"),
        (one(b'{"scope":"/","budgets":{"x":{"resets":"6"}}}'), "not a time"),
        (one(b'{"scope":"/","trusted_proxies":["10.0.0.1/8"]}'), "has the size of a network"),
        (b"[" * 100_000, "bundle is invalid"),
        (one(b"[" * 100_000), "bundle is invalid"),
    ],
    ids=range(25),
)  # fmt: skip
def test_bytes_that_are_not_a_bundle_are_refused_with_a_reason(data: bytes, words: str) -> None:
    with pytest.raises(BundleError) as raised:
        decode_policies(data)
    assert words in str(raised.value)


def test_a_bundle_has_a_maximum_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MAX_BUNDLE_BYTES", len(MINIMAL))
    assert decode_policies(MINIMAL).policies == {}
    with pytest.raises(BundleError, match="has 42 bytes, more than 41"):
        decode_policies(MINIMAL + b" ")


ODD = json.loads(
    r"""[null, true, false, 0, -1, 1, 2, 1000000000, 1e30, -1e30, 0.5, 1e308,
    1000000000000000000000000000000, "", "/", "x", "1/s", "0.1/s", "1/month", "unlimited", "-1/s",
    "1e3/s", "١/s", "é\u0000\uffff", "\ud800", [], {}, [[]], [{}], ["tenant"], ["tenant", "tenant"],
    {"": ""}, {"x": {}}, {"rate": "1/s"}]"""
)
"""Values in places where they do not belong."""
ODD += ["9" * 50 + "/s", "/" * 2_000, "x" * 2_000, [1] * 20]


def mutants(count: int, good: bytes) -> Iterator[bytes]:
    """Yield bundles with mistakes, in their bytes or in their values."""
    chance = random.Random(20_261_123)
    for number in range(count):
        if number % 2:
            data = bytearray(good)
            for _ in range(chance.choice((1, 1, 1, 2, 8))):
                _break_bytes(data, chance)
            yield bytes(data)
        else:
            documents = [json.loads(line) for line in good.splitlines()]
            for _ in range(chance.choice((1, 1, 2, 4))):
                _break_meaning(documents, chance)
            spaces = (",", ":") if chance.random() < 0.5 else None
            ascii_only = chance.random() < 0.5
            lines = (
                json.dumps(value, ensure_ascii=ascii_only, separators=spaces) for value in documents
            )
            yield "\n".join(lines).encode(errors="surrogatepass")


def _break_bytes(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(data) + 1)
    kind = chance.randrange(5)
    if kind == 0:
        del data[place : place + chance.choice((1, 1, 5, 50, 10_000))]
    elif kind == 1:
        data[place:place] = chance.randbytes(chance.choice((1, 2, 4)))
    elif kind == 2:
        data[place : place + 1] = bytes([chance.choice(b'{}[]",:0123456789.-+eE/\\ \n\0tfn')])
    elif kind == 3:
        data[place:place] = data[place // 2 : place]
    else:
        data[place:place] = chance.choice(
            (b"\\ud800", b"NaN", b"1e999", b"\xed\xa0\x80", b'"":', b"[" * 300, b"null", b"\xf0")
        )


def _break_meaning(value: Any, chance: random.Random) -> None:
    """Replace, add or remove something somewhere below ``value``."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = chance.choice(keys)
        inner = value[key]
        if isinstance(inner, dict | list) and inner and chance.random() < 0.75:
            value = inner
            continue
        if chance.random() < 0.2:
            del value[key]
        elif isinstance(value, dict) and chance.random() < 0.3:
            value[chance.choice(("scope", "rate", "burst", "x", "", "limits"))] = deepcopy(inner)
        else:
            value[key] = deepcopy(chance.choice(ODD))
        return


def outcome(decode: Callable[[bytes], object], data: bytes) -> object:
    """Return the result of decoding, or the text of the error."""
    try:
        return decode(data)
    except BundleError as error:
        return str(error)


def test_ten_thousand_broken_bundles_raise_nothing_else() -> None:
    read = 0
    for data in mutants(10_000, encode_policies(tree(POLICIES))):
        got = outcome(decode_policies, data)
        if isinstance(got, PolicyTree):
            read += 1
            assert decode_policies(encode_policies(got)).policies == got.policies
        else:
            assert isinstance(got, str)
            assert got.startswith("bundle ")
            assert len(got) < 5_000
    assert 100 < read < 5_000, "some mutants are bundles still"


def test_thousands_of_broken_origins_raise_nothing_else() -> None:
    chance = random.Random(7)
    good = encode_origins(tree(POLICIES))
    for _ in range(3_000):
        data = bytearray(good)
        _break_bytes(data, chance)
        got = outcome(decode_origins, bytes(data))
        assert isinstance(got, dict) or str(got).startswith("origins are not readable")


# -- lines


EXCEPTIONS = [
    {
        "scope": "/", "reason": "CHG-1 {\"a\": [1]}\n", "until": "2030-01-01T00:00Z",
        "match": {"tenant": ["a}", "b\\"]}, "limits": {"spike": {"rate": "9/s"}},
    },
    {"scope": "/payments", "reason": "r", "until": "2030-01-02T00:00Z", "budgets": {}},
]  # fmt: skip


def with_all(policies: Written, documents: list[dict[str, Any]]) -> PolicyTree:
    exempt = [Exemption.model_validate({"reason": "r", **fields}) for fields in documents]
    return with_exceptions(
        PolicyTree(tree(policies).policies), ((exception, None) for exception in exempt)
    )


@given(written, overrides, exceptions)
def test_overrides_and_exceptions_survive_the_round_trip(
    policies: Written, own: dict[str, list[dict[str, Any]]], documents: list[dict[str, Any]]
) -> None:
    of = with_all(with_overrides(policies, own), documents)
    data = encode_policies(of)
    assert decode_policies(data) == of
    assert encode_policies(decode_policies(data)) == data


@given(written, overrides, exceptions)
def test_every_line_is_canonical_json(
    policies: Written, own: dict[str, list[dict[str, Any]]], documents: list[dict[str, Any]]
) -> None:
    of = with_all(with_overrides(policies, own), documents)
    lines = encode_policies(of).split(b"\n")
    assert lines.pop() == b""
    assert len(lines) == 1 + len(of.policies) + len(of.exceptions)
    for line in lines:
        value = json.dumps(
            json.loads(line), sort_keys=True, separators=(",", ":"), ensure_ascii=False
        )
        assert value.encode() == line


GOOD = encode_policies(with_all(POLICIES, EXCEPTIONS))


@pytest.mark.parametrize("position", range(len(GOOD.splitlines())))
@pytest.mark.parametrize("change", ["removed", "doubled", "blank", "joined"])
def test_missing_and_additional_lines_are_refused(position: int, change: str) -> None:
    lines = GOOD.splitlines(keepends=True)
    line = lines[position]
    new = {"removed": b"", "doubled": line + line, "blank": b"\n" + line, "joined": line[:-1]}
    lines[position] = new[change]
    data = b"".join(lines)
    if data == GOOD[:-1]:  # the end of the last line may be missing: no document is
        assert decode_policies(data) == decode_policies(GOOD)
        return
    with pytest.raises(BundleError, match=r"^bundle "):
        decode_policies(data)


def test_broken_exceptions_raise_nothing_else() -> None:
    read = refused = 0
    for data in mutants(6_000, GOOD):
        got = outcome(decode_policies, data)
        read += isinstance(got, PolicyTree)
        refused += isinstance(got, str)
    assert read > 50
    assert refused > 1_000


def test_other_threads_run_while_a_bundle_is_read() -> None:
    slept: list[float] = []
    data = encode_policies(tree({f"/s{at}": {} for at in range(2_000)}))
    clock = iter(range(10**9))  # every look at the clock ends a slice
    with cooperative(Pacer(clock=lambda: float(next(clock)), sleep=slept.append)):
        decode_policies(data)
    assert len(slept) >= 2_000, "there is a rest between two documents"


def test_the_refusal_of_another_format_does_not_depend_on_the_documents() -> None:
    newer = b'{"documents":2,"format":3}\n{"later":"shape"}\n{"scope":5}\n'
    older = b'{"format":1,"policies":[{"scope":"/"}]}'
    for data in (newer, older):
        with pytest.raises(BundleError, match=r"it reads 2\): upgrade ratectl, or publish"):
            decode_policies(data)
