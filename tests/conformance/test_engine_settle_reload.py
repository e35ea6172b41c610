"""Settle across publications: the charged bucket is found again, and so are its heirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from conformance.test_engine_settle import KINDS, QUOTA, SECOND, TOKENS, WINDOW, ask, one

if TYPE_CHECKING:
    from conformance.engine_rig import Rig


# -- reload


@KINDS
def test_reload_without_changes_has_no_effect(rig: Rig, fields: dict[str, Any]) -> None:
    rig.write({"/": one(**fields)})
    decisions = [ask(rig, 4), ask(rig, 4)]
    rig.write({"/": one(**fields)})
    decisions[0].settle(3)
    decisions[1].settle(6)
    assert rig.left() == 1


CHANGES = [
    ({"rate": "1/s", "burst": 20}, TOKENS),
    ({"rate": "2/s", "burst": 10}, TOKENS),
    ({**WINDOW, "rate": "20/15s"}, WINDOW),
    ({**WINDOW, "rate": "10/30s"}, WINDOW),
    ({**QUOTA, "rate": "20/min"}, QUOTA),
    ({**QUOTA, "rate": "10/h"}, QUOTA),
    (WINDOW, TOKENS),
    (TOKENS, QUOTA),
    (QUOTA, WINDOW),
]


@pytest.mark.parametrize(("after", "before"), CHANGES)
@pytest.mark.parametrize("touched", [False, True])
def test_additional_charge_uses_the_new_parameters(
    rig: Rig, after: dict[str, Any], before: dict[str, Any], touched: bool
) -> None:
    rig.write({"/": one(**before)})
    decision = ask(rig, 2)
    rig.write({"/": one(**after)})
    left = rig.left() if touched else None
    decision.settle(5)
    now = rig.left()
    assert now is not None
    assert left in (None, now + 3)
    assert now in (5, 15)


def test_changed_count_still_refunds(rig: Rig) -> None:
    for before, after, left in (
        (WINDOW, {**WINDOW, "rate": "20/15s"}, 19),
        (WINDOW, {**WINDOW, "rate": "20/30s"}, 19),
        (QUOTA, {**QUOTA, "rate": "20/min"}, 19),
    ):
        rig.bound(9)
        rig.write({"/": one(**before)})
        decision = ask(rig, 4)
        rig.write({"/": one(**after)}, at=rig.now + 1)
        decision.settle(1)
        assert rig.left(rig.now + 1) == left


@pytest.mark.parametrize("touched", [False, True])
def test_scope_declared_meanwhile_is_charged_too(rig: Rig, touched: bool) -> None:
    policies = {"/": one(**TOKENS, per="tenant")}
    rig.write(policies)
    decision = ask(rig, 2, scope="/a/b", tenant="x")
    rig.write({**policies, "/a": {}})
    if touched:
        assert ask(rig, 1, scope="/a", tenant="x")
    decision.settle(6)
    assert [rig.left(scope=scope, tenant="x") for scope in ("/a", "/")] == [
        3 if touched else 4, 4,
    ]  # fmt: skip
    assert rig.left(scope="/a", tenant="y") == 10


@pytest.mark.parametrize("before", [False, True])
def test_scope_declared_meanwhile_inherits_a_debt(rig: Rig, before: bool) -> None:
    """Neither a debt from before the declaration of the scope, nor one from after it."""
    policies = {"/": one(**TOKENS, per="tenant")}
    rig.write(policies)
    decision = ask(rig, 2, scope="/a/b", tenant="x")
    if before:
        decision.settle(100)
    rig.write({**policies, "/a": {}})
    decision.settle(100)
    rig.now = 50 * SECOND
    assert ask(rig, 1, scope="/a", tenant="x").retry_after_ns == 41 * SECOND
    assert ask(rig, 10, scope="/a", tenant="y")


@pytest.mark.parametrize("touched", [False, True])
def test_settle_after_a_change_of_per(rig: Rig, touched: bool) -> None:
    rig.write({"/": one(**TOKENS, per="tenant")})
    decision = ask(rig, 2, tenant="x", route="r")
    for per in ("route", ["tenant", "route"]):
        rig.write({"/": one(**TOKENS, per=per)})
        if touched:
            assert ask(rig, 1, tenant="x", route="r")
    decision.settle(5)
    left = [rig.left(tenant=tenant, route=route) for tenant, route in ("xr", "xs", "yr")]
    assert left == ([3, 5, 7] if touched else [5, 5, 10])


@pytest.mark.parametrize("touched", [False, True])
def test_override_added_meanwhile_is_charged_too(rig: Rig, touched: bool) -> None:
    gold = [{"name": "gold", "match": {"tier": "gold"}, "limits": {"l": {"burst": 9}}}]
    rig.write({"/": one(**TOKENS)})
    decision = ask(rig, 2, tier="gold")
    rig.write({"/": {**one(**TOKENS), "overrides": gold}})
    if touched:
        assert ask(rig, 1, tier="gold")
    decision.settle(6)
    assert rig.left(tier="gold") == (3 if touched else 4)
    assert rig.left() == 4


def test_limit_removed_and_added_again_keeps_its_debt(rig: Rig) -> None:
    rig.write({"/": one(**TOKENS)})
    decision = ask(rig, 5)
    rig.write({"/": {}})
    decision.settle(7)
    rig.write({"/": one(**TOKENS)})
    decision.settle(9)
    assert rig.left() == 1
    decision.settle(0)
    assert rig.left() == 1, "the bucket began as a copy of the charged one"
    rig.write({})
    decision.settle(4)
