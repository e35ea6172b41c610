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
from ratectl.policy.bundle_pieces import split
from ratectl.policy.language.model import Exemption, PolicyTree, SourceMap, with_exceptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Written = dict[str, dict[str, Any]]

SAID: Written = {
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

MINIMAL = b'{"format":1,"policies":[]}'


# -- canonical bytes


def test_the_bytes_are_stable() -> None:
    """A change of this is a new format."""
    assert encode_policies(tree({})) == MINIMAL
    said = {"/b": {"limits": {"x": {"rate": "1_000 / 60s", "per": "t"}}}, "/a": {"owner": "é"}}
    assert encode_policies(tree(said)).decode() == (
        '{"format":1,"policies":[{"owner":"é","scope":"/a"},'
        '{"limits":{"x":{"per":["t"],"rate":"1000/60s"}},"scope":"/b"}]}'
    )
    assert digest(b"").startswith("e3b0c44298fc1c149afbf4c8996fb924")


@given(written, st.randoms(use_true_random=False))
def test_order_does_not_change_the_bytes(said: Written, chance: random.Random) -> None:
    assert encode_policies(tree(_shuffled(said, chance))) == encode_policies(tree(said))


def _shuffled(value: Any, chance: random.Random) -> Any:
    if not isinstance(value, dict):
        return value
    items = [(key, _shuffled(inner, chance)) for key, inner in value.items()]
    chance.shuffle(items)
    return dict(items)


@given(written)
def test_policies_survive_the_round_trip(said: Written) -> None:
    data = encode_policies(tree(said))
    read = decode_policies(data)
    assert read.policies == tree(said).policies
    assert encode_policies(read) == data
    assert read.sources == {}


@given(written)
def test_different_meanings_have_different_bytes(said: Written) -> None:
    before = encode_policies(tree(said))
    other = {**said, "/other": {"limits": {}}}
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
        b'{"format":1,"policies":[{"budgets":{"x":{"resets":"%s"}},"scope":"/"}]}'
        % written.encode()
    }


def test_spelling_of_networks_does_not_change_the_bytes() -> None:
    networks = ("2001:DB8:0::/32", "2001:db8::/32")
    trees = [tree({"/": {"trusted_proxies": [network]}}) for network in networks]
    assert len({encode_policies(of) for of in trees}) == 1
    assert decode_policies(encode_policies(tree(SAID))).policies == tree(SAID).policies


def test_places_do_not_change_the_bytes() -> None:
    here = tree(SAID)
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
def test_what_is_not_origins_says_so(data: bytes) -> None:
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
        (b'{"format":1}', "at policies: Field required"),
        (b'{"policies":[]}', "it reads 1): upgrade ratectl"),
        (b'{"format":"1","policies":[]}', "it reads 1): upgrade ratectl"),
        (b'{"format":2,"policies":[]}', "a format this version cannot read (it reads 1)"),
        (b'{"format":2,"policies":{"new":"shape"},"more":1}', "upgrade ratectl"),
        (b'{"format":1,"policies":[],"more":1}', "at more: Extra inputs"),
        (b'{"format":1,"policies":[{"scope":"a"}]}', "at policies.0.scope: a scope starts with"),
        (b'{"format":1,"policies":[{"scope":"/"},{"scope":"/"}]}', "declares a scope twice"),
        (b'{"format":1,"policies":[{"scope":"/","limits":{"x":{"rate":"5"}}}]}', "is not a rate"),
        (b'{"format":1,"policies":[{"scope":"/","limits":{"x":{"rate":5}}}]}', "needs a duration"),
        (b'{"format":1,"policies":[{"scope":"/","limits":{"x":{"burst":1.5}}}]}', "x.burst"),
        (b'{"format":1,"policies":[{"scope":"/","limits":{"x":{"burst":-1}}}]}', "x.burst"),
        (b'{"format":1,"policies":[{"scope":"/","limits":{"x":{"later":1}}}]}', "x.later"),
        (b'{"format":1,"policies":[{"scope":"/","protected":1}]}', "protected"),
        (b'{"format":1,"policies":[{"scope":"/","budgets":{"x":{"resets":"6"}}}]}', "not a time"),
        (b'{"format":1,"policies":[{"scope":"/","trusted_proxies":["10.0.0.1/8"]}]}', "host bits"),
        (b"[" * 100_000, "bundle is invalid"),
        (b'{"format":1,"policies":' + b"[" * 100_000, "bundle is invalid"),
    ],
    ids=range(22),
)  # fmt: skip
def test_what_is_not_a_bundle_says_why(data: bytes, words: str) -> None:
    with pytest.raises(BundleError) as raised:
        decode_policies(data)
    assert words in str(raised.value)


def test_a_bundle_has_a_greatest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MAX_BUNDLE_BYTES", len(MINIMAL))
    assert decode_policies(MINIMAL).policies == {}
    with pytest.raises(BundleError, match="has 27 bytes, more than 26"):
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
    """Bundles with something wrong: in their bytes, or in what they say."""
    chance = random.Random(20_261_123)
    for number in range(count):
        if number % 2:
            data = bytearray(good)
            for _ in range(chance.choice((1, 1, 1, 2, 8))):
                _break_bytes(data, chance)
            yield bytes(data)
        else:
            said = json.loads(good)
            for _ in range(chance.choice((1, 1, 2, 4))):
                _break_meaning(said, chance)
            spaces = (",", ":") if chance.random() < 0.5 else None
            text = json.dumps(said, ensure_ascii=chance.random() < 0.5, separators=spaces)
            yield text.encode(errors="surrogatepass")


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
    """What was read, or what the error said."""
    try:
        return decode(data)
    except BundleError as error:
        return str(error)


def test_ten_thousand_broken_bundles_raise_nothing_else() -> None:
    read = 0
    for data in mutants(10_000, encode_policies(tree(SAID))):
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
    good = encode_origins(tree(SAID))
    for _ in range(3_000):
        data = bytearray(good)
        _break_bytes(data, chance)
        got = outcome(decode_origins, bytes(data))
        assert isinstance(got, dict) or str(got).startswith("origins are not readable")


# -- documents are read one by one where the bytes are those that encode_policies writes


def read_whole(data: bytes) -> PolicyTree:
    """What a bundle says, read in one go."""
    policies, found = bundle._whole(data)
    by_scope = {policy.scope: policy for policy in policies}
    if len(by_scope) != len(policies):
        raise BundleError("bundle declares a scope twice")
    return with_exceptions(PolicyTree(by_scope), ((each, None) for each in found))


EXCEPTIONS = [
    {
        "scope": "/", "reason": "CHG-1 {\"a\": [1]}", "until": "2030-01-01T00:00Z",
        "match": {"tenant": ["a}", "b\\"]}, "limits": {"spike": {"rate": "9/s"}},
    },
    {"scope": "/payments", "reason": "r", "until": "2030-01-02T00:00Z", "budgets": {}},
]  # fmt: skip


def with_all(said: Written, found: list[dict[str, Any]]) -> PolicyTree:
    exempt = [Exemption.model_validate({"reason": "r", **each}) for each in found]
    return with_exceptions(PolicyTree(tree(said).policies), ((each, None) for each in exempt))


@given(written, overrides, exceptions)
def test_one_by_one_they_say_what_the_whole_says(
    said: Written, own: dict[str, list[dict[str, Any]]], found: list[dict[str, Any]]
) -> None:
    of = with_all(with_overrides(said, own), found)
    data = encode_policies(of)
    pieces = split(data)
    assert pieces is not None, "what is published need not be read in one go"
    assert len(pieces.policies) == len(of.policies) + 1
    assert decode_policies(data) == read_whole(data) == of


@given(written, overrides, exceptions)
def test_the_bytes_are_those_of_canonical_json(
    said: Written, own: dict[str, list[dict[str, Any]]], found: list[dict[str, Any]]
) -> None:
    data = encode_policies(with_all(with_overrides(said, own), found))
    once_more = json.dumps(
        json.loads(data), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    assert once_more.encode() == data


GOOD = encode_policies(with_all(SAID, EXCEPTIONS))
POLICY, OTHER = b'{"limits":{"x":{"rate":"1/s"}},"scope":"/"}', b'{"scope":"/a"}'
EXCEPTION = b'{"reason":"r","scope":"/","until":"2030-01-01T00:00Z"}'


def form(policies: bytes = POLICY, found: bytes | None = None, number: bytes = b"1") -> bytes:
    before = b"" if found is None else b'"exceptions":[' + found + b"],"
    return b"{" + before + b'"format":' + number + b',"policies":[' + policies + b"]}"


DEEP = b"[" * 189 + b"]" * 189
NEARLY = [
    form(), form(POLICY + b"," + OTHER), form(b""), form(b"", b""), form(found=EXCEPTION),
    form(found=b""), form(number=b"2"), form(b"", number=b"2"), form(number=b"0"),
    form(number=b"01"), form(number=b"-1"), form(number=b"1.0"), form(number=b"1e0"),
    form(number=b'"1"'), form(number=b"true"), form(number=b"1" * 30), form(number=b"null"),
    form(number=b'2,"format":1'), form(number=b'1,"format":2'), form(number=b'1,"policies":[]'),
    form() + b" ", form() + b"\n", b" " + form(), b"\xef\xbb\xbf" + form(), form() + form(),
    form()[:-1], form()[:-2], form() + b"}", form() + b"\0",
    form(POLICY + b","), form(b"," + POLICY), form(POLICY + b",," + OTHER), form(POLICY + OTHER),
    form(POLICY + b" ," + OTHER), form(POLICY + b", " + OTHER), form(b" " + POLICY),
    form(b"[" + POLICY + b"]"), form(b"null"), form(b"1"), form(b'"{}"'), form(b"{}"),
    form(b"{}," + POLICY), form(POLICY + b",{}"), form(b'{"scope":"/","scope":"/b"}'),
    form(POLICY + b"," + POLICY), form(POLICY, EXCEPTION + b"," + EXCEPTION),
    form(POLICY, POLICY), form(EXCEPTION), form(b"{}", b"{}"), form(OTHER, b'{"until":1}'),
    form(b'{"scope":"/","owner":"}]"}'), form(b'{"scope":"/","owner":"\\""}'),
    form(b'{"scope":"/","owner":"\\\\"}'), form(b'{"scope":"/","owner":"\\"}'),
    form(b'{"scope":"/","owner":"\n"}'), form(b'{"scope":"/","owner":"\xff"}'),
    form(b'{"scope":"/","owner":"\\ud800"}'), form(b'{"scope":"/","owner":"\xed\xa0\x80"}'),
    form(b'{"scope":"/","protected":NaN}'), form(b'{"scope":"/",}'), form(b"{'scope':'/'}"),
    form(b'{"scope":"/","limits":{"x":{"burst":' + b"9" * 5_000 + b"}}}"),
    form(b'{"scope":"/","owner":' + DEEP + b"}"), form(b'{"scope":"/","owner":[' + DEEP + b"]}"),
    form(b'{"scope":"/","owner":' + b"[" * 9 + DEEP + b"]" * 9 + b"}"),
    form(b'{"scope":"/","owner":' + b'{"a":' * 9 + b"1" + b"}" * 9 + b"}"),
    form(b'{"scope":"/","owner":' + b'{"a":' * 99 + b"1" + b"}" * 99 + b"}"),
    form(b'{"scope":"/x"},{"scope":5},{"scope":'), form(b'{"scope":5},{"scope":6}', b'{"scope":7}'),
    form(OTHER + b',{"later":1,"scope":"/"},' + b'{"scope":"/b","limits":{"x":{"later":1}}}'),
    form(b'{"scope":"/","overrides":{"policies.0.":1}}'),
    form(OTHER + b',{"scope":"/","limits":{"policies":{"rate":"5"}}}'),
    b'{"format":1,"policies":[],"exceptions":[]}', b'{"policies":[],"format":1}',
    b'{"exceptions":[],"policies":[],"format":1}', b'{"exceptions":[]"format":1,"policies":[]}',
    b'{,"format":1,"policies":[]}', b'{"exceptions":[],"format":1,"policies":[],"more":1}',
    form(b'{"scope":"/",' + b'"owner":"x",' * 3_000 + b'"on_error":"deny"}'),
    form(b"{" * 50_000), form(b'{"a":' * 50_000), form(b'{"' * 50_000), form(b'"' * 50_001),
]  # fmt: skip


@pytest.mark.parametrize("data", NEARLY, ids=range(len(NEARLY)))
def test_what_is_nearly_canonical_is_taken_as_the_whole_is(data: bytes) -> None:
    assert outcome(decode_policies, data) == outcome(read_whole, data)


def test_what_is_broken_is_refused_as_the_whole_is() -> None:
    """In the same words; the rest says the same."""
    read = refused = taken_apart = 0
    for data in mutants(6_000, GOOD):
        got = outcome(decode_policies, data)
        assert got == outcome(read_whole, data), data
        read += isinstance(got, PolicyTree)
        refused += isinstance(got, str)
        taken_apart += isinstance(got, str) and split(data) is not None
    assert read > 50
    assert refused > 1_000
    assert taken_apart > 300, "some are refused by what is wrong with a piece"


def test_one_document_may_be_large() -> None:
    many = [
        {"name": f"o{at}", "match": {"tenant": f"{{{at}"}, "limits": {"x": {"burst": at}}}
        for at in range(5_000)
    ]
    said = {"/": {"limits": {"x": {"rate": "1/s"}}, "overrides": many}}
    data = encode_policies(tree(said))
    pieces = split(data)
    assert pieces is not None
    assert len(pieces.policies) == 2
    assert decode_policies(data).policies == tree(said).policies


def test_a_newer_format_says_so_whatever_it_holds() -> None:
    data = form(b'{"later":"shape"},{"scope":5}', number=b"2")
    with pytest.raises(BundleError, match="upgrade ratectl"):
        decode_policies(data)
