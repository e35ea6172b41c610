"""Laws of resolution, each on the same thousand random trees: making these is what takes time.

The strategies are those of ``trees``: what is added to the language there is held to these laws.
"""

from __future__ import annotations

import copy
import json
import random
from typing import TYPE_CHECKING, Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from policy.trees import NAMES, SCOPES, Written, limits, tree, written
from ratectl.policy.bundle import decode_policies, encode_policies
from ratectl.policy.loader import load_sources
from ratectl.policy.policy_files import Sources
from ratectl.policy.resolve import Resolver, resolve
from ratectl.policy.scopes import ancestry

if TYPE_CHECKING:
    from ratectl.policy.model import PolicyTree
    from ratectl.policy.resolve import Resolved


class Case(NamedTuple):
    """A tree, and what else a law needs to try on it. Laws may change it: each gets a copy."""

    said: Written
    scope: str
    name: str
    own: dict[str, Any]
    others: list[dict[str, Any]]
    chance: random.Random


cases = st.builds(
    Case,
    written,
    st.sampled_from(SCOPES),
    st.sampled_from(NAMES),
    limits,
    st.lists(limits, min_size=1, max_size=2),
    st.builds(random.Random, st.integers(0, 2**32)),
)


def at(policies: PolicyTree, scope: str) -> Resolved:
    resolved = resolve(policies, scope)
    assert resolved is not None
    return resolved


def everywhere(policies: PolicyTree) -> dict[str, Resolved | None]:
    """What holds at each scope; the order of names in a document says nothing."""
    resolver = Resolver(policies)
    found = {scope: resolver.at(scope) for scope in (*SCOPES, "/a/b/c/d", "/z")}
    return {scope: resolved and _in_order(resolved) for scope, resolved in found.items()}


def _in_order(resolved: Resolved) -> Resolved:
    budgets = sorted(resolved.budgets, key=lambda each: (len(each[0]), each[1].name))
    return resolved._replace(budgets=tuple(budgets))


def deeper_beats_shallower(case: Case) -> None:
    """What a document says holds at its scope, whatever the scopes above come to say."""
    said, scope, name, own, others, _ = case
    said.setdefault(scope, {"limits": {}})["limits"][name] = own
    for up, other in zip(list(ancestry(scope))[1:], others, strict=False):
        said.setdefault(up, {"limits": {}})["limits"][name] = other
        fields = at(tree(said), scope).fields[name]
        for field, value in own.items():
            setting = fields[field]
            assert (setting.scope, str(setting.value)) == (scope, str(_read(field, value)))


def _read(field: str, value: Any) -> Any:
    policy = tree({"/": {"limits": {"x": {field: value}}}}).policies["/"]
    return getattr(policy.limits["x"], field)


def caps_always_hold(case: Case) -> None:
    said = case.said
    policies = tree(said)
    for scope in said:
        resolved = at(policies, scope)
        for limit in resolved.limits.values():
            for up in ancestry(scope):
                cap = policies.policies[up].caps.get(limit.name) if up in said else None
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


def unset_and_set_again_is_replaced_whole(case: Case) -> None:
    """As if nobody above had ever said anything of it."""
    said, scope, name, fresh, _, _ = case
    document = said.setdefault(scope, {"limits": {}})
    document["limits"][name] = fresh
    document["unset"] = [name]
    without = copy.deepcopy(said)
    for up in list(ancestry(scope))[1:]:
        without.get(up, {"limits": {}})["limits"].pop(name, None)
    replaced, alone = everywhere(tree(said)), everywhere(tree(without))
    for place, resolved in replaced.items():
        if scope not in ancestry(place):
            continue
        other = alone[place]
        assert resolved is not None
        assert other is not None
        assert resolved.fields.get(name) == other.fields.get(name)
        assert resolved.limits.get(name) == other.limits.get(name)
    fields = at(tree(said), scope).fields[name]
    assert set(fields) == set(fresh)
    assert {setting.scope for setting in fields.values()} <= {scope}
    assert {setting.over for setting in fields.values()} <= {None}


def neither_the_order_nor_the_files_matter(case: Case) -> None:
    """Documents in any order, in any number of files of any names."""
    said, chance = case.said, case.chance
    shuffled = list(said)
    chance.shuffle(shuffled)
    files: dict[str, list[str]] = {}
    for scope in shuffled:
        body = {k: v for k, v in said[scope].items() if k not in ("owner", "description")}
        text = json.dumps({"apiVersion": "ratectl/v1", "scope": scope, **body}, sort_keys=True)
        files.setdefault(chance.choice("abc"), []).append(text)
    if not said:
        return
    loaded = load_sources(
        Sources.of({name: "\n---\n".join(texts).encode() for name, texts in files.items()})
    )
    assert loaded.diagnostics == ()
    assert everywhere(loaded.tree) == everywhere(tree(said))


def a_tree_is_what_its_bundle_says(case: Case) -> None:
    policies = tree(case.said)
    data = encode_policies(policies)
    read = decode_policies(data)
    assert dict(read.policies) == dict(policies.policies)
    assert encode_policies(read) == data
    assert everywhere(read) == everywhere(policies)


def only_the_path_has_a_say(case: Case) -> None:
    """Not neighbours, nor scopes below."""
    said, scope = case.said, case.scope
    path = {up: of for up, of in said.items() if up in ancestry(scope)}
    assert resolve(tree(path), scope) == resolve(tree(said), scope)


LAWS = (
    deeper_beats_shallower,
    caps_always_hold,
    unset_and_set_again_is_replaced_whole,
    neither_the_order_nor_the_files_matter,
    a_tree_is_what_its_bundle_says,
    only_the_path_has_a_say,
)


@settings(max_examples=1_000)
@given(cases)
def test_every_law_holds(case: Case) -> None:
    for law in LAWS:
        law(copy.deepcopy(case))
