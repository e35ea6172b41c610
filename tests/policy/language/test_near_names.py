"""Near names: which differences count as a misspelling, and which are made on purpose."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratectl.policy.language.near_names import NearNames, misspelt

MISSPELT = """
    spkie:spike spke:spike spikee:spike spik:spike psike:spike stedy:steady steadi:steady
    dialy:daily teir:tier weekyl:weekly nigthly:nightly raed:read routte:route roue:route
    tennant:tenant tenent:tenant tenan:tenant cient:client cilent:client accuont:account
    merchnat:merchant concurency:concurrency conncurency:concurrency subscirptoin:subscription
    Spike:spike IP:ip per_tenant:per-tenant pertenant:per-tenant read-tennant:read-tenant
    top10-raed:top10-read http.mehtod:http.method
"""

DELIBERATE = """
    daily:daily2 tier:tier2 tenant1:tenant2 v1:v2 p95:p99 shard-1:shard-11
    hour:hourly day:daily week:weekly month:monthly tier:tiers read:reads card:cards
    upload:uploads upload:uploader uploaded:uploader received:receiver write:writer search:searches
    policy:policies gold:golden slow:slower region:regions minute:minutes route:router
    read:write login:logout get:put eu:us ip:id import:export internal:external increase:decrease
    ingress:egress minimum:maximum approval:approved read:lead gold:bold hold:gold cart:card
    read-eu:read-us requests_eu:requests_us gold-read:gold-write spike-a:spike-b
    cards:carts charge:change white:write posts:ports state:stage day:days a:b x:y
"""


@pytest.mark.parametrize("pair", MISSPELT.split())
def test_misspelling_is_near(pair: str) -> None:
    name, other = pair.split(":")
    assert misspelt(name, other)
    assert misspelt(other, name)


@pytest.mark.parametrize("pair", DELIBERATE.split())
def test_deliberate_difference_is_not_near(pair: str) -> None:
    name, other = pair.split(":")
    assert not misspelt(name, other)
    assert not misspelt(other, name)


NAMES = st.text("abenrstyS12-_", min_size=1, max_size=12)


@given(NAMES, NAMES)
def test_measure_is_symmetric_and_never_holds_for_one_name(name: str, other: str) -> None:
    assert misspelt(name, other) == misspelt(other, name)
    assert not misspelt(name, name)


@given(NAMES, st.lists(NAMES))
def test_search_agrees_with_the_measure(name: str, known: list[str]) -> None:
    found = NearNames().nearest(name, known)
    near = {other for other in known if misspelt(name, other)}
    assert found in near if near else found is None


def test_nearest_of_several_has_the_most_similar_length() -> None:
    assert NearNames().nearest("concurency", ["concurrency", "conncurrency"]) == "concurrency"


def test_number_of_comparisons_is_bounded() -> None:
    names, near = [f"a{'b' * 50}{number:09}" for number in range(2_000)], NearNames()
    started = time.process_time()
    for name in names:
        near.nearest(name, names)
    many = [chr(97 + number % 26) + str(number) for number in range(100_000)]
    for name in many:
        near.nearest(name, many)
    assert time.process_time() - started < 10  # about 1 s
    assert near.nearest("spkie", ["spike"]) is None
