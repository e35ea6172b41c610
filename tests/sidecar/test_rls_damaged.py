"""Damaged bytes of callers: what they mean is the same to all who read them, and nothing raises.

``make fuzz`` does it at length.
"""

from __future__ import annotations

import pytest

from sidecar.damaging import connection, messages
from sidecar.servers import ON_THE_LOOP, needed
from sidecar.test_rls_core import Twins


@pytest.mark.parametrize("server", ON_THE_LOOP)
@pytest.mark.parametrize("first", range(0, 2_000, 500))
def test_damaged_connections(first: int, server: str) -> None:
    calls = [connection(seed, needed(server)) for seed in range(first, first + 500)]
    assert sum(map(bool, calls)) > 50


def test_damaged_messages() -> None:
    twins = Twins()
    try:
        assert 500 < messages(1, twins, 3_000) < 3_000
    finally:
        twins.close()
