"""Values that all state machines draw: times, costs, and choices."""

from __future__ import annotations

from hypothesis import strategies as st

from engine.rules import SECOND

HOUR = 3_600 * SECOND
YEARS = 10**18
BEFORE_SUMMER = 1_774_735_200 * SECOND
"""23:00 in Berlin, the evening before clocks go forward."""
BEFORE_WINTER = 1_792_875_600 * SECOND
"""23:00 in Berlin, the evening before they go back."""

walls = st.sampled_from((BEFORE_SUMMER, BEFORE_WINTER))
spans = st.sampled_from((0, 0, 0, 0, 1, 2, 1_000_000, SECOND, 7 * SECOND, 60 * SECOND))
leaps = st.sampled_from((HOUR, 3 * HOUR, 24 * HOUR, YEARS))
edges = st.integers(0, 26)
picks = st.binary(min_size=1, max_size=4)
scales = st.sampled_from((1, 1, 30_000))
"""Cost of one request. The compiled core packs small counts; these soon exceed them."""
batches = st.binary(min_size=2, max_size=12)
"""Two bytes for each request (``drawn.Crowd``)."""
