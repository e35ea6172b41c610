"""Cost of choosing overrides, in calls: attributes that no rule mentions cost nothing."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from policy.conditions import NOON, excepted, exception, ns, override
from policy.trees import tree
from ratectl.compiler.matching import ValueTest
from ratectl.compiler.plans import compile_tree
from ratectl.engine.pure import PureEngine

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from ratectl.policy.language.model import PolicyTree

MANY = {f"header-{n}": "x" for n in range(1_000)}


class Recording(Mapping[str, str]):
    """Attributes that record which of them were read."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self.asked: Counter[str] = Counter()

    def __getitem__(self, name: str) -> str:
        self.asked[name] += 1
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("an engine must not iterate over attributes")

    def __len__(self) -> int:
        raise AssertionError("an engine must not count attributes")


def engine(policies: PolicyTree) -> PureEngine:
    made = PureEngine(lambda: 0)
    made.swap(compile_tree(policies, 1, now_ns=ns(NOON)))
    return made


def asked(made: PureEngine, scope: str = "/", **attributes: str) -> Counter[str]:
    recording = Recording({**MANY, **attributes})
    made.check(scope, recording)
    return recording.asked


LIMITS = {"x": {"rate": "10/s", "per": ["tenant"]}}


def test_without_conditions_only_per_attributes_are_read() -> None:
    made = engine(tree({"/": {"limits": LIMITS}}))
    assert asked(made, tenant="acme") == {"tenant": 1}
    made = engine(tree({"/": {"limits": {"x": {"rate": "10/s"}}}}))
    assert asked(made, tenant="acme") == {}


def test_with_conditions_each_mentioned_attribute_is_read_once() -> None:
    policy = {"limits": LIMITS, "overrides": [override(f"o{n}", x={"burst": n}) for n in range(9)]}
    made = engine(excepted({"/": policy}, exception(match={"tenant": "acme"}, limits=LIMITS)))
    for _ in range(2):
        found = asked(made, tenant="acme", tier="gold")
        assert found == {"tier": 1, "tenant": 1}  # read once, to choose and as the key


def test_conditions_of_other_scopes_cost_nothing() -> None:
    other = {"limits": {}, "overrides": [override("a", {"route": "*"}, x={"burst": 1})]}
    made = engine(tree({"/": {"limits": LIMITS}, "/a": other, "/b": {"limits": {}}}))
    assert asked(made, "/b", tenant="acme") == {"tenant": 1}
    assert asked(made, "/a", tenant="acme") == {"tenant": 1, "route": 1}


def calls(made: PureEngine, tier: str) -> Counter[str]:
    """Return the library functions that a repeated check calls."""
    attributes = {"tier": tier, "tenant": "acme"}
    made.check("/s0", attributes)
    found: Counter[str] = Counter()

    def profile(frame: Any, event: str, _: object) -> None:
        if event == "call":
            found[frame.f_code.co_qualname] += 1

    sys.setprofile(profile)
    try:
        made.check("/s0", attributes)
    finally:
        sys.setprofile(None)
    return found


def crowd(scopes: int, overrides: int) -> PolicyTree:
    policies: dict[str, Any] = {"/": {"limits": LIMITS}}
    some = [override(f"o{n}", {"tier": f"t{n}"}, x={"burst": n + 10}) for n in range(overrides)]
    for n in range(scopes):
        policies[f"/s{n}"] = {"limits": {}, "overrides": some}
    return tree(policies)


def test_choosing_does_not_grow_with_scopes_or_overrides() -> None:
    """For a value seen before, the calls are identical."""
    small, large = engine(crowd(1, 1)), engine(crowd(50, 300))
    for tier in ("t0", "none"):
        found = calls(small, tier)
        assert sum(found.values()) > 3
        assert calls(large, tier) == found
    assert calls(large, "t299") == calls(large, "t0")


def test_new_value_is_not_compared_with_every_override(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exact values are looked up; only globs, networks and the like are tried one by one."""
    made = engine(crowd(1, 300))
    globs = engine(
        tree(
            {"/": {"limits": LIMITS, "overrides": [override("o", {"tier": "t*"}, x={"burst": 9})]}}
        )
    )
    tried = Counter[ValueTest]()
    holds = ValueTest.holds

    def counting(self: ValueTest, value: str | None) -> bool:
        tried[self] += 1
        return holds(self, value)

    monkeypatch.setattr(ValueTest, "holds", counting)
    assert made.check("/s0", {"tier": "t7"}).capacity == 17
    assert not tried
    globs.check("/", {"tier": "t7"})
    assert tried.total() == 1
