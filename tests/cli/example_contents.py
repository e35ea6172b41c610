"""Usual and extreme contents of tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ratectl.policy.loading.loader import load
from ratectl.policy.resolution.resolver import Resolver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ratectl.policy.resolution.effective_limit import Limit
    from ratectl_cli.framework.terminal import Stream
    from ratectl_cli.framework.text import Block

__all__ = ["CONTENTS", "Contents", "Example", "limit_of", "texts", "tree_of"]


class Contents(NamedTuple):
    """Values that fill the cells."""

    scope: str
    name: str
    key: str
    text: str
    agent: str
    number: int
    rate: str
    burst: int


CONTENTS = {
    "usual": Contents(
        scope="/payments/checkout",
        name="spike",
        key="acme",
        text="CHG-8841: a smaller burst for the sale on Friday",
        agent="payments-7d9f5c-x2x9k",
        number=18_000,
        rate="250/s",
        burst=600,
    ),
    "extreme": Contents(
        scope="".join(f"/{'part' * (at % 3 + 1)}{at}" for at in range(64)),
        name="attempts-of-clients-that-have-not-yet-signed-in",
        key="租户👍🏽" * 30 + "e\u0301" * 40,
        text="CHG-123456789012: 🎉 変更 " + "because of everything that happened on Friday " * 8,
        agent="payments-" + "blue-" * 12 + "x2x9k",
        number=987_654_321_098,
        rate="123_456_789/s",
        burst=987_654_321,
    ),
}

Number = tuple[str, str]
"""Title of a column, and a number in it."""


@dataclass(frozen=True)
class Example:
    """One answer of a command: its text, and the numbers of its document that tables show."""

    blocks: Callable[[Stream], Iterable[Block]]
    numbers: Sequence[Number] = ()


def limit_of(of: Contents) -> Limit:
    resolved = Resolver(tree_of(of), 0).at(of.scope)
    assert resolved is not None
    return resolved.limits[of.name]


def tree_of(of: Contents) -> Any:
    text = (
        f"apiVersion: ratectl/v1\nscope: {of.scope}\nlimits:\n"
        f"  {of.name}: {{rate: {of.rate}, burst: {of.burst}, per: [client, route]}}\n"
        "overrides:\n  - name: gold\n    match: {tier: [gold, platinum]}\n"
        f"    limits: {{{of.name}: {{mode: shadow}}}}\n"
    )
    loaded = load(["-"], stdin=text.encode())
    assert loaded.ok, loaded.diagnostics
    return loaded.tree


def texts(numbers: Iterable[tuple[str, object]]) -> list[Number]:
    return [(title, str(number)) for title, number in numbers]
