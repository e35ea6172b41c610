"""Limits some of whose requests lacked an attribute that they count per."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.health.attributes import Lacking
from ratectl_cli.framework.text import paragraph

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ratectl.simulate.report import LimitCount
    from ratectl_cli.framework.text import Block

__all__ = ["lacking_blocks"]


def lacking_blocks(limits: Iterable[LimitCount]) -> Iterator[Block]:
    """Yield a line for each such limit of a replay."""
    for of in limits:
        lacking = Lacking.of(
            of.limit, of.scope, of.per, absent=of.absent, decided=of.decided, skips=of.skips
        )
        if lacking is not None:
            yield paragraph(str(lacking))
