"""The oracle's resolver and ratectl's agree: neither knows the other's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.publications.drawing import KINDS, Drawing
from engine.publications.resolving import resolve
from engine.publications.world import START
from policy.trees import tree
from ratectl.policy.language.model import Exemption, with_exceptions
from ratectl.policy.resolution.resolver import Resolver

if TYPE_CHECKING:
    from engine.publications.resolving import Ruling
    from ratectl.policy.resolution.effective_limit import Limit

NS = 10**9


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_requests_are_under_the_limits_that_ratectl_resolves(kind: str, seed: int) -> None:
    story = Drawing(seed, kind).story(20)
    for _, _, documents, exceptions in [each for each in story.steps if each[0] == "publish"]:
        made = [(Exemption.model_validate(each), None) for each in exceptions]
        for wall in (START, START + 3 * NS, START + 60 * NS):
            resolver = Resolver(with_exceptions(tree(documents), made), wall)
            for scope, attributes in story.requests:
                resolved = resolver.select(scope, attributes)
                assert resolved is not None
                own = resolve(documents, exceptions, scope, attributes, wall)
                theirs = {limit.name: limit for limit in resolved.limits.values()}
                theirs |= {f"{of.name}@{owner}": of for owner, of in resolved.budgets}
                assert own.keys() == theirs.keys()
                for name, limit in theirs.items():
                    _agree(own[name], limit)


def _agree(ruling: Ruling, limit: Limit) -> None:
    assert ruling.place[2] == limit.per
    assert (ruling.rule is None) == (limit.mode != "enforce" or limit.unlimited)
    if ruling.rule is not None:
        assert ruling.fields.get("rate") == (None if limit.rate is None else str(limit.rate))
        capacities = [each for each in (limit.burst, limit.max) if each is not None]
        assert capacities in ([], [ruling.rule.capacity])
    assert {name for _, name in ruling.overrides} >= {_name(each) for each in limit.touched}


def _name(reference: str) -> str:
    return reference.rpartition("@")[0] or reference
