"""A member and an owner that a Unix socket connects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from link_support import unix

from ratectl.cluster.transport.links import Links

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Links]:
    with Links("owner", "env", unix(tmp_path)) as owner:
        yield owner


@pytest.fixture
def member() -> Iterator[Links]:
    with Links("member", "env") as member:
        yield member
