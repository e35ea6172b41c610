"""Rules of the policy language, each in a sentence, with the tests that check it.

A new rule needs a line here; a renamed test fails here until its line is changed.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from syntax_trees import syntax_tree

HERE = Path(__file__).parent

OVERRIDES = "policy/resolution/test_overrides.py"
EXCEPTIONS = "policy/resolution/test_exceptions.py"
RESOLVE = "policy/resolution/test_resolver.py"
CHECK = "policy/validation/test_tree.py"
LAWS = "policy/resolution/test_laws.py"
YAML = "policy/yaml/test_reader.py"
LOADER = "policy/loading/test_loader.py"
MATCHERS = "policy/language/test_matchers.py"
RATES = "policy/language/test_rates.py"
ENGINE = "conformance/test_engine_conformance.py"
BUDGETS = "conformance/test_engine_budgets.py"
QUOTA = "conformance/test_engine_quota.py"
SLOTS = "conformance/test_engine_concurrency.py"
SLOTS_RELOAD = "conformance/test_engine_concurrency_reload.py"
SETTLE = "conformance/test_engine_settle.py"
MIGRATION = "conformance/test_engine_migration.py"
TABLE = "conformance/test_engine_table.py"
TIMED = "engine/test_exceptions_in_engine.py"
AGENT = "agent/test_agent_exceptions.py"
CALENDAR = "engine/algorithms/test_calendar.py"
PROCESS = "agent/test_agent_process.py"
DISK = "agent/test_agent_disk.py"

RULES: dict[str, tuple[str, ...]] = {
    # Resolution
    "deeper beats shallower, field by field": (
        f"{RESOLVE}::test_deeper_beats_shallower_field_by_field",
        f"{OVERRIDES}::test_deeper_beats_shallower_whether_override_or_limits",
        f"{LAWS}::deeper_beats_shallower",
    ),
    "unset drops what is inherited, overrides included": (
        f"{RESOLVE}::test_unset_stops_inheriting_here_and_below",
        f"{OVERRIDES}::test_unset_drops_fields_of_overrides_above",
    ),
    "a name in both unset and limits is replaced whole": (
        f"{RESOLVE}::test_unset_and_set_in_one_document_is_replaced_whole",
        f"{LAWS}::a_limit_that_is_unset_and_set_is_replaced_whole",
    ),
    "null deletes nothing": (f"{LOADER}::test_null_is_an_error",),
    "overrides beat the limits of their document": (
        f"{OVERRIDES}::test_in_one_document_overrides_beat_limits",
    ),
    "a later override beats an earlier one": (
        f"{OVERRIDES}::test_in_file_order_the_later_beats_the_earlier",
    ),
    "every override that matches applies": (
        f"{OVERRIDES}::test_all_matching_overrides_apply_field_by_field",
    ),
    "overrides are inherited": (
        f"{OVERRIDES}::test_an_override_is_inherited_by_every_scope_below",
    ),
    "a change of algorithm drops the fields that the new one lacks": (
        f"{RESOLVE}::test_a_new_algorithm_drops_fields_that_it_lacks",
        (f"{OVERRIDES}::test_an_override_with_a_new_algorithm_drops_fields_that_it_lacks"),
    ),
    "burst defaults to the rate per second, rounded up, at least 1, after merging": (
        f"{RESOLVE}::test_burst_defaults_to_the_rate_per_second_rounded_up",
        f"{RESOLVE}::test_the_default_burst_follows_the_deepest_rate",
        f"{OVERRIDES}::test_burst_defaults_after_overrides_are_merged",
    ),
    "exceptions are merged after the walk": (
        f"{EXCEPTIONS}::test_an_exception_beats_limits_of_deeper_scopes",
    ),
    "of two exceptions the deeper wins": (
        f"{EXCEPTIONS}::test_the_exception_of_the_deeper_scope_wins",
    ),
    "an exception holds from its start, until just before its end": (
        f"{EXCEPTIONS}::test_an_exception_includes_from_and_excludes_until",
        f"{EXCEPTIONS}::test_an_exception_without_from_begins_at_once",
    ),
    "two exceptions that set one field at one scope and time are an error": (
        f"{EXCEPTIONS}::test_two_exceptions_that_set_one_field_at_one_time_are_an_error",
    ),
    "an exception may change a budget of its own scope": (
        f"{EXCEPTIONS}::test_an_exception_changes_budgets_of_its_own_scope_only",
    ),
    "an exception starts and ends by itself": (
        f"{AGENT}::test_exception_starts_and_ends_with_a_store",
        f"{AGENT}::test_exception_starts_and_ends_with_a_directory",
        f"{AGENT}::test_exception_starts_and_ends_without_the_store",
        f"{AGENT}::test_exception_is_in_force_after_start_from_last_good",
        f"{AGENT}::test_exception_follows_a_wall_clock_that_is_set_back",
    ),
    "a value above a cap at or above its scope is an error": (
        f"{CHECK}::test_bad_trees",
        f"{CHECK}::test_a_finding_names_the_cap_and_the_value_to_write",
    ),
    "a value from before its cap was lowered is a warning": (
        "policy/validation/test_baseline.py::test_an_unchanged_value_above_a_lowered_cap_is_a_warning",
        "policy/validation/test_baseline.py::test_a_new_or_changed_value_above_a_cap_is_an_error",
    ),
    "an inherited value above a deeper cap is clipped there": (
        f"{RESOLVE}::test_an_inherited_value_above_a_deeper_cap_is_clipped",
        f"{OVERRIDES}::test_a_deeper_cap_clips_a_value_of_an_override_above",
    ),
    "agents clip and never reject for a cap": (
        "compiler/test_plans.py::test_agent_clips_to_deeper_caps",
        f"{LAWS}::no_value_exceeds_a_cap",
    ),
    "rates compare per second": (
        f"{RESOLVE}::test_rates_compare_per_second",
        f"{RATES}::test_exceeds_is_a_strict_order",
    ),
    "a window is clipped by its count and keeps its length": (
        f"{RESOLVE}::test_a_window_keeps_its_length_under_a_cap",
    ),
    "a quota keeps its calendar window under a cap": (
        f"{RESOLVE}::test_a_quota_keeps_its_window_under_a_cap",
    ),
    "a cap cannot be walked around": (f"{CHECK}::test_a_cap_cannot_be_evaded",),
    "caps bind exceptions": (f"{EXCEPTIONS}::test_caps_bind_exceptions",),
    "caps do not touch budgets": (f"{RESOLVE}::test_neither_caps_nor_unset_touch_a_budget",),
    "every budget on the path counts, each at its own scope": (
        f"{RESOLVE}::test_budgets_of_the_path_are_collected_from_the_top_and_never_merged",
        f"{BUDGETS}::test_each_level_refuses_in_turn",
        f"{BUDGETS}::test_budget_is_shared_by_declared_and_undeclared_scopes_below",
    ),
    "budgets are not overridden": (f"{OVERRIDES}::test_budgets_are_not_overridden",),
    "budgets may have a mode and per": (
        f"{BUDGETS}::test_shadow_budget_refuses_nothing_and_charges_what_it_would_admit",
        f"{BUDGETS}::test_budget_per_key",
    ),
    "if one refuses, nothing is consumed anywhere": (
        f"{ENGINE}::test_all_or_nothing",
        f"{BUDGETS}::test_all_or_nothing_over_shared_buckets",
        ("simulate/test_replay_exceptions.py::test_a_refusal_at_the_top_consumes_nothing_below"),
    ),
    # Scopes
    "scopes have a form, and a greatest depth": (
        "policy/language/test_scopes.py::test_good_scopes",
        "policy/language/test_scopes.py::test_bad_scopes",
    ),
    "an undeclared scope is its nearest declared ancestor, and uses its buckets": (
        f"{RESOLVE}::test_an_undeclared_scope_is_its_nearest_declared_ancestor",
        f"{ENGINE}::test_an_undeclared_scope_uses_its_nearest_ancestors_buckets",
    ),
    "requests without a policy pass with the reason no_policy, and are counted": (
        f"{ENGINE}::test_scope_without_policy_passes_and_is_counted",
    ),
    "on_error answers for failures of the limiter, and before any policy": (
        f"{PROCESS}::test_a_failure_of_the_limiter_is_answered_by_on_error",
        f"{DISK}::test_without_store_and_last_good_on_error_answers",
        f"{RESOLVE}::test_on_error_is_inherited",
    ),
    # Matchers
    "each form of a matcher is for its values": (f"{MATCHERS}::test_each_form_matches_its_values",),
    "of several attributes all must hold": (
        f"{OVERRIDES}::test_every_attribute_of_a_match_must_hold",
    ),
    "on an absent attribute only not and exists: false hold": (
        f"{MATCHERS}::test_each_form_matches_its_values",
        f"{MATCHERS}::test_the_negation_holds_exactly_if_the_matcher_does_not",
    ),
    "attributes that no rule mentions cost nothing": (
        ("engine/test_cost_of_choosing.py::test_without_conditions_only_per_attributes_are_read"),
        "engine/test_cost_of_choosing.py::test_choosing_does_not_grow_with_scopes_or_overrides",
    ),
    # Buckets
    "the overrides that set parameters select the bucket": (
        f"{OVERRIDES}::test_only_overrides_that_set_parameters_select_the_bucket",
        "engine/test_overrides_oracle.py::test_decisions_across_edits_match_the_oracle",
    ),
    "an exception keeps the bucket": (
        f"{EXCEPTIONS}::test_an_exception_without_a_match_keeps_every_bucket",
        f"{EXCEPTIONS}::test_an_exception_cannot_select_other_buckets",
        f"{TIMED}::test_buckets_keep_their_level",
        f"{TIMED}::test_counts_survive_start_and_end",
    ),
    "the match of an exception may use only per attributes": (
        f"{EXCEPTIONS}::test_the_match_of_an_exception_must_select_buckets",
    ),
    "absence is a key of its own": (f"{ENGINE}::test_absent_and_empty_are_different_keys",),
    "an untracked key behaves as the default bucket": (
        f"{MIGRATION}::test_burst_growth_gives_capacity_not_tokens_to_untracked_keys",
        f"{QUOTA}::test_tokens_that_growth_has_not_given_are_not_missing_from_a_quota",
    ),
    "eviction cannot be noticed": (
        f"{TABLE}::test_tiny_and_huge_tables_decide_alike",
        f"{TABLE}::test_bucket_slightly_below_the_default_bucket_is_not_evicted",
        f"{QUOTA}::test_eviction_cannot_be_noticed",
    ),
    "a new identity starts from the bucket used before": (
        f"{MIGRATION}::test_a_newly_declared_scope_inherits_the_bucket",
        f"{MIGRATION}::test_a_change_of_per_starts_from_the_old_buckets",
    ),
    "no publication mints tokens": (
        f"{MIGRATION}::test_rate_changes_under_load_keep_the_promise",
        f"{MIGRATION}::test_changes_of_per_there_and_back_mint_nothing",
        f"{BUDGETS}::test_growth_gives_capacity_and_not_tokens_to_keys_never_seen",
    ),
    "no exception mints tokens": (
        f"{TIMED}::test_no_span_admits_more_than_the_larger_parameters_promise",
        f"{AGENT}::test_start_and_end_of_an_exception_give_no_tokens",
    ),
    # Algorithms
    "a token bucket never admits more than burst and rate": (
        f"{ENGINE}::test_token_bucket_by_the_clock",
        f"{ENGINE}::test_algorithms_keep_their_promises",
    ),
    "a refusal names the exact instant of admission": (
        f"{ENGINE}::test_refused_before_the_promised_instant_and_admitted_at_it",
    ),
    "no window of the stated length admits more than its count": (
        f"{ENGINE}::test_sliding_window_by_the_clock",
        f"{ENGINE}::test_algorithms_keep_their_promises",
    ),
    "across a change a window admits no more than the larger count": (
        f"{MIGRATION}::test_changed_count_of_a_window_keeps_counted_requests",
        f"{TIMED}::test_no_window_admits_more_than_the_larger_count",
    ),
    "a quota admits at most n in each calendar window of its zone": (
        f"{QUOTA}::test_no_more_than_the_count_in_each_local_day",
        f"{CALENDAR}::test_windows_tile_time",
    ),
    "quotas at changes of the clocks, and on day 31": (
        f"{CALENDAR}::test_windows_of_known_calendar_dates",
        f"{CALENDAR}::test_second_implementation_agrees_around_every_clock_change",
    ),
    "a clock that steps back does not reopen a window": (
        f"{QUOTA}::test_a_step_back_does_not_reopen_a_window",
        f"{QUOTA}::test_a_change_after_a_step_back_does_not_reopen_a_window",
    ),
    "at most max are admitted and not released": (
        f"{SLOTS}::test_at_most_max_until_a_release",
        f"{SLOTS}::test_threads_never_hold_more_than_max",
    ),
    "a release counts once, and for the bucket charged, across reloads": (
        f"{SLOTS}::test_a_release_counts_once",
        f"{SLOTS}::test_context_manager_releases_after_any_end",
        f"{SLOTS_RELOAD}::test_slot_is_released_once_through_many_generations",
        f"{TIMED}::test_slots_held_across_start_and_end_are_given_back_once",
    ),
    "hold bounds leaks": (f"{SLOTS}::test_a_slot_that_is_never_released_is_free_after_hold",),
    "a refusal for want of a slot names no wait": (f"{SLOTS}::test_a_refusal_shows_no_wait",),
    "slots are taken last": (
        f"{SLOTS}::test_refusal_by_another_limit_holds_no_slot",
        f"{SLOTS}::test_refusal_without_free_slot_charges_nothing_else",
    ),
    "rational rates do not drift": (f"{ENGINE}::test_rational_rates_do_not_drift",),
    "rates are written as a number for a duration": (
        f"{RATES}::test_good_rates",
        f"{RATES}::test_bad_rates",
    ),
    "a rate of zero refuses all, whatever the burst": (
        f"{ENGINE}::test_a_rate_of_zero_refuses_all",
        f"{QUOTA}::test_a_rate_of_zero_refuses_all",
        f"{BUDGETS}::test_a_rate_of_zero_stops_the_whole_subtree",
    ),
    "unlimited and mode: off pass all": (
        "compiler/test_plans.py::test_off_and_unlimited_limits_are_not_in_plans",
        f"{BUDGETS}::test_off_and_unlimited_budgets_have_no_effect",
        f"{OVERRIDES}::test_an_override_may_change_the_mode",
    ),
    "a cost is a whole number, 0 or more": (f"{ENGINE}::test_a_bad_cost_is_an_error",),
    "a cost of 0 peeks": (
        f"{ENGINE}::test_a_peek_consumes_nothing_and_tracks_nothing",
        f"{SLOTS}::test_a_peek_holds_nothing",
    ),
    "settle corrects a cost known only afterwards": (
        f"{SETTLE}::test_settle_charges_more_or_refunds",
        f"{SETTLE}::test_a_refund_never_makes_a_bucket_fuller",
    ),
    "never beats not now, and of several refusals the longest wait is reported": (
        f"{ENGINE}::test_longest_wait_is_reported_but_never_is_reported_first",
        f"{ENGINE}::test_a_cost_above_the_burst_never_passes",
        f"{SLOTS}::test_never_beats_unknown_beats_the_longest_wait",
    ),
    "shadow limits charge only for admitted requests that they would admit": (
        f"{ENGINE}::test_shadow_is_charged_only_for_admitted_requests",
        f"{ENGINE}::test_shadow_limit_never_refuses_but_reports_it",
    ),
    # Strict loading
    "text that is not strict YAML, or not a policy, is refused with a code and a place": (
        f"{LOADER}::test_exact_rendering",
        f"{LOADER}::test_every_code_has_a_file_or_a_named_test",
    ),
    "duplicate keys are refused": (f"{YAML}::test_duplicates_name_the_first",),
    "tags are refused": (f"{YAML}::test_tags",),
    "anchors are bounded": (f"{YAML}::test_the_bound_counts_values_written_out",),
    "surprises of older YAML are refused": (
        f"{YAML}::test_refused",
        f"{YAML}::test_hints_name_the_probable_value",
    ),
    "all errors are reported at once": (f"{YAML}::test_every_problem_is_found",),
    "depth and size are bounded": (f"{YAML}::test_depth", f"{YAML}::test_nodes_of_a_file"),
    # Documents
    "neither the order nor the files of documents matter": (
        f"{LAWS}::neither_the_order_nor_the_files_matter",
    ),
    "only documents on the path have an effect": (f"{LAWS}::only_documents_on_the_path_matter",),
    "a bundle says what its documents say": (f"{LAWS}::a_bundle_keeps_the_tree",),
}


@cache
def named_in(path: Path) -> frozenset[str]:
    """Return the tests of a file, and its laws: functions that one of its tests calls."""
    tree = syntax_tree(path)
    found = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    laws = {
        each.id
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id == "LAWS"
        for each in node.value.elts
        if isinstance(each, ast.Name)
    }
    return frozenset(name for name in found if name.startswith("test_") or name in laws)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_names_existing_tests(rule: str) -> None:
    assert RULES[rule]
    for test in RULES[rule]:
        file, _, name = test.partition("::")
        assert name in named_in(HERE / file), (
            f"{test} is missing, so nothing checks the rule: {rule}"
        )


def test_missing_test_is_noticed() -> None:
    assert "no_value_exceeds_a_cap" in named_in(HERE / LAWS)
    assert "at" not in named_in(HERE / LAWS)
    assert "test_nothing_of_the_kind" not in named_in(HERE / LAWS)
