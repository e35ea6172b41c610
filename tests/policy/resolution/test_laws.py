"""Laws of resolution, each on the same thousand random trees, because making trees takes long.

The strategies are those of ``trees``: additions to the language there must obey these laws.
"""

from __future__ import annotations

import copy
import json
import random
from typing import TYPE_CHECKING, Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from policy.trees import (
    DAYS,
    NAMES,
    REQUESTS,
    SCOPES,
    Written,
    exceptions,
    limits,
    overrides,
    tree,
    with_overrides,
    written,
)
from ratectl.policy.bundle import decode_policies, encode_policies
from ratectl.policy.language.instants import Instant
from ratectl.policy.language.model import Exemption, with_exceptions
from ratectl.policy.language.scopes import ancestry
from ratectl.policy.loading.files import Sources
from ratectl.policy.loading.loader import load_sources
from ratectl.policy.resolution.resolver import Resolver, resolve
from soak import scaled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.policy.language.model import PolicyTree
    from ratectl.policy.resolution.effective_limit import Limit, Setting
    from ratectl.policy.resolution.resolver import Resolved

NOW = Instant.parse(DAYS[0]).ns
MASKS = 8
"""Maximum number of condition sets to try at a scope: all sets of three conditions."""


class Case(NamedTuple):
    """Tree with other data for a law. A law may change it: each gets a copy."""

    declared: Written
    scope: str
    name: str
    own: dict[str, Any]
    others: list[dict[str, Any]]
    chance: random.Random
    exceptions: list[dict[str, Any]]

    @property
    def tree(self) -> PolicyTree:
        """Return the documents with the exceptions."""
        return excepted(self.declared, self.exceptions)


cases = st.builds(
    Case,
    st.builds(with_overrides, written, overrides),
    st.sampled_from(SCOPES),
    st.sampled_from(NAMES),
    limits,
    st.lists(limits, min_size=1, max_size=2),
    st.builds(random.Random, st.integers(0, 2**32)),
    exceptions,
)


def excepted(declared: Written, amended: list[dict[str, Any]]) -> PolicyTree:
    found = [Exemption.model_validate({"reason": "a law", **each}) for each in amended]
    return with_exceptions(tree(declared), [(each, None) for each in found])


def at(policies: PolicyTree, scope: str) -> Resolved:
    """Return the policy in force for requests that meet no condition."""
    resolved = Resolver(policies).at(scope)
    assert resolved is not None
    return resolved


def everywhere(
    policies: PolicyTree, now: int | None = NOW
) -> dict[tuple[str, int], Resolved | None]:
    """Return the policy in force at each scope for each request, with budgets in fixed order."""
    resolver = Resolver(policies, now)
    found = {
        (scope, number): resolver.select(scope, request)
        for scope in (*SCOPES, "/a/b/c/d", "/z")
        for number, request in enumerate(REQUESTS)
    }
    return {scope: resolved and _in_order(resolved) for scope, resolved in found.items()}


def _in_order(resolved: Resolved) -> Resolved:
    budgets = sorted(resolved.budgets, key=lambda each: (len(each[0]), each[1].name))
    return resolved._replace(budgets=tuple(budgets))


def deeper_beats_shallower(case: Case) -> None:
    """Values that a document declares are in force at its scope, for any change above."""
    declared, scope, name, own, others, *_ = case
    declared.setdefault(scope, {"limits": {}})["limits"][name] = own
    for up, other in zip(list(ancestry(scope))[1:], others, strict=False):
        declared.setdefault(up, {"limits": {}})["limits"][name] = other
        fields = at(tree(declared), scope).fields[name]
        for field, value in own.items():
            setting = fields[field]
            assert (setting.scope, str(setting.value)) == (scope, str(_read(field, value)))


def _read(field: str, value: Any) -> Any:
    policy = tree({"/": {"limits": {"x": {field: value}}}}).policies["/"]
    return getattr(policy.limits["x"], field)


def no_value_exceeds_a_cap(case: Case) -> None:
    """This holds for any set of conditions, also for sets that no request can meet."""
    policies = case.tree
    resolver = Resolver(policies, NOW)
    for scope in case.declared:
        every = range(1 << len(resolver.conditions.at(scope).conditions))
        for mask in every if len(every) <= MASKS else case.chance.sample(every, MASKS):
            resolved = resolver.where(scope, mask)
            assert resolved is not None
            found = [resolver.limit(scope, name, mask) for name in resolved.problems]
            for limit in (*resolved.limits.values(), *filter(None, found)):
                _below_caps(policies, scope, limit)


def _below_caps(policies: PolicyTree, scope: str, limit: Limit) -> None:
    for up in ancestry(scope):
        policy = policies.policies.get(up)
        cap = policy.caps.get(limit.name) if policy is not None else None
        if cap is None:
            continue
        if cap.burst is not None and limit.max is not None:
            assert limit.max <= cap.burst
        if limit.rate is None:
            continue
        if cap.rate is not None:
            assert not limit.rate.exceeds(cap.rate)
        if cap.burst is not None and limit.burst is not None:
            assert limit.burst <= cap.burst
        window = limit.algorithm != "token-bucket" and not limit.rate.unlimited
        if cap.burst is not None and window:
            assert limit.rate.numerator <= cap.burst


def a_limit_that_is_unset_and_set_is_replaced_whole(case: Case) -> None:
    """The limit has no fields from the scopes above."""
    declared, scope, name, fresh, *_ = case
    document = declared.setdefault(scope, {"limits": {}})
    document["limits"][name] = fresh
    document["unset"] = [name]
    without = copy.deepcopy(declared)
    for up in list(ancestry(scope))[1:]:
        without.get(up, {"limits": {}})["limits"].pop(name, None)
    replaced, alone = Resolver(tree(declared)), Resolver(tree(without))
    for place in (each for each in (*SCOPES, "/a/b/c/d") if scope in ancestry(each)):
        resolved, other = replaced.at(place), alone.at(place)
        assert resolved is not None
        assert other is not None
        assert resolved.fields.get(name) == other.fields.get(name)
        assert resolved.limits.get(name) == other.limits.get(name)
    fields = at(tree(declared), scope).fields[name]
    assert set(fields) == set(fresh)
    assert {setting.scope for setting in fields.values()} <= {scope}
    assert {setting.over for setting in fields.values()} <= {None}
    for request in REQUESTS:
        resolved = Resolver(case.tree, NOW).select(scope, request)
        assert resolved is not None
        who = {
            declared.scope for each in resolved.fields[name].values() for declared in each.history()
        }
        assert who <= {scope}


def neither_the_order_nor_the_files_matter(case: Case) -> None:
    """Documents may be in any order, in any number of files with any names."""
    declared, chance = case.declared, case.chance
    shuffled = list(declared)
    chance.shuffle(shuffled)
    files: dict[str, list[str]] = {}
    for scope in shuffled:
        body = {k: v for k, v in declared[scope].items() if k not in ("owner", "description")}
        text = json.dumps({"apiVersion": "ratectl/v1", "scope": scope, **body}, sort_keys=True)
        files.setdefault(chance.choice("abc"), []).append(text)
    for amended in case.exceptions:
        head = {"apiVersion": "ratectl/v1", "kind": "Exception", "reason": "a law"}
        texts = files.setdefault(chance.choice("abcd"), [])
        texts.insert(chance.randrange(len(texts) + 1), json.dumps({**head, **amended}))
    if not declared:
        return
    loaded = load_sources(
        Sources.of({name: "\n---\n".join(texts).encode() for name, texts in files.items()})
    )
    assert loaded.diagnostics == ()
    assert loaded.tree.exceptions == case.tree.exceptions
    assert everywhere(loaded.tree) == everywhere(case.tree)


def a_bundle_keeps_the_tree(case: Case) -> None:
    policies = case.tree
    data = encode_policies(policies)
    read = decode_policies(data)
    assert dict(read.policies) == dict(policies.policies)
    assert read.exceptions == policies.exceptions
    assert encode_policies(read) == data
    assert everywhere(read) == everywhere(policies)


def only_documents_on_the_path_matter(case: Case) -> None:
    """Neighbours and scopes below do not matter."""
    declared, scope, amended = case.declared, case.scope, case.exceptions
    path = {up: of for up, of in declared.items() if up in ancestry(scope)}
    here = [each for each in amended if each["scope"] in ancestry(scope)]
    for request in REQUESTS:
        alone = resolve(excepted(path, here), scope, request, NOW)
        assert _without_places(alone) == _without_places(resolve(case.tree, scope, request, NOW))


def _without_places(resolved: Resolved | None) -> Any:
    """Return the policy in force, without the positions of exceptions."""

    def plain(fields: Mapping[str, Setting]) -> Any:
        return {
            field: [
                (each.value, each.scope, each.via and each.via.ref) for each in declared.history()
            ]
            for field, declared in fields.items()
        }

    if resolved is None:
        return None
    limits = {name: each._replace(settings={}) for name, each in resolved.limits.items()}
    who = {name: plain(each.settings) for name, each in resolved.limits.items()}
    budgets = [(at, each._replace(settings={})) for at, each in resolved.budgets]
    fields = {name: plain(each) for name, each in resolved.fields.items()}
    return limits, who, budgets, fields, resolved.caps, resolved.problems, resolved.matched


def exceptions_that_are_not_in_force_have_no_effect(case: Case) -> None:
    day = case.chance.choice([Instant.parse(DAYS[-1]).ns, NOW - 1])
    pending = [each for each in case.exceptions if day >= NOW or "from" in each]
    found = everywhere(excepted(case.declared, pending), now=day)
    assert found == everywhere(tree(case.declared), now=None)


LAWS = (
    deeper_beats_shallower,
    no_value_exceeds_a_cap,
    a_limit_that_is_unset_and_set_is_replaced_whole,
    neither_the_order_nor_the_files_matter,
    a_bundle_keeps_the_tree,
    only_documents_on_the_path_matter,
    exceptions_that_are_not_in_force_have_no_effect,
)


@settings(max_examples=scaled(300, 3_000))
@given(cases)
def test_every_law_holds(case: Case) -> None:
    for law in LAWS:
        law(copy.deepcopy(case))
