"""Semantic rules of policy tests: the exact findings with their places."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratectl.policy.loading.loader import load
from ratectl.policy.read import load_checked

POLICIES = """\
apiVersion: ratectl/v1
scope: /shop
limits:
  spike: {rate: 10/s}
  gone: {rate: 5/s}
budgets:
  fleet: {rate: 100/s}
---
apiVersion: ratectl/v1
scope: /shop/cart
unset: [gone]
budgets:
  fleet: {rate: 50/s}
---
apiVersion: ratectl/v1
kind: PolicyTest
name: a test
steps:
"""


def found(steps: str, policies: str = POLICIES) -> list[str]:
    """Return codes and messages of the findings, each with the text that it marks."""
    text = policies + "".join(f"  - {line}\n" for line in steps.strip().splitlines())
    loaded = load_checked(["-"], stdin=text.encode())
    shown = []
    for each in loaded.diagnostics:
        line = each.source_line or ""
        marked = line[each.span.column - 1 : each.span.end_column - 1]
        shown.append(f"{each.code} [{marked}] {each.message} ({each.hint})")
    return shown


@pytest.mark.parametrize(
    "steps",
    [
        "{scope: /shop, expect: {allowed: 1}}",
        "{scope: /shop/x/y, times: 11, expect: {allowed: 10, first_refused: 11}}",
        "{scope: /shop, times: 11, expect: {allowed: 9, first_refused: 10}}",
        "{scope: /shop, times: 11, expect: {allowed: 10, first_refused: 1}}",
        "{scope: /shop, times: 3, expect: {allowed: 3, first_refused: none, retry_after: 0s}}",
        "{scope: /blog, expect: {allowed: 1, reason: no_policy}}",
        "{scope: /shop/cart, effective: {absent: [gone], on_error: deny}}",
        "{scope: /shop/cart, effective: {budgets: {fleet: {scope: /shop, rate: 1/s}}}}",
        "{scope: /shop, expect: {limit: fleet}}",
        # By default a step begins with the last request of the step above.
        (
            "{scope: /shop, times: 11, every: 1s, expect: {allowed: 11}}\n{scope: /shop}\n"
            "{at: 10s, scope: /shop}"
        ),
        "{at: 2026-01-05T00:00:01Z, scope: /shop, expect: {allowed: 1}}\n{at: 1s, scope: /shop}",
    ],
)
def test_steps_without_findings(steps: str) -> None:
    assert found(steps) == []


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (
            "{scope: /shop, times: 5}",
            (
                "RC403 [a test] the test expects nothing, so it cannot fail "
                "(add expect: {allowed: …} to a step)"
            ),
        ),
        (
            "{scope: /shop, expect: {}}",
            "RC403 [expect] expect holds nothing (write allowed: … in it)",
        ),
        (
            "{scope: /shop, effective: {}}",
            "RC403 [effective] effective holds nothing (write limits: … in it)",
        ),
        (
            "{scope: /shop, effective: {limits: {}, absent: []}}",
            "RC403 [effective] effective holds nothing (write limits: … in it)",
        ),
        (
            "{scope: /blog, effective: {limits: {x: {rate: 1/s}}, absent: [x]}}",
            (
                "RC405 [/blog] no policy covers '/blog' "
                "(correct the scope, or expect reason: no_policy)"
            ),
        ),
        (
            "{scope: /shop, effective: {limits: {spike: {}}}}",
            "RC403 [spike] spike expects nothing (write its rate: …)",
        ),
        (
            "{scope: /shop, effective: {budgets: {fleet: {scope: /shop}}}}",
            "RC403 [fleet] fleet expects nothing (write its rate: …)",
        ),
        (
            "{scope: /shop, times: 3, every: 1s, expect: {allowed: 3}}\n{at: 1.5s, scope: /shop}",
            (
                "RC402 [1.5s] step 2 goes back in time: the last request of step 1 is sent at 2s "
                "(write 2s or later)"
            ),
        ),
        (
            "{at: 2026-01-04T23:59:59Z, scope: /shop, expect: {allowed: 1}}",
            (
                "RC402 [2026-01-04T23:59:59Z] step 1 goes back in time: the test starts at 0s "
                "(write 0s or later, or change start)"
            ),
        ),
        (
            "{scope: /shop, times: 9, every: 36500day, expect: {allowed: 9}}",
            "RC402 [scope] the step ends after the year 2262 (end it earlier)",
        ),
        (
            "{scope: /shop, times: 5, expect: {allowed: 6}}",
            "RC404 [6] allowed is 6, but the step sends 5 (write at most 5, or raise times)",
        ),
        (
            "{scope: /shop, times: 5, expect: {first_refused: 6}}",
            "RC404 [6] first_refused is 6, but the step sends 5 (write at most 5, or raise times)",
        ),
        (
            "{scope: /shop, times: 5, expect: {shadow: 6}}",
            "RC404 [6] shadow is 6, but the step sends 5 (write at most 5, or raise times)",
        ),
        (
            "{scope: /shop, times: 5, expect: {allowed: 4, first_refused: none}}",
            "RC404 [none] only 4 of 5 are allowed: one is refused (change one of the two)",
        ),
        (
            "{scope: /shop, times: 5, expect: {allowed: 5, first_refused: 5}}",
            "RC404 [5] all 5 requests are allowed: none is refused (change one of the two)",
        ),
        (
            "{scope: /shop, times: 5, expect: {allowed: 2, first_refused: 4}}",
            "RC404 [4] only 2 are allowed: a request before is refused (change one of the two)",
        ),
        (
            "{scope: /shop, times: 5, expect: {allowed: 5, reason: limited}}",
            (
                "RC404 [limited] no request is refused, so the reason cannot be limited "
                "(change one of the two)"
            ),
        ),
        (
            "{scope: /shop, times: 5, expect: {first_refused: none, retry_after: 1s}}",
            "RC404 [1s] an allowed request does not have to wait (change one of the two)",
        ),
        (
            "{scope: /shop, cost: 50, expect: {reason: never, retry_after: 1s}}",
            "RC404 [1s] if the reason is never, waiting does not help (change one of the two)",
        ),
        (
            "{scope: /shop, times: 1, effective: {on_error: deny}}",
            (
                "RC404 [1] a step with effective sends no requests, so it has no times "
                "(move it to a step of its own)"
            ),
        ),
        (
            "{scope: /shop, effective: {limits: {gone: {rate: 1/s}}, absent: [gone]}}",
            "RC404 [gone] 'gone' cannot be absent and have values (delete one of the two)",
        ),
        (
            "{scope: /shop/cart, effective: {budgets: {fleet: {rate: 1/s}}}}",
            (
                "RC404 [fleet] /shop and /shop/cart both have a budget called 'fleet' "
                "(name the scope: {scope: /shop/cart, …})"
            ),
        ),
        (
            "{scope: /shop, effective: {budgets: {fleet: {rate: 1/s, scope: /shop/cart}}}}",
            "RC404 [/shop/cart] /shop/cart has no budget called 'fleet' (write /shop)",
        ),
        (
            "{scope: /shpo, expect: {allowed: 1}}",
            (
                "RC405 [/shpo] no policy covers '/shpo' "
                "(did you mean /shop? correct the scope, or expect reason: no_policy)"
            ),
        ),
        (
            "{scope: /shop, expect: {limit: spiek}}",
            ("RC406 [spiek] /shop has no limit or budget called 'spiek' (did you mean spike?)"),
        ),
        (
            "{scope: /shop/cart, expect: {limit: gone}}",
            (
                "RC406 [gone] /shop/cart has no limit or budget called 'gone' "
                "(known here: fleet, spike)"
            ),
        ),
        (
            "{scope: /shop, effective: {limits: {fleet: {rate: 1/s}}}}",
            "RC406 [fleet] /shop has no limit called 'fleet' (known here: gone, spike)",
        ),
        (
            "{scope: /shop, effective: {budgets: {spike: {rate: 1/s}}}}",
            "RC406 [spike] /shop has no budget called 'spike' (known here: fleet)",
        ),
        (
            "{scope: /shop, effective: {absent: [gonne]}}",
            (
                "RC406 [gonne] no scope has a limit called 'gonne' "
                "(did you mean gone? check its name: this could never fail)"
            ),
        ),
    ],
)
def test_steps_with_findings(steps: str, expected: str) -> None:
    assert found(steps) == [expected]


def test_names_of_tests_are_unique() -> None:
    again = "---\napiVersion: ratectl/v1\nkind: PolicyTest\nname: a test\nsteps:\n"
    step = "  - {scope: /shop, expect: {allowed: 1}}\n"
    loaded = load_checked(["-"], stdin=(POLICIES + step + again + step).encode())
    (twice,) = loaded.diagnostics
    assert (twice.code, twice.span.line) == ("RC401", 23)
    assert twice.notes == ("first at <stdin>:17:7",)


def test_scopes_below_a_broken_policy_are_not_checked() -> None:
    """The policy must be corrected first."""
    broken = POLICIES.replace("scope: /shop\n", "scope: /shop\nowners: x\n", 1)
    steps = "{scope: /shop, expect: {limit: x}}\n{scope: /other, expect: {allowed: 1}}"
    assert [each[:5] for each in found(steps, broken)] == ["RC134", "RC405"]


def test_limits_that_cannot_be_used_exist() -> None:
    """The limits must be corrected; the test may name them."""
    incomplete = POLICIES.replace("spike: {rate: 10/s}", "spike: {burst: 5}")
    incomplete = incomplete.replace("fleet: {rate: 100/s}", "fleet: {burst: 5}")
    steps = "{scope: /shop, expect: {limit: spike}}\n{scope: /shop, expect: {limit: fleet}}"
    assert [each[:5] for each in found(steps, incomplete)] == ["RC203"] * 2


def test_an_unread_rest_may_have_missing_names() -> None:
    steps = "  - {scope: /blog, expect: {allowed: 1}}\n  - {scope: /shop, expect: {limit: x}}\n"
    text = f"{POLICIES}{steps}---\nscope: /shop/x\nlimits: {{\n"
    codes = [each.code for each in load_checked(["-"], stdin=text.encode()).diagnostics]
    assert codes == ["RC101"]


def test_tests_alone_are_no_policies() -> None:
    """Publishing such a folder would remove every limit."""
    text = POLICIES.rpartition("---\n")[2] + "  - {scope: /x, expect: {limit: z}}\n"
    (only,) = load_checked(["-"], stdin=text.encode()).diagnostics
    assert (only.code, only.message) == ("RC123", "there are only tests, and no policy to test")


def test_tests_are_not_part_of_the_tree() -> None:
    text = POLICIES + "  - {scope: /shop, expect: {allowed: 1}}\n"
    loaded = load(["-"], stdin=text.encode())
    assert loaded.ok
    assert set(loaded.tree.policies) == {"/shop", "/shop/cart"}
    (written,) = loaded.tests
    assert written.test.name == "a test"
    assert str(written.span("steps.0.expect.allowed")) == "<stdin>:19:38"


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.sampled_from(
        ("", "a", "none", "spike", "/shop", "1s", "5m", "2026-01-05T00:00Z", "10/s", "ok", "never")
    ),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ("at", "scope", "times", "every", "expect", "effective", "allowed", "first_refused",
             "limit", "retry_after", "limits", "budgets", "absent", "spike", "fleet", "rate")
        ),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(st.fixed_dictionaries({"name": _VALUES | st.just("x"), "steps": st.lists(_VALUES)}))
def test_any_test_is_valid_or_has_findings(documents: dict[str, object]) -> None:
    """Loading gives findings with a place in the file, or a test; it never raises."""
    document = {"apiVersion": "ratectl/v1", "kind": "PolicyTest", **documents}
    text = POLICIES.rpartition("---\n")[0] + "---\n" + json.dumps(document)
    loaded = load_checked(["-"], stdin=text.encode())
    assert loaded.tests or loaded.diagnostics
    last = text.count("\n") + 1
    assert all(each.span.line == last and each.hint for each in loaded.diagnostics)
