"""Profiles of property tests: ``HYPOTHESIS_PROFILE=thorough`` for long runs."""

from __future__ import annotations

import os

from hypothesis import Phase, settings

settings.register_profile(
    "quick", max_examples=100, stateful_step_count=50, derandomize=True, deadline=None
)
settings.register_profile(
    "thorough", max_examples=1_000, stateful_step_count=100, deadline=None, print_blob=True
)
# For mutation tests of the code: stop at the first failure, without shrinking it.
settings.register_profile("first", settings.get_profile("quick"), phases=[Phase.generate])
settings.register_profile("search", settings.get_profile("thorough"), phases=[Phase.generate])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
