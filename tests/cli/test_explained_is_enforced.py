"""Agents enforce what `explain` shows, request by request."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from cli_support import CHECKOUT, GLOBAL, TEAM

from ratectl.compiler.plans import compile_tree
from ratectl.engine.conditional_limit import LimitChoice
from ratectl.policy.language.instants import Instant
from ratectl.policy.read import load_valid

if TYPE_CHECKING:
    from pathlib import Path

    from cli_support import Cli

    from ratectl.engine.api import ScopePlan

VALUES: dict[str, tuple[str | None, ...]] = {
    "tier": (None, "gold", "free"),
    "route": (None, "POST /v1/charges"),
    "ip": (None, "10.1.2.3", "192.0.2.1"),
    "tenant": ("acme", "zeta"),
}
TIMES = ("2026-11-23T12:00Z", "2026-11-28T12:00Z", "2026-12-24T00:00Z")


@pytest.fixture
def policies(clean_place: Path) -> None:
    for name, text in (("global", GLOBAL), ("team", TEAM), ("checkout", CHECKOUT)):
        folder = clean_place / "policies"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.yaml").write_text(text)


def enforced(plan: ScopePlan, attributes: dict[str, str]) -> set[tuple[Any, ...]]:
    assert plan.conditions is not None
    mask = plan.conditions.holding(attributes)
    found = set()
    for each in plan.limits:
        chosen = each.plan(each.local(mask)) if isinstance(each, LimitChoice) else each
        if chosen is not None:
            found.add(
                (chosen.scope, chosen.name, chosen.overrides, chosen.per, chosen.shadow,
                 chosen.algorithm.capacity)
            )  # fmt: skip
    return found


def explained(document: dict[str, Any]) -> set[tuple[Any, ...]]:
    return {
        (each["bucket"]["scope"], each["name"], tuple(each["bucket"]["overrides"]),
         tuple(each["per"]), each["mode"] == "shadow",
         each["burst"] or int(each["rate"].partition("/")[0]))
        for each in (*document["limits"], *document["budgets"])
    }  # fmt: skip


@pytest.mark.usefixtures("policies")
@pytest.mark.parametrize("at", TIMES)
def test_buckets_and_values(cli: Cli, at: str) -> None:
    tree = load_valid(["policies"]).tree
    plan = compile_tree(tree, 1, now_ns=Instant.parse(at).ns).scopes["/payments/checkout"]
    for values in product(*VALUES.values()):
        said = {name: value for name, value in zip(VALUES, values, strict=True) if value}
        options = [word for name, value in said.items() for word in ("-a", f"{name}={value}")]
        words = ("explain", "/payments/checkout", "--at", at, *options, "-o", "json")
        assert explained(cli(*words).document) == enforced(plan, said)
