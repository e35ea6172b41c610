"""Matchers: the values of each form, and that ``disjoint`` and ``covers`` are sound."""

from __future__ import annotations

import fnmatch
import ipaddress
import re
import sys
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ratectl.policy.language.matchers import MAX_VALUES, Matcher, covers_all, disjoint_somewhere

PLAIN = ("gold", "", "/v1/a", "/v1/b/a", "a", "aa", "ab", "aba", "ba", "10.1.2.3", "10.255.0.1")
GLOBS = ("*", "**", "a*", "*a", "a*a", "ab*ba", "a*b*a", "/v1/*", "*/a", "10.*", "*.1", "a*aa")
NETWORKS = (
    "0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "192.168.0.0/24",
    "::/0", "2001:db8::/32", "2001:db8:1::/48", "::1/128", "::ffff:0:0/96", "::ffff:a00:0/104",
)  # fmt: skip
ADDRESSES = (
    "10.1.2.3", "10.255.0.1", "192.168.0.9", "::ffff:10.1.2.3", "::ffff:a01:203", "::1",
    "2001:db8::1", "2001:DB8:1::1", "fe80::1%eth0", "10.1.2.3.4", "010.1.2.3", " 10.1.2.3", "::g",
)  # fmt: skip
EVERY: tuple[str | None, ...] = (None, *PLAIN, *ADDRESSES, "abba", "aXa", "/v1/", "*", "g*", "\n")

texts = st.sampled_from((*PLAIN, *GLOBS))
several = st.lists(texts, min_size=1, max_size=3, unique=True)
networks = st.lists(st.sampled_from(NETWORKS), min_size=1, max_size=3, unique=True)
positive = st.one_of(
    texts, several, st.fixed_dictionaries({"cidr": networks}),
    st.fixed_dictionaries({"cidr": st.sampled_from(NETWORKS)}),
)  # fmt: skip
written = st.one_of(
    positive,
    st.fixed_dictionaries({"not": positive}),
    st.fixed_dictionaries({"exists": st.booleans()}),
)
made = st.builds(Matcher.parse, written)
values = st.one_of(
    st.sampled_from(EVERY),
    st.text("ab/*", max_size=6),
    st.ip_addresses().map(str),
    st.ip_addresses(v=4).map(lambda address: f"::ffff:{address}"),
    st.ip_addresses(v=4, network="10.0.0.0/8").map(str),
)


@pytest.mark.parametrize(
    ("form", "yes", "no"),
    [
        ("gold", ["gold"], ["Gold", "gold ", "", "golden", None]),
        ("", [""], ["x", None]),
        (["gold", "platinum"], ["gold", "platinum"], ["silver", "", None]),
        ("/v1/*", ["/v1/", "/v1/a", "/v1/a/b", "/v1/\n"], ["/v1", "/v2/a", "x/v1/", None]),
        ("*", ["", "x", "*"], [None]),
        ("*.pdf", ["a.pdf", ".pdf"], ["a.pdf?", "pdf", None]),
        ("a*b*c", ["abc", "axbxc", "abbcc"], ["ac", "acb", "abcd", None]),
        ("a*a", ["aa", "aba"], ["a", "ab", None]),
        (["x", "y*"], ["x", "y", "yz"], ["xy", None]),
        ("[ab]?", ["[ab]?"], ["ax", "bx", None]),
        ({"not": "gold"}, ["silver", "", None], ["gold"]),
        ({"not": ["a", "b*"]}, ["c", "ab", None], ["a", "b", "bb"]),
        ({"cidr": "10.0.0.0/8"}, ["10.1.2.3", "::ffff:10.1.2.3"], ["11.0.0.1", "x", "", None]),
        ({"cidr": "2001:db8::/32"}, ["2001:db8::1", "2001:DB8:0::1"], ["2001:db9::1", "1.2.3.4"]),
        ({"cidr": ["10.0.0.0/8", "::1/128"]}, ["10.0.0.0", "::1"], ["::2", "9.9.9.9", None]),
        ({"not": {"cidr": "10.0.0.0/8"}}, ["11.0.0.1", "no address", None], ["10.0.0.1"]),
        ({"exists": True}, ["", "x"], [None]),
        ({"exists": False}, [None], ["", "x"]),
    ],
)  # fmt: skip
def test_each_form_matches_its_values(
    form: Any, yes: list[str | None], no: list[str | None]
) -> None:
    matcher = Matcher.parse(form)
    assert [value for value in yes if not matcher.holds(value)] == []
    assert [value for value in no if matcher.holds(value)] == []


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ([], "an empty list matches nothing"),
        ([["gold"]], "a text or a list of texts"),
        ([None], "a text or a list of texts"),
        (None, "a text or a list of texts"),
        (200, 'write it in quotes, like "200"'),
        (2.5, "write it in quotes"),
        (True, "write it in quotes"),
        (["gold", 1], "write it in quotes"),
        (["gold", "gold"], "'gold' is named twice"),
        ("x" * 513, "513 characters"),
        ([str(n) for n in range(MAX_VALUES + 1)], "1001 values are too many"),
        ({}, "has one field"),
        ({"not": "x", "exists": True}, "has one field"),
        ({"regex": ".*"}, "match takes no regular expression: write"),
        ({1: "x"}, "'1' is not a matcher"),
        ({"exists": "true"}, "exists is true or false"),
        ({"exists": 1}, "exists is true or false"),
        ({"not": {"not": "x"}}, "not cannot contain not"),
        ({"not": {"exists": True}}, "not cannot contain exists"),
        ({"not": {}}, "has one field"),
        ({"cidr": "10.0.0.1/8"}, "has the size of a network: write 10.0.0.0/8"),
        ({"cidr": "10.0.0.0/33"}, "is not a network: write one, like 10.0.0.0/8"),
        ({"cidr": "localhost"}, "is not a network"),
        ({"cidr": []}, "an empty list"),
        ({"cidr": 10}, "write it in quotes"),
    ],
)
def test_errors_name_the_accepted_forms(form: object, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        Matcher.parse(form)


def test_the_largest_matchers_are_accepted() -> None:
    many = Matcher.parse([str(n) for n in range(MAX_VALUES)])
    assert many.holds("999")
    assert Matcher.parse("x" * 512).holds("x" * 512)


@given(made)
def test_written_round_trips(matcher: Matcher) -> None:
    assert Matcher.parse(matcher.written) == matcher
    assert Matcher.parse(matcher) is matcher


@pytest.mark.parametrize(
    ("form", "shown"),
    [
        ("", '""'),
        ("gold", "gold"),
        (["gold", ""], '[gold, ""]'),
        ({"not": ["a", "b*"]}, "{not: [a, b*]}"),
        ({"cidr": "10.0.0.0/8"}, "{cidr: 10.0.0.0/8}"),
        ({"exists": False}, "{exists: false}"),
    ],
)
def test_a_matcher_is_shown_as_it_is_written(form: Any, shown: str) -> None:
    assert str(Matcher.parse(form)) == shown


@given(made, values)
def test_the_negation_holds_exactly_if_the_matcher_does_not(
    matcher: Matcher, value: str | None
) -> None:
    if matcher.exists is None:
        assert matcher.negation().holds(value) is not matcher.holds(value)


@given(made)
def test_exact_lists_all_values_that_hold(matcher: Matcher) -> None:
    if matcher.exact is not None:
        assert [value for value in EVERY if matcher.holds(value)] == [
            value for value in EVERY if value in matcher.exact
        ]


@settings(max_examples=1_000)
@given(made, made, values)
@example(Matcher.parse("a*a"), Matcher.parse("a"), "a")
def test_disjoint_matchers_never_hold_together(
    one: Matcher, two: Matcher, value: str | None
) -> None:
    if one.disjoint(two):
        assert not [each for each in (value, *EVERY) if one.holds(each) and two.holds(each)]
    assert one.disjoint(two) == two.disjoint(one)


@settings(max_examples=1_000)
@given(made, made, values)
def test_a_covering_matcher_holds_whenever_the_covered_one_does(
    one: Matcher, two: Matcher, value: str | None
) -> None:
    if one.covers(two):
        assert not [each for each in (value, *EVERY) if two.holds(each) and not one.holds(each)]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("gold", "silver"),
        ("gold", {"not": "gold"}),
        ("gold", {"exists": False}),
        ({"exists": True}, {"exists": False}),
        ("/v1/a", "/v2/*"),
        ({"cidr": "10.0.0.0/8"}, {"cidr": "11.0.0.0/8"}),
        ({"cidr": "10.0.0.0/8"}, {"cidr": "::/0"}),
        ({"cidr": "10.1.0.0/16"}, {"not": {"cidr": "10.0.0.0/8"}}),
        ("/v1/a/*", {"not": "/v1/*"}),
    ],
)
def test_obviously_disjoint_matchers_are_recognised(one: Any, two: Any) -> None:
    assert Matcher.parse(one).disjoint(Matcher.parse(two))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (["gold", "silver"], "gold"),
        ("*", "gold*"),
        ("/v1/*", "/v1/a/*"),
        ("/v1/*", ["/v1/a", "/v1/b*"]),
        ({"not": "gold"}, "silver"),
        ({"not": "gold"}, {"not": ["gold", "silver"]}),
        ({"not": "gold"}, {"exists": False}),
        ({"exists": True}, "gold"),
        ({"exists": True}, {"cidr": "10.0.0.0/8"}),
        ({"cidr": "10.0.0.0/8"}, {"cidr": ["10.1.0.0/16", "10.2.3.4/32"]}),
        ({"cidr": "10.0.0.0/8"}, "10.1.2.3"),
    ],
)
def test_obvious_coverage_is_recognised(one: Any, two: Any) -> None:
    assert Matcher.parse(one).covers(Matcher.parse(two))


conditions = st.dictionaries(st.sampled_from(("tier", "ip")), made, min_size=1)


@given(conditions, conditions, values, values)
def test_matchers_of_all_attributes_must_hold(
    one: dict[str, Matcher], two: dict[str, Matcher], tier: str | None, ip: str | None
) -> None:
    asked = {"tier": tier, "ip": ip}

    def holds(match: dict[str, Matcher]) -> bool:
        return all(matcher.holds(asked[name]) for name, matcher in match.items())

    if disjoint_somewhere(one, two):
        assert not (holds(one) and holds(two))
    if covers_all(one, two) and holds(two):
        assert holds(one)


def naive(pattern: str, text: str) -> bool:
    """Match a glob by its definition: a star stands for any text."""
    if not pattern:
        return not text
    if pattern[0] != "*":
        return text[:1] == pattern[0] and naive(pattern[1:], text[1:])
    return any(naive(pattern[1:], text[skipped:]) for skipped in range(len(text) + 1))


@settings(max_examples=1_000)
@given(st.text("ab*", min_size=1, max_size=7), st.text("ab", max_size=9))
@example("a*a", "a")
@example("*ab*ab*", "abab")
def test_a_glob_matches_its_definition(pattern: str, text: str) -> None:
    assert Matcher.parse(pattern).holds(text) is naive(pattern, text)


@given(st.text("ab*\n.", min_size=1, max_size=20), st.text("ab\n.", max_size=20))
def test_a_glob_agrees_with_fnmatch(pattern: str, text: str) -> None:
    assert Matcher.parse(pattern).holds(text) is fnmatch.fnmatchcase(text, pattern)


class Counting(str):
    """Text that counts how many of its characters are searched."""

    __slots__ = ("searches", "seen")
    seen: int
    searches: int

    def find(self, part: str, at: int = 0, end: int = sys.maxsize) -> int:  # type: ignore[override]
        found = str.find(self, part, at, end)
        self.seen += (min(end, len(self)) if found < 0 else found + len(part)) - at
        self.searches += 1
        return found


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("*a" * 255 + "*b", "a" * 100_000, False),
        ("a*" * 254 + "b*a", "a" * 100_000, False),
        ("*" * 512, "a" * 100_000, True),
        ("*ab" * 170 + "*", "ab" * 50_000, True),
        ("*" + "a" * 400 + "b*", "a" * 100_000, False),
    ],
)
def test_no_character_of_a_hostile_text_is_searched_twice(
    pattern: str, text: str, fits: bool
) -> None:
    """A regular expression would backtrack, in time proportional to the product of lengths."""
    counting = Counting(text)
    counting.seen = counting.searches = 0
    assert Matcher.parse(pattern).holds(counting) is fits
    assert counting.seen <= len(text)
    assert counting.searches <= pattern.count("*")


@given(st.sampled_from(NETWORKS), st.ip_addresses())
def test_an_address_is_in_a_network_by_its_leading_bits(
    network: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address
) -> None:
    wide = ipaddress.ip_network(network)
    plain = getattr(address, "ipv4_mapped", None) or address
    inside = plain.version == wide.version and (
        int(plain) >> (wide.max_prefixlen - wide.prefixlen)
        == int(wide.network_address) >> (wide.max_prefixlen - wide.prefixlen)
    )
    assert Matcher.parse({"cidr": network}).holds(str(address)) is inside
