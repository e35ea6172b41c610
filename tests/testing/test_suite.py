"""Suites: names of tests, coverage, and policies that change over time."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from suites import case, policy, report, suite

from ratectl.compiler.plans import compile_tree
from ratectl.errors import PolicyError, UsageError
from ratectl.policy.read import load_valid
from ratectl.testing import Item, load_suite, run_tests
from ratectl.testing.coverage import Meter
from ratectl.testing.play import play
from ratectl.testing.world import World

if TYPE_CHECKING:
    from ratectl.engine.api import PlanSet

EXAMPLES = Path(__file__).parents[2] / "policies"
SHOP = policy("/shop", "limits: {spike: {rate: 10/s}, steady: {rate: 100/s}}")
FOUR = "{scope: /shop, times: 5, expect: {allowed: 5}}"
TEN = "{scope: /shop, times: 11, expect: {allowed: 10}}"


class TestSuite:
    def test_names_in_order_and_selection_by_pattern(self) -> None:
        documents = (case("b one", TEN), SHOP, case("a two", TEN), case("c three", TEN))
        assert suite(*documents).names == ("b one", "a two", "c three")
        assert suite(*documents, pattern="^[ab] ").names == ("b one", "a two")
        assert suite(*documents, pattern="three").names == ("c three",)

    def test_one_by_name(self) -> None:
        tests = suite(SHOP, case("one", TEN), case("two", "{scope: /shop, expect: {allowed: 0}}"))
        assert tests.run("one").passed
        assert not tests.run("two").passed
        with pytest.raises(UsageError, match="no test called 'three'"):
            tests.run("three")

    def test_a_pattern_must_be_a_regular_expression(self) -> None:
        with pytest.raises(UsageError, match=r"'\(' is not a regular expression"):
            suite(SHOP, pattern="(")

    def test_invalid_documents_do_not_run(self) -> None:
        with pytest.raises(PolicyError, match="RC406"):
            suite(SHOP, case("one", "{scope: /shop, expect: {limit: spiek}}"))

    def test_a_report_without_tests_has_not_passed(self) -> None:
        empty = report(SHOP)
        assert not empty.passed
        assert str(empty) == "no test ran"

    def test_reports_read_well_in_an_assertion(self) -> None:
        good = report(SHOP, case("one", TEN))
        assert str(good) == "1 passed"
        bad = report(SHOP, case("one", TEN), case("two", "{scope: /shop, expect: {allowed: 0}}"))
        assert not bad.passed
        assert [each.name for each in bad.failed] == ["two"]
        assert str(bad).splitlines() == [
            "two: failed",
            "  <stdin>:16:38: allowed: expected 0, got 1",
        ]

    def test_files(self, tmp_path: Path) -> None:
        (tmp_path / "shop.yaml").write_text(SHOP)
        (tmp_path / "shop_test.yaml").write_text(case("one", TEN))
        assert run_tests([tmp_path]).passed
        assert load_suite([str(tmp_path)], pattern="two").names == ()


class TestCoverage:
    POLICIES = (
        policy("/", "limits: {spike: {rate: 10/s}, idle: {rate: 1/s, mode: off}}")
        + policy("/shop", "limits: {watch: {rate: 2/s, mode: shadow}}\nbudgets: {all: {rate: 9/s}}")
        + policy("/shop/cart", "{}\n".replace("{}\n", "owner: team"))
        + policy("/blog", "owner: team")
    )

    def test_covered_items_and_refusals(self) -> None:
        found = report(
            self.POLICIES,
            case("a", "{scope: /shop, times: 3, expect: {allowed: 3, shadow: 1}}"),
            case("b", "{scope: /shop/cart, effective: {limits: {spike: {rate: 10/s}}}}"),
            case("c", "{scope: /about, times: 11, expect: {allowed: 10}}"),
        ).coverage
        assert found.scopes.total == 4
        assert found.scopes.missed == (Item("/blog"),)
        assert {str(item) for item in found.limits.missed} == {
            "spike @ /blog",
            "watch @ /shop/cart",
        }
        assert found.limits.total == 7
        assert {str(item) for item in found.refused.missed} == {
            "spike @ /blog",
            "spike @ /shop",
            "spike @ /shop/cart",
            "watch @ /shop/cart",
            "budget all @ /shop",
        }
        assert found.overrides.total == 0
        assert found.percent == Fraction(100 * (3 + 5), 4 + 7)

    def test_a_budget_whose_values_are_compared(self) -> None:
        step = "{scope: /shop/cart, effective: {budgets: {all: {rate: 9/s}}}}"
        found = report(self.POLICIES, case("a", step)).coverage
        assert Item("/shop", "all", budget=True) not in found.limits.missed
        assert len(found.limits.missed) == 6

    def test_only_chosen_tests_count(self) -> None:
        documents = (self.POLICIES, case("a", FOUR), case("b", "{scope: /, expect: {allowed: 1}}"))
        found = suite(*documents, pattern="b").run_all().coverage
        assert [str(item) for item in found.scopes.missed] == ["/blog", "/shop", "/shop/cart"]

    def test_no_test_covers_nothing(self) -> None:
        assert report(self.POLICIES).coverage.percent == 0


class _Changing(World):
    """World with a rate of 10/s until a time, and 2/s after it, like an exception."""

    def __init__(self, early: str, late: str, change: int) -> None:
        trees = [load_valid(["-"], stdin=text.encode()).tree for text in (early, late)]
        super().__init__(trees[0])
        self._early, self._late = (compile_tree(tree, 1) for tree in trees)
        self._change = change

    def plans(self, now: int) -> PlanSet:
        return self._early if now < self._change else self._late

    def ends(self, now: int) -> int | None:
        return self._change if now < self._change else None


def test_plans_change_at_their_instant() -> None:
    """Buckets are kept: 10 at once, then the slower rate from the instant of the change."""
    early = policy("/", "limits: {spike: {rate: 10/s, burst: 10}, old: {rate: 50/s}}")
    late = policy("/", "limits: {spike: {rate: 2/s, burst: 10}, new: {rate: 50/s}}")
    steps = (
        "{scope: /, times: 12, every: 1ns, expect: {allowed: 10, first_refused: 11}}",
        # Ten tokens in the first second, then 2 per second: 12 for 20 requests in two seconds.
        "{at: 0.5s, scope: /, times: 21, every: 50ms, expect: {allowed: 11}}",
    )
    tests = early + case("it", *steps, start="1971-01-01T00:00Z")
    loaded = load_valid(["-"], stdin=tests.encode())
    meter = Meter()
    found = play(
        loaded.tests[0],
        _Changing(early, late, loaded.tests[0].test.start.ns + 10**9),
        meter,
        loaded.texts,
    )
    assert found.passed, found
    limits = meter.coverage().limits
    assert (limits.total, limits.missed) == (3, ()), "also what ended or began in between"


def test_the_instant_of_a_change_is_under_the_new_plans() -> None:
    early, late = (policy("/", f"limits: {{spike: {{rate: {rate}/s}}}}") for rate in (5, 0))
    steps = (
        "{at: 999_999_999ns, scope: /, expect: {allowed: 1}}",
        "{at: 1s, scope: /, expect: {allowed: 0, reason: never}}",
    )
    loaded = load_valid(["-"], stdin=(early + case("it", *steps)).encode())
    change = loaded.tests[0].test.start.ns + 10**9
    found = play(loaded.tests[0], _Changing(early, late, change), Meter(), loaded.texts)
    assert found.passed, found


class TestExamples:
    def test_they_pass(self) -> None:
        found = run_tests([EXAMPLES])
        assert found.passed, found
        assert len(found.results) == 17

    @pytest.mark.parametrize(
        ("file", "before", "after", "failing"),
        [
            ("checkout", "burst: 600", "burst: 599", "the checkout takes the rush of a sale"),
            ("checkout", "rate: 250/s", "rate: 249/s", "the checkout takes the rush of a sale"),
            ("checkout", "rate: 5/min", "rate: 6/min", "guesses of card numbers are counted"),
            ("checkout", ", mode: shadow", "", "guesses of card numbers are counted"),
            ("checkout", "burst: 900", "burst: 901", "gold customers get more"),
            ("team", "burst: 1600", "burst: 1500", "all merchants share the capacity"),
            ("black-friday", "28T00:00+", "28T00:01+", "black friday begins and ends"),
            ("black-friday", "01T00:00+", "01T00:00:00.001+", "black friday begins and ends"),
            ("black-friday", "2036-12-01T00:00+", "2036-11-30T23:59+", "black friday begins and"),
            ("refunds", "on_error: deny", "on_error: allow", "refunds are clipped to their cap"),
            ("refunds", "burst: 20}", "burst: 21}", "refunds are clipped to their cap"),
            ("refunds", "rate: 50/day", "rate: 49/day", "a merchant gets fifty payouts a day"),
        ],
    )
    def test_a_lower_burst_makes_tests_fail(
        self, tmp_path: Path, file: str, before: str, after: str, failing: str
    ) -> None:
        import shutil

        tree = tmp_path / "policies"
        shutil.copytree(EXAMPLES, tree)
        path = tree / "payments" / f"{file}.yaml"
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after))
        failed = [each.name for each in run_tests([tree]).failed]
        assert [name for name in failed if name.startswith(failing)], failed
