"""Running tests: results of requests, exact to the nanosecond, and reported differences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from suites import differences, policy, report, result

from engine.engines import each_engine
from ratectl.compiler.plans import compile_tree
from ratectl.policy.language.testcase import Effective
from ratectl.policy.read import load_valid
from ratectl.policy.resolution.resolver import resolve
from ratectl.testing.expect import of_effective

if TYPE_CHECKING:
    from engine.engines import MakeEngine

SHOP = policy("/shop", "limits: {spike: {rate: 10/s, burst: 20, per: client}}")


def test_a_burst_and_the_fields_of_its_refusal() -> None:
    found = result(
        SHOP,
        "{scope: /shop, attributes: {client: a}, times: 25, expect: {allowed: 20, "
        "first_refused: 21, shadow: 0, reason: limited, limit: spike, scope: /shop, "
        "retry_after: 100ms, remaining: 0, reset_after: 2s}}",
        "{at: 99.999999ms, scope: /shop, attributes: {client: a}, "
        "expect: {allowed: 0, retry_after: 1ns}}",
        "{at: 100ms, scope: /shop/cart/item, attributes: {client: a}, "
        "expect: {allowed: 1, first_refused: none, reason: ok, retry_after: 0s, remaining: 0}}",
        "{scope: /shop, attributes: {client: b}, expect: {remaining: 19, limit: spike}}",
    )
    assert found.passed
    assert (found.steps, found.requests) == (4, 28)


def test_every_difference_is_reported() -> None:
    found = result(
        SHOP,
        "{scope: /shop, times: 25, expect: {allowed: 21, first_refused: 22, shadow: 1, "
        "reason: never, limit: spike, scope: /, remaining: 1, reset_after: 1s}}",
        "{scope: /shop, expect: {first_refused: none}}",
        "{scope: /shop, expect: {retry_after: 99ms}}",
    )
    assert differences(found) == [
        ("allowed", "21", "20"),
        ("first_refused", "22", "21"),
        ("shadow", "1", "0"),
        ("reason", "never", "limited"),
        ("scope", "/", "/shop"),
        ("remaining", "1", "0"),
        ("reset_after", "1s", "2s"),
        ("first_refused", "none", "1"),
        ("retry_after", "99ms", "100ms"),
    ]
    assert [failure.number for failure in found.failures] == [1, 2, 3]
    assert str(found).splitlines()[:2] == [
        "it: failed",
        "  <stdin>:10:49: allowed: expected 21, got 20",
    ]
    first = found.failures[0].mismatches[0]
    assert first.source_line is not None
    assert first.source_line[first.span.column - 1 : first.span.end_column - 1] == "21"


def test_requests_are_spaced_and_time_goes_on() -> None:
    found = result(
        SHOP,
        "{scope: /shop, times: 120, every: 50ms, expect: {allowed: 79, first_refused: 40}}",
        "{scope: /shop, expect: {allowed: 0}}",
        "{at: 6s, scope: /shop, expect: {allowed: 1}}",
    )
    # 20 at once and one token every 100 ms: each of the first 39 requests gets a token.
    assert differences(found) == []


def test_each_test_begins_with_full_buckets() -> None:
    from suites import case

    step = "{scope: /shop, times: 20, expect: {allowed: 20}}"
    assert report(SHOP, case("one", step), case("two", step)).passed


def test_never_and_peeking() -> None:
    found = result(
        SHOP,
        "{scope: /shop, cost: 21, expect: {allowed: 0, reason: never}}",
        "{scope: /shop, cost: 0, times: 30, expect: {allowed: 30, remaining: 20}}",
        "{scope: /shop, cost: 7, times: 3, expect: {allowed: 2, remaining: 6}}",
        "{scope: /shop, cost: 21, expect: {retry_after: 1s}}",
        "{scope: /blog, expect: {reason: no_policy, allowed: 0}}",
    )
    assert differences(found) == [("retry_after", "1s", "never"), ("allowed", "0", "1")]
    assert found.failures[1].resolved is None


def test_shadow_is_counted() -> None:
    policies = policy("/", "limits: {watch: {rate: 1/s, burst: 2, mode: shadow}}")
    found = result(
        policies,
        "{scope: /, times: 5, expect: {allowed: 5, shadow: 3, reason: shadow, limit: watch}}",
    )
    assert found.passed


def test_a_budget_decides_at_its_own_scope() -> None:
    policies = SHOP + policy("/", "budgets: {fleet: {rate: 1/s, burst: 30}}")
    found = result(
        policies,
        "{scope: /shop, attributes: {client: a}, times: 20, expect: {limit: spike, remaining: 0}}",
        "{scope: /shop, attributes: {client: b}, times: 11, "
        "expect: {allowed: 10, limit: fleet, scope: /, retry_after: 1s}}",
    )
    assert differences(found) == []


def test_quotas_follow_the_calendar_of_the_test() -> None:
    limits = 'limits: {daily: {algorithm: quota, rate: 3/day, resets: "00:00 Europe/Berlin"}}'
    found = result(
        policy("/", limits),
        # Clocks go forward in this night: from midnight to midnight it is 23 hours.
        "{scope: /, times: 4, expect: {allowed: 3, retry_after: 23h}}",
        "{at: 2026-03-29T23:59:59.999999 Europe/Berlin, scope: /, "
        "expect: {allowed: 0, retry_after: 1us}}",
        "{at: 23h, scope: /, times: 4, expect: {allowed: 3, retry_after: 1day}}",
        start="2026-03-29T00:00:00+01:00",
    )
    assert differences(found) == []


def test_the_usual_start_is_a_monday() -> None:
    """Weeks begin on a Monday."""
    limits = "limits: {weekly: {algorithm: quota, rate: 1/week}}"
    found = result(policy("/", limits), "{scope: /, times: 2, expect: {retry_after: 7day}}")
    assert differences(found) == []


@each_engine
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3_000), st.integers(1, 30), st.integers(0, 400), st.integers(0, 3)
        ),
        min_size=1,
        max_size=6,
    )
)
def test_counts_are_those_of_the_engine(
    make: MakeEngine, steps: list[tuple[int, int, int, int]]
) -> None:
    """The counts equal those of an engine that is called for each request."""
    text = []
    engine = make(lambda: 0)
    engine.swap(compile_tree(load_valid(["-"], stdin=SHOP.encode()).tree, 1), 0)
    at = 0
    for wait, times, gap, cost in steps:
        at += wait
        answers = [
            engine.check("/shop", {}, cost, (at + number * gap) * 10**6) for number in range(times)
        ]
        refused = [number for number, each in enumerate(answers, 1) if not each]
        decisive = answers[refused[0] - 1] if refused else answers[-1]
        text.append(
            f"{{at: {at}ms, scope: /shop, times: {times}, every: {gap}ms, cost: {cost}, expect: "
            f"{{allowed: {times - len(refused)}, first_refused: {(*refused, 'none')[0]}, "
            f"retry_after: {decisive.retry_after_ns}ns, remaining: {decisive.remaining}}}}}"
        )
        at += (times - 1) * gap
    assert differences(result(SHOP, *text, start="1971-01-01T00:00Z")) == []


class TestEffective:
    def test_values_in_force(self) -> None:
        policies = policy(
            "/",
            "on_error: deny\nlimits:\n"
            "  spike: {rate: 60/min, burst: 20, per: [client, route]}\n"
            "  steady: {algorithm: sliding-window, rate: 60/min}\n"
            '  daily: {algorithm: quota, rate: 7/day, resets: "06:00 Europe/Berlin"}\n'
            "  nightly: {rate: 1/s}\n",
        )
        policies += policy(
            "/shop",
            "unset: [nightly]\nlimits: {daily: {mode: shadow}}\n"
            "caps: {spike: {burst: 10}}\nbudgets: {fleet: {rate: 5/s, burst: 9}}",
        )
        found = result(
            policies,
            "{scope: /shop/x, effective: {declared_scope: /shop, on_error: deny, "
            "absent: [nightly], "
            "limits: {spike: {rate: 1/s, burst: 10, per: [client, route], mode: enforce, "
            "algorithm: token-bucket}, steady: {rate: 60/60s}, "
            'daily: {rate: 7/day, resets: "06:00 Europe/Berlin", mode: shadow}}, '
            "budgets: {fleet: {rate: 300/min, burst: 9}}}}",
            "{scope: /shop, effective: {declared_scope: /, on_error: allow, absent: [spike], "
            "limits: {steady: {rate: 1/s, algorithm: quota, burst: 1}, daily: {rate: 49/week, "
            "per: client}}, budgets: {fleet: {rate: 6/s}}}}",
        )
        assert differences(found) == [
            ("declared_scope", "/", "/shop"),
            ("on_error", "allow", "deny"),
            ("absent.0", "no limit spike", "spike: 60/min"),
            ("limits.steady.rate", "1/s", "60/min"),
            ("limits.steady.algorithm", "quota", "sliding-window"),
            ("limits.steady.burst", "1", "none"),
            ("limits.daily.rate", "49/week", "7/day"),
            ("limits.daily.per", "[client]", "[]"),
            ("budgets.fleet.rate", "6/s", "5/s"),
        ]
        (failure,) = found.failures
        assert failure.sent is None
        assert failure.number == 2
        assert set(failure.limits) == {"spike", "steady", "daily", "fleet"}

    def test_a_limit_that_does_not_exist(self) -> None:
        """A limit may exist only for some requests."""
        resolved = resolve(load_valid(["-"], stdin=SHOP.encode()).tree, "/shop")
        effective = Effective.model_validate({"limits": {"card": {"mode": "off"}}})
        assert list(of_effective(effective, resolved)) == [
            ("limits.card", "a limit in force", "no limit of this name")
        ]

    def test_budgets_of_one_name(self) -> None:
        policies = policy("/", "budgets: {fleet: {rate: 5/s}}")
        policies += policy("/shop", "budgets: {fleet: {rate: 2/s}}")
        found = result(
            policies,
            "{scope: /shop, effective: {budgets: {fleet: {scope: /, rate: 5/s}}}}",
            "{scope: /shop, effective: {budgets: {fleet: {scope: /shop, rate: 5/s}}}}",
        )
        assert differences(found) == [("budgets.fleet.rate", "5/s", "2/s")]

    def test_off_and_unlimited(self) -> None:
        policies = policy("/", "limits: {a: {rate: 5/s, mode: off}, b: {rate: unlimited}}")
        found = result(
            policies,
            "{scope: /, effective: {limits: {a: {mode: off}, b: {rate: unlimited}}}}",
            "{scope: /, effective: {limits: {b: {rate: 5/s}}, absent: [a]}}",
        )
        assert differences(found) == [
            ("limits.b.rate", "5/s", "unlimited"),
            ("absent.0", "no limit a", "a: 5/s (off)"),
        ]


@pytest.mark.parametrize("engine", ["C", "rust"])
def test_the_engine_is_the_one_that_agents_run(
    monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setenv("RATECTL_ENGINE", engine)
    with pytest.raises(ValueError, match="is not an engine"):
        result(SHOP, "{scope: /shop, expect: {allowed: 1}}")
