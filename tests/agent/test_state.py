"""What an agent knows of itself: what is news, and what is not."""

from __future__ import annotations

from ratectl.agent.state import AgentState


def test_what_is_known_already_is_no_news():
    state = AgentState()
    state.update(generation=3, panic=())
    seen = state.now
    state.update(generation=3, panic=())
    assert not state.problem("generation", None, rejected=None)
    assert state.wait_for_change(seen, 0) is seen


def test_a_wake_up_is_one_though_nothing_changed():
    state = AgentState()
    seen = state.now
    state.wake()
    assert state.wait_for_change(seen, 0) is not seen
    assert state.now == seen
