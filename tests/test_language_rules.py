"""Every rule of the language, in a sentence, and the tests that hold it.

Whoever adds a rule adds a line here; whoever renames a test is told where it was relied on.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent

OVERRIDES = "policy/test_overrides.py"
EXCEPTIONS = "policy/test_exceptions.py"
RESOLVE = "policy/test_resolve.py"
CHECK = "policy/test_check.py"
LAWS = "policy/test_laws.py"
YAML = "policy/test_strict_yaml.py"
LOADER = "policy/test_loader.py"
MATCHERS = "policy/test_matchers.py"
RATES = "policy/test_rates.py"
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
CALENDAR = "engine/test_calendar.py"
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
        f"{OVERRIDES}::test_unset_drops_what_overrides_above_said_too",
    ),
    "a name that is unset and said is replaced whole": (
        f"{RESOLVE}::test_unset_and_set_in_one_document_is_replaced_whole",
        f"{LAWS}::unset_and_set_again_is_replaced_whole",
    ),
    "null deletes nothing": (f"{LOADER}::test_null_deletes_nothing_it_is_an_error",),
    "overrides beat the limits of their document": (
        f"{OVERRIDES}::test_in_one_document_overrides_beat_limits",
    ),
    "a later override beats an earlier one": (
        f"{OVERRIDES}::test_in_file_order_the_later_beats_the_earlier",
    ),
    "every override that matches applies": (
        f"{OVERRIDES}::test_all_that_match_apply_field_by_field",
    ),
    "overrides are inherited": (
        f"{OVERRIDES}::test_an_override_is_inherited_by_every_scope_below",
    ),
    "a change of algorithm drops the fields that the new one lacks": (
        f"{RESOLVE}::test_changing_the_algorithm_drops_what_the_new_one_lacks",
        (
            f"{OVERRIDES}::"
            "test_an_override_that_changes_the_algorithm_drops_fields_that_the_new_one_lacks"
        ),
    ),
    "burst defaults to the rate per second, rounded up, at least 1, after merging": (
        f"{RESOLVE}::test_burst_defaults_to_the_rate_per_second_rounded_up",
        f"{RESOLVE}::test_the_default_burst_follows_the_deepest_rate",
        f"{OVERRIDES}::test_burst_defaults_after_overrides_are_merged",
    ),
    "exceptions are merged after the walk": (
        f"{EXCEPTIONS}::test_exceptions_come_after_the_walk_and_beat_what_deeper_scopes_say",
    ),
    "of two exceptions the deeper wins": (
        f"{EXCEPTIONS}::test_the_exception_of_the_deeper_scope_wins",
    ),
    "an exception holds from its start, until just before its end": (
        f"{EXCEPTIONS}::test_from_is_within_and_until_is_not",
        f"{EXCEPTIONS}::test_without_from_it_holds_at_once",
    ),
    "two exceptions that set one field at one scope and time are an error": (
        f"{EXCEPTIONS}::test_two_that_set_one_field_at_one_scope_and_time_are_an_error",
    ),
    "an exception may change a budget of its own scope": (
        f"{EXCEPTIONS}::test_an_exception_of_a_budget_is_for_its_own_scope",
    ),
    "an exception starts and ends by itself": (
        f"{AGENT}::test_from_a_store",
        f"{AGENT}::test_from_a_directory",
        f"{AGENT}::test_with_the_store_gone",
        f"{AGENT}::test_started_from_last_good_while_an_exception_is_in_force",
        f"{AGENT}::test_a_wall_clock_set_back_looks_again",
    ),
    "a value above a cap at or above its scope is an error": (
        f"{CHECK}::test_bad_trees",
        f"{CHECK}::test_a_finding_says_which_cap_and_what_to_write",
    ),
    "what stood there before its cap was lowered is a warning": (
        "policy/test_base.py::test_what_stood_there_is_a_warning",
        "policy/test_base.py::test_what_is_new_or_changed_is_an_error",
    ),
    "an inherited value above a deeper cap is clipped there": (
        f"{RESOLVE}::test_an_inherited_value_above_a_deeper_cap_is_clipped_and_says_so",
        f"{OVERRIDES}::test_a_deeper_cap_clips_what_an_override_above_asks_for",
    ),
    "agents clip and never reject for a cap": (
        "engine/test_compile.py::test_an_agent_clips_to_whatever_a_deeper_cap_says",
        f"{LAWS}::caps_always_hold",
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
    "a cap cannot be walked around": (f"{CHECK}::test_a_cap_cannot_be_walked_around",),
    "caps bind exceptions": (f"{EXCEPTIONS}::test_caps_bind_exceptions",),
    "caps do not touch budgets": (f"{RESOLVE}::test_neither_caps_nor_unset_touch_a_budget",),
    "every budget on the path counts, each at its own scope": (
        f"{RESOLVE}::test_budgets_of_the_path_are_collected_from_the_top_and_never_merged",
        f"{BUDGETS}::test_each_level_holds_back_in_turn",
        f"{BUDGETS}::test_a_bucket_is_shared_by_all_below_declared_or_not",
    ),
    "budgets are not overridden": (f"{OVERRIDES}::test_budgets_are_not_overridden",),
    "budgets may have a mode and per": (
        f"{BUDGETS}::test_in_shadow_it_refuses_nothing_and_takes_what_it_would_admit",
        f"{BUDGETS}::test_counted_by_key",
    ),
    "if one refuses, nothing is consumed anywhere": (
        f"{ENGINE}::test_all_or_nothing",
        f"{BUDGETS}::test_all_or_nothing_over_shared_buckets",
        (
            "simulate/test_replay_exceptions.py::"
            "test_refused_at_the_top_of_three_levels_nothing_is_consumed_below"
        ),
    ),
    # Scopes
    "scopes have a form, and a greatest depth": (
        "policy/test_scopes.py::test_good_scopes",
        "policy/test_scopes.py::test_bad_scopes",
    ),
    "an undeclared scope is its nearest declared ancestor, and uses its buckets": (
        f"{RESOLVE}::test_an_undeclared_scope_is_its_nearest_declared_ancestor",
        f"{ENGINE}::test_an_undeclared_scope_uses_its_nearest_ancestors_buckets",
    ),
    "what no policy covers passes, says no_policy and is counted": (
        f"{ENGINE}::test_a_scope_that_nothing_covers_passes_and_is_counted",
    ),
    "on_error answers for failures of the limiter, and before any policy": (
        f"{PROCESS}::test_a_failure_of_the_limiter_is_answered_by_on_error",
        f"{DISK}::test_with_neither_store_nor_last_good_on_error_answers_and_says_so",
        f"{RESOLVE}::test_on_error_is_inherited",
    ),
    # Matchers
    "each form of a matcher is for its values": (f"{MATCHERS}::test_what_each_form_is_for",),
    "of several attributes all must hold": (
        f"{OVERRIDES}::test_every_attribute_of_a_match_must_hold",
    ),
    "on an absent attribute only not and exists: false hold": (
        f"{MATCHERS}::test_what_each_form_is_for",
        f"{MATCHERS}::test_the_negation_holds_exactly_where_the_matcher_does_not",
    ),
    "attributes that no rule mentions cost nothing": (
        (
            "engine/test_cost_of_choosing.py::"
            "test_without_conditions_only_what_limits_count_by_is_looked_up"
        ),
        "engine/test_cost_of_choosing.py::test_choosing_does_not_grow_with_scopes_or_overrides",
    ),
    # Buckets
    "the overrides with a say select the bucket": (
        f"{OVERRIDES}::test_a_bucket_is_selected_by_the_overrides_with_a_say_alone",
        "engine/test_overrides_oracle.py::test_decisions_across_edits_are_those_of_the_oracle",
    ),
    "an exception keeps the bucket": (
        f"{EXCEPTIONS}::test_for_all_requests_it_keeps_every_bucket",
        f"{EXCEPTIONS}::test_an_exception_cannot_select_other_buckets",
        f"{TIMED}::test_buckets_keep_their_level",
        f"{TIMED}::test_what_was_counted_stays_counted",
    ),
    "the match of an exception may use only what selects buckets": (
        f"{EXCEPTIONS}::test_its_match_may_name_only_what_selects_buckets",
    ),
    "absence is a key of its own": (f"{ENGINE}::test_absent_and_empty_are_different_keys",),
    "an untracked key behaves as the genesis bucket": (
        f"{MIGRATION}::test_burst_growth_gives_capacity_not_tokens_to_untracked_keys",
        f"{QUOTA}::test_untracked_keys_start_from_the_genesis_bucket",
    ),
    "eviction cannot be noticed": (
        f"{TABLE}::test_tiny_and_huge_tables_decide_alike",
        f"{TABLE}::test_a_bucket_below_a_grown_one_is_not_evicted",
        f"{QUOTA}::test_eviction_cannot_be_noticed",
    ),
    "a new identity starts from the bucket used before": (
        f"{MIGRATION}::test_a_newly_declared_scope_inherits_the_bucket",
        f"{MIGRATION}::test_a_change_of_per_starts_from_the_old_buckets",
    ),
    "no publication mints tokens": (
        f"{MIGRATION}::test_rates_that_change_under_load_keep_the_promise",
        f"{MIGRATION}::test_changes_of_per_there_and_back_mint_nothing",
        f"{BUDGETS}::test_growth_gives_capacity_and_not_tokens_to_keys_never_seen",
    ),
    "no exception mints tokens": (
        f"{TIMED}::test_no_span_admits_more_than_the_larger_parameters_promise",
        f"{AGENT}::test_neither_its_start_nor_its_end_hands_out_tokens",
    ),
    # Algorithms
    "a token bucket never admits more than burst and rate": (
        f"{ENGINE}::test_token_bucket_by_the_clock",
        f"{ENGINE}::test_promise_holds_whatever_is_asked",
    ),
    "a refusal names the exact instant of admission": (
        f"{ENGINE}::test_refused_before_the_promised_instant_and_admitted_at_it",
    ),
    "no window of the stated length admits more than its count": (
        f"{ENGINE}::test_sliding_window_by_the_clock",
        f"{ENGINE}::test_promise_holds_whatever_is_asked",
    ),
    "across a change a window admits no more than the larger count": (
        f"{MIGRATION}::test_a_changed_count_keeps_what_was_counted",
        f"{TIMED}::test_no_window_admits_more_than_the_larger_count",
    ),
    "a quota admits at most n in each calendar window of its zone": (
        f"{QUOTA}::test_no_more_than_the_count_in_each_local_day",
        f"{CALENDAR}::test_windows_tile_time",
    ),
    "quotas at changes of the clocks, and on day 31": (
        f"{CALENDAR}::test_by_the_calendar",
        f"{CALENDAR}::test_a_second_reading_agrees_around_every_change_of_the_clocks",
    ),
    "a clock that steps back reopens no window": (
        f"{QUOTA}::test_a_step_back_does_not_reopen_a_window",
        f"{QUOTA}::test_a_change_after_a_step_back_does_not_reopen_a_window",
    ),
    "at most max are admitted and not released": (
        f"{SLOTS}::test_no_more_than_max_until_one_is_released",
        f"{SLOTS}::test_threads_never_hold_more_than_max",
    ),
    "a release counts once, and for the bucket charged, across reloads": (
        f"{SLOTS}::test_a_release_counts_once",
        f"{SLOTS}::test_a_context_manager_releases_however_it_ends",
        f"{SLOTS_RELOAD}::test_through_many_generations_a_slot_is_given_back_once",
        f"{TIMED}::test_slots_held_across_start_and_end_are_given_back_once",
    ),
    "hold bounds leaks": (f"{SLOTS}::test_a_slot_that_is_never_released_is_free_after_hold",),
    "a refusal for want of a slot names no wait": (f"{SLOTS}::test_a_refusal_shows_no_wait",),
    "slots are taken last": (
        f"{SLOTS}::test_refused_by_another_no_slot_is_held",
        f"{SLOTS}::test_refused_for_want_of_a_slot_nothing_else_is_taken",
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
        "engine/test_compile.py::test_off_and_unlimited_are_not_run",
        f"{BUDGETS}::test_off_and_unlimited_are_not_there",
        f"{OVERRIDES}::test_an_override_may_change_the_mode",
    ),
    "a cost is a whole number, 0 or more": (f"{ENGINE}::test_a_bad_cost_is_an_error",),
    "a cost of 0 peeks": (
        f"{ENGINE}::test_a_peek_consumes_nothing_and_tracks_nothing",
        f"{SLOTS}::test_a_peek_holds_nothing",
    ),
    "settle corrects a cost known only afterwards": (
        f"{SETTLE}::test_more_is_charged_and_less_is_refunded",
        f"{SETTLE}::test_a_refund_never_makes_a_bucket_fuller",
    ),
    "never beats not now, and of several refusals the longest wait is reported": (
        f"{ENGINE}::test_the_longest_wait_is_reported_and_never_beats_it",
        f"{ENGINE}::test_a_cost_above_the_burst_never_passes",
        f"{SLOTS}::test_never_beats_unknown_beats_the_longest_wait",
    ),
    "shadow limits charge only for admitted requests that they would admit": (
        f"{ENGINE}::test_shadow_is_charged_only_for_what_is_admitted",
        f"{ENGINE}::test_shadow_never_refuses_but_says_so",
    ),
    # Strict loading
    "what is not strict YAML, or no policy, is refused with a code and a place": (
        f"{LOADER}::test_exact_rendering",
        f"{LOADER}::test_every_code_has_a_file_or_a_named_test",
    ),
    "duplicate keys are refused": (f"{YAML}::test_duplicates_name_the_first",),
    "tags are refused": (f"{YAML}::test_tags",),
    "anchors are bounded": (f"{YAML}::test_the_bound_counts_what_is_written_out",),
    "surprises of older YAML are refused": (
        f"{YAML}::test_refused",
        f"{YAML}::test_hints_name_what_was_probably_meant",
    ),
    "all errors are reported at once": (f"{YAML}::test_every_problem_is_found",),
    "depth and size are bounded": (f"{YAML}::test_depth", f"{YAML}::test_nodes_of_a_file"),
    # Documents
    "neither the order nor the files of documents matter": (
        f"{LAWS}::neither_the_order_nor_the_files_matter",
    ),
    "only the path has a say": (f"{LAWS}::only_the_path_has_a_say",),
    "a bundle says what its documents say": (f"{LAWS}::a_tree_is_what_its_bundle_says",),
}


@cache
def named_in(path: Path) -> frozenset[str]:
    """Tests of a file, and laws: functions that one test of it runs in turn."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
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
def test_a_rule_has_tests_that_exist(rule: str) -> None:
    assert RULES[rule]
    for test in RULES[rule]:
        file, _, name = test.partition("::")
        assert name in named_in(HERE / file), f"{test} is gone: what holds that {rule}?"


def test_a_test_that_does_not_exist_would_be_noticed() -> None:
    assert "caps_always_hold" in named_in(HERE / LAWS)
    assert "at" not in named_in(HERE / LAWS)
    assert "test_nothing_of_the_kind" not in named_in(HERE / LAWS)
