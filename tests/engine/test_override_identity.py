"""A bucket never has two sets of parameters: equal selecting overrides mean equal limits."""

from __future__ import annotations

import random

import pytest

from engine.test_overrides_oracle import Documents, policies
from ratectl.policy.language.model import PolicyTree
from ratectl.policy.resolution.resolver import Resolver
from soak import scaled


@pytest.mark.parametrize("seed", range(scaled(20, 400)))
def test_one_bucket_identity_has_one_set_of_parameters(seed: int) -> None:
    documents = Documents(random.Random(seed))
    shared = 0
    for _ in range(30):
        documents.edit()
        tree = PolicyTree(policies(documents.tree))
        resolver = Resolver(tree)
        for scope in tree.policies:
            known: dict[object, object] = {}
            for mask in range(1 << len(resolver.conditions.at(scope).conditions)):
                resolved = resolver.where(scope, mask)
                assert resolved is not None
                for limit in resolved.limits.values():
                    parameters = (limit.algorithm, limit.rate, limit.burst, limit.per, limit.mode)
                    first = known.setdefault((limit.name, limit.touched), parameters)
                    assert first == parameters, (scope, limit.name, limit.touched, documents.tree)
                    shared += first is not parameters
    assert shared, "several sets of overrides select one bucket"
