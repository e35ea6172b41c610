"""Stable keys: under one secret, both engines and every process compute the same numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.engines import MakeEngine, each_engine
from engine.model import Limit
from engine.plans import by_scope, plan_set, rate
from ratectl.engine.stable_keys import StableKeys
from ratectl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

SECRET = b"0123456789abcdef"
NAMES = ("tenant", "route", "ip")

KNOWN: list[tuple[tuple[object, ...], int]] = [
    ((), 1),
    ((None,), 6_386_656_185_649_301_902),
    (("",), 8_963_770_223_798_314_719),
    (("acme",), 4_785_320_350_872_532_765),
    (("acme", None), 12_496_889_428_539_923_317),
    ((None, "acme"), 10_941_793_635_612_592_867),
    (("12345678",), 2_833_073_056_267_242_468),
    (("é" * 9,), 8_410_182_020_101_448_480),
    (("\ud800",), 276_753_363_186_106_601),
    (("x" * 999,), 8_973_400_760_540_435_858),
]
"""Keys with their numbers under ``SECRET``: other versions and machines have to find them."""


def compiled_key(keys: StableKeys, values: Sequence[object]) -> int:
    """Return the number under which the compiled engine keeps the bucket of a key."""
    fast = pytest.importorskip("ratectl.engine.native.engine")
    per = NAMES[: len(values)]
    of = fast.FastEngine(lambda: 0, stable_keys=keys)
    of.swap(plan_set(1, by_scope(Limit("/", "l", rate(1), per))))
    attributes: Any = {
        name: value for name, value in zip(per, values, strict=True) if value is not None
    }
    of.check("/", attributes)
    (group,) = of._active["/"].selection.groups
    number: int = group.store.key(attributes)
    if per:
        assert group.buckets.get(number) is not None, "the bucket is kept under this number"
    return number


@pytest.mark.parametrize(("values", "number"), KNOWN, ids=range(len(KNOWN)))
def test_numbers_of_keys_never_change(values: tuple[object, ...], number: int) -> None:
    assert StableKeys(SECRET).key_of(values) == number


_values = st.one_of(st.none(), st.text(max_size=40), st.integers(), st.booleans(), st.binary())


@given(st.lists(_values, max_size=3), st.binary(min_size=16, max_size=40))
def test_both_engines_compute_the_same_number(values: list[object], secret: bytes) -> None:
    keys = StableKeys(secret)
    assert compiled_key(keys, values) == keys.key_of(values)


@pytest.mark.parametrize("length", [*range(18), 255, 256, 257, 1_000])
def test_every_length_of_text_has_the_same_number(length: int) -> None:
    keys = StableKeys(SECRET)
    for letter in ("a", "é", "\U0001f600"):
        assert compiled_key(keys, [letter * length]) == keys.key_of([letter * length])


def test_keys_and_secrets_have_different_numbers() -> None:
    secrets = [b"a" * 16, b"b" * 16, b"a" * 17, b"a" * 16 + b"\0"]
    values: list[list[object]] = [[], [""], [None], ["a"], ["a", None], [None, "a"], ["a", "a"]]
    numbers = {StableKeys(secret).key_of(of) for secret in secrets for of in values if of}
    assert len(numbers) == len(secrets) * (len(values) - 1)


@each_engine
def test_an_engine_with_stable_keys_decides_as_without(make: MakeEngine) -> None:
    keys = StableKeys(SECRET)
    of = make(lambda: 0, stable_keys=keys)
    assert of.stable_keys is keys
    assert make(lambda: 0).stable_keys is None
    of.swap(plan_set(1, by_scope(Limit("/", "l", rate(2, burst=2), ("tenant",)))))
    admits = of.gate("/", "tenant")
    for tenant in ("acme", "é", "\ud800", None):
        attributes: Any = {} if tenant is None else {"tenant": tenant}
        assert admits(tenant)
        assert of.check("/", attributes)
        assert [admits(tenant), of.check("/", attributes).allowed] == [False, False]


@pytest.mark.parametrize(
    ("secret", "given"),
    [(b"short" * 3, "15 bytes"), ("x" * 32, "str"), (bytearray(32), "bytearray"), (7, "int")],
)
def test_a_secret_that_is_none_is_refused_without_showing_it(secret: Any, given: str) -> None:
    with pytest.raises(UsageError) as raised:
        StableKeys(secret)
    message = str(raised.value)
    assert message == (
        f"stable_keys is a secret of at least 16 bytes, not {given}: make one with "
        "secrets.token_bytes(16), and give the same one to every process"
    )


def test_a_secret_is_not_shown() -> None:
    keys = StableKeys(SECRET)
    assert "0123" not in repr(keys)
    assert str(keys.k0) not in repr(keys)
