"""The example tree that users copy: valid, equal in both places, with true comments."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ratectl.policy.read import load_checked
from ratectl.policy.resolution.resolver import Resolver
from ratectl.testing import run_tests

if TYPE_CHECKING:
    from ratectl.policy.resolution.effective_limit import Limit

POLICIES = Path(__file__).parents[2] / "policies"
SAAS = Path(__file__).parents[2] / "docs" / "examples" / "saas"
FILES = sorted(path.relative_to(POLICIES).as_posix() for path in POLICIES.rglob("*.yaml"))
ALONE = {"RC123", "RC203", "RC207", "RC301", "RC305", "RC404", "RC405", "RC406"}
"""Found where a file is read without what it inherits, or tests."""


def limit(scope: str, name: str) -> Limit:
    resolved = Resolver(load_checked([POLICIES]).tree).at(scope)
    assert resolved is not None
    return resolved.limits[name]


def test_the_tree_validates_without_a_warning() -> None:
    """Every policy has an owner and a description."""
    loaded = load_checked([POLICIES])
    assert loaded.diagnostics == ()
    assert len(loaded.tree.policies) == 11
    assert {policy.owner is not None for policy in loaded.tree.policies.values()} == {True}
    assert {policy.description is not None for policy in loaded.tree.policies.values()} == {True}


@pytest.mark.parametrize("name", FILES)
def test_every_file_has_valid_syntax(name: str) -> None:
    """Read alone, inherited values may be missing, but the syntax is valid."""
    loaded = load_checked([POLICIES / name])
    assert [found.code for found in loaded.diagnostics if found.code not in ALONE] == []


def test_demo_and_init_install_the_same_tree() -> None:
    """The copy in the package is equal, file by file."""
    packaged = files("ratectl_cli") / "examples" / "policies"
    assert (
        sorted(
            path.relative_to(Path(str(packaged))).as_posix()
            for path in Path(str(packaged)).rglob("*")
            if path.is_file()
        )
        == FILES
    )
    for name in FILES:
        copied = packaged.joinpath(*name.split("/")).read_bytes()
        assert copied == (POLICIES / name).read_bytes(), f"cp policies/{name} into the package"


def test_it_shows_every_feature() -> None:
    """Each feature of the language is used, and few more than once."""
    tree = load_checked([POLICIES]).tree
    policies = tree.policies.values()
    limits = [limit for policy in policies for limit in policy.limits.values()]
    budgets = [budget for policy in policies for budget in policy.budgets.values()]
    overrides = [override for policy in policies for override in policy.overrides]
    kinds = {limit.algorithm for limit in (*limits, *budgets)}
    assert kinds >= {"sliding-window", "quota", "concurrency"}
    assert sum(limit.mode == "shadow" for limit in limits) >= 1
    assert sum(bool(policy.budgets) for policy in policies) >= 3
    assert sum(bool(policy.caps) for policy in policies) >= 2
    assert [policy.scope for policy in policies if policy.trusted_proxies] == ["/web/login"]
    written = [str(matcher) for each in overrides for matcher in each.match.values()]
    for form in ("gold", "cidr", "not", "exists", "*"):
        assert any(form in each for each in written), form
    (exception,) = tree.exceptions
    assert exception.limits
    assert exception.budgets


def test_the_tests_pass_and_cover_the_tree() -> None:
    report = run_tests([POLICIES])
    assert report.passed, report
    assert report.coverage.scopes.missed == ()
    assert report.coverage.overrides.missed == ()
    assert report.coverage.percent >= 90


def test_lines_are_short() -> None:
    for name in FILES:
        text = (POLICIES / name).read_text(encoding="utf-8")
        assert max(map(len, text.splitlines())) <= 100, name


def test_comments_are_true() -> None:
    """Field by field, clipped by a cap, shadow, unset, several attributes, none."""
    spike = limit("/internal", "spike")
    assert (str(spike.rate), spike.burst, spike.per) == ("200/s", 400, ("client",))
    clipped = limit("/payments/refunds", "spike")
    assert (str(clipped.rate), clipped.burst) == ("10/s", 20)
    assert clipped.clips.keys() == {"rate", "burst"}
    assert not limit("/payments/refunds/payouts", "spike").clips
    assert limit("/web", "part").mode == "shadow"
    assert limit("/web", "part").per == ("client", "route")
    assert limit("/payments/refunds/payouts", "daily").algorithm == "quota"
    assert limit("/payments/refunds/payouts", "daily").per == ("merchant",)
    with pytest.raises(KeyError):
        limit("/web/search", "part")
    with pytest.raises(KeyError):
        limit("/internal", "hourly")


def test_the_saas_company_validates_and_each_requirement_has_a_test_that_passes() -> None:
    loaded = load_checked([SAAS])
    assert loaded.diagnostics == ()
    report = run_tests([SAAS])
    assert [each.name for each in report.results if each.failures] == []
    assert len(report.results) == 9
    assert report.coverage.scopes.missed == report.coverage.overrides.missed == ()


def test_no_product_of_the_saas_company_gives_a_free_tenant_more_than_the_cap() -> None:
    tree = load_checked([SAAS]).tree
    for scope in (*tree.policies, "/search/suggest", "/new/product"):
        resolved = Resolver(tree).select(scope, {"tenant": "small", "tier": "free"})
        assert resolved is not None
        spike = resolved.limits["spike"]
        assert (str(spike.rate), spike.burst) == ("2/s", 5)
