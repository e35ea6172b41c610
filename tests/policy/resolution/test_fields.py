"""The tables of fields and algorithms name what the models have, and no more."""

from __future__ import annotations

from typing import get_args

import pytest

from ratectl.compiler.algorithms import _MAKERS
from ratectl.policy.language.field_types import Algorithm
from ratectl.policy.language.model import LimitFields
from ratectl.policy.resolution.algorithms.registry import ALGORITHMS
from ratectl.policy.resolution.effective_limit import Limit
from ratectl.policy.resolution.fields import EXPLAINED_FIELDS, FIELDS, NOTICED_FIELDS

NAMES = {field.name for field in FIELDS}


def test_every_algorithm_of_the_language_has_rules_and_a_maker() -> None:
    assert tuple(ALGORITHMS) == get_args(Algorithm)
    assert set(_MAKERS) == set(ALGORITHMS)


def test_every_field_of_the_language_has_a_row() -> None:
    assert set(LimitFields.model_fields) == NAMES
    assert set(Limit._fields) >= NAMES


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_algorithm_has_a_reason_for_each_field_that_it_lacks(name: str) -> None:
    rules = ALGORITHMS[name]
    assert rules.fields <= NAMES
    assert rules.required in rules.fields
    assert set(rules.why_lacking) == NAMES - rules.fields


def test_places_in_lists_are_distinct() -> None:
    assert [field.explained for field in EXPLAINED_FIELDS] == list(range(1, len(FIELDS) + 1))
    assert [field.noticed for field in NOTICED_FIELDS] == list(range(1, len(NOTICED_FIELDS) + 1))
