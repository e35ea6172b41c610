"""Tests of policies: documents of kind ``PolicyTest``, run on the engine that agents run.

    from ratectl.testing import run_tests

    def test_policies():
        report = run_tests(["policies"])
        assert report.passed, report

One test of pytest for each document::

    SUITE = load_suite(["policies"])

    @pytest.mark.parametrize("name", SUITE.names)
    def test_policy(name):
        result = SUITE.run(name)
        assert result.passed, result
"""

from __future__ import annotations

from ratectl.testing.coverage import Coverage, Item, Share
from ratectl.testing.results import Mismatch, Report, Result, Sent, StepFailure
from ratectl.testing.suite import Suite, load_suite, run_tests

__all__ = [
    "Coverage",
    "Item",
    "Mismatch",
    "Report",
    "Result",
    "Sent",
    "Share",
    "StepFailure",
    "Suite",
    "load_suite",
    "run_tests",
]
