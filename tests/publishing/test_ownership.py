"""Sets: merging a published part into the live tree, and the owner of each document."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratectl.errors import BundleError, NotFound
from ratectl.history.generations import read_entry, read_live, read_tree
from ratectl.policy.bundle import digest, encode_document, encode_policies
from ratectl.policy.language.model import Exemption, PolicyTree, SourceMap, with_exceptions
from ratectl.publishing._publish import publish, rollback
from ratectl.publishing.handover import Item
from ratectl.publishing.ownership import (
    Merged,
    Owners,
    merge,
    owners_blob,
    part_of,
    read_owners,
    set_problem,
)
from ratectl.publishing.source_files import Beside
from ratectl.records import MANIFESTS
from ratectl.rollout import Terms
from ratectl.rollout._start import start
from support import ME, policies, simple

if TYPE_CHECKING:
    from ratectl.stores.base import Store

SCOPES = ("/", "/a", "/a/b", "/c", "/c/d")
SETS = ("one", "two", None)
UNTIL = ("2040-01-01T00:00Z", "2041-01-01T00:00Z", "2042-01-01T00:00Z")


def tree_of(bursts: dict[str, int], *amended: tuple[str, str]) -> PolicyTree:
    """Return a tree of scopes with a burst each, and of exceptions given as (scope, end)."""
    tree = policies(**{at: {"limits": {"x": {"burst": burst}}} for at, burst in bursts.items()})
    sources = {at: SourceMap(f"{at}.yaml", {"scope": (1, 8, 9)}) for at in bursts}
    exceptions = [
        Exemption.model_validate(
            {"scope": at, "reason": "r", "until": until, "limits": {"x": {"burst": 9}}}
        )
        for at, until in amended
    ]
    sourced = [(each, SourceMap("exceptions.yaml", {})) for each in exceptions]
    return with_exceptions(PolicyTree(tree.policies, sources), sourced)


def owned(tree: PolicyTree, name: str) -> Owners:
    return Owners(
        dict.fromkeys(tree.policies, name),
        dict.fromkeys([digest(encode_document(each)) for each in tree.exceptions], name),
    )


def combined(part: PolicyTree, live: PolicyTree, owners: Owners, **options: Any) -> Merged:
    return merge("one", part, live, owners, generation=7, **options)


def reported(merged: Merged) -> tuple[object, ...]:
    return (*merged.moved.left, *merged.moved.pruned, *merged.moved.taken, *merged.conflicts)


# -- merge


def test_documents_of_other_sets_stay() -> None:
    live = tree_of({"/": 1, "/a": 2})
    owners = Owners({"/": "two", "/a": "one"}, {})
    merged = combined(tree_of({"/a": 3, "/b": 4}), live, owners)
    assert encode_policies(merged.tree) == encode_policies(tree_of({"/": 1, "/a": 3, "/b": 4}))
    assert merged.owners == Owners({"/": "two", "/a": "one", "/b": "one"}, {})
    assert reported(merged) == ()


def test_documents_that_a_set_no_longer_holds_stay_unless_pruned() -> None:
    live = tree_of({"/a": 1, "/b": 2, "/c": 3}, ("/b", UNTIL[0]))
    owners = Owners({"/a": "one", "/b": "one", "/c": "two"}, owned(live, "one").exceptions)
    gone = (Item("Policy", "/b", "one"), Item("Exception", "/b", "one"))
    left = combined(tree_of({"/a": 1}), live, owners)
    assert (left.moved.left, left.moved.pruned) == (gone, ())
    assert encode_policies(left.tree) == encode_policies(live)
    assert left.owners == owners
    pruned = combined(tree_of({"/a": 1}), live, owners, prune=True)
    assert (pruned.moved.left, pruned.moved.pruned) == ((), gone)
    assert encode_policies(pruned.tree) == encode_policies(tree_of({"/a": 1, "/c": 3}))
    assert pruned.owners == Owners({"/a": "one", "/c": "two"}, {})


@pytest.mark.parametrize("owner", ["two", None])
def test_document_of_another_owner_is_a_conflict_even_if_unchanged(owner: str | None) -> None:
    live = tree_of({"/a": 1, "/a/b": 2}, ("/a", UNTIL[0]))
    owners = owned(live, owner) if owner else Owners()
    merged = combined(live, live, owners)
    assert len(merged.conflicts) == 3, "even if the documents are unchanged"
    whose = "set two" if owner else "no set"
    first = next(each for each in merged.conflicts if "scope /a " in each.message)
    assert first.message == f"the scope /a belongs to {whose} in generation 7, not to one"
    assert (first.code, str(first.span)) == ("RC501", "/a.yaml:1:8")
    assert first.hint
    assert "--take-ownership /a" in first.hint
    assert ("remove it from set two and apply that set with --prune" in first.hint) is bool(owner)


def test_take_ownership_takes_documents_of_the_set_at_a_scope_and_below() -> None:
    live = tree_of({"/": 0, "/a": 1, "/a/b": 2, "/ab": 3}, ("/a/b", UNTIL[0]))
    part = tree_of({"/a": 1, "/ab": 3}, ("/a/b", UNTIL[0]))
    merged = combined(part, live, owned(live, "two"), take=["/a"])
    assert merged.moved.taken == (Item("Policy", "/a", "two"), Item("Exception", "/a/b", "two"))
    assert ["/ab" in each.message for each in merged.conflicts] == [True]
    assert merged.owners.scopes == {"/": "two", "/a": "one", "/a/b": "two", "/ab": "one"}
    assert set(merged.owners.exceptions.values()) == {"one"}


def test_new_exceptions_at_a_scope_replace_earlier_ones_of_the_set() -> None:
    live = tree_of({"/a": 1}, ("/a", UNTIL[0]), ("/a", UNTIL[1]), ("/b", UNTIL[0]))
    owners = owned(live, "one")
    merged = combined(tree_of({"/a": 1}, ("/a", UNTIL[2])), live, owners)
    assert encode_policies(merged.tree) == encode_policies(
        tree_of({"/a": 1}, ("/a", UNTIL[2]), ("/b", UNTIL[0]))
    )
    assert merged.moved.left == (Item("Exception", "/b", "one"),)
    others = Owners(owners.scopes, dict.fromkeys(owners.exceptions, "two"))
    merged = combined(tree_of({"/a": 1}, ("/a", UNTIL[2])), live, others)
    assert len(merged.tree.exceptions) == 4, "exceptions of other sets stay"


def test_places_name_the_set_of_their_file() -> None:
    live = tree_of({"/a": 1, "/b": 2, "/c": 3})
    owners = Owners({"/a": "one"}, {})
    first = combined(tree_of({"/a": 1}, ("/a", UNTIL[0])), live, owners)
    files = {at: source.file for at, source in first.tree.sources.items()}
    assert files == {
        "/a": "/a.yaml", "/b": "live:/b.yaml", "/c": "live:/c.yaml",
        "exception 0": "exceptions.yaml",
    }  # fmt: skip
    files = {at: source.file for at, source in first.published.sources.items()}
    assert files == {
        "/a": "one:/a.yaml", "/b": "/b.yaml", "/c": "/c.yaml",
        "exception 0": "one:exceptions.yaml",
    }  # fmt: skip
    second = merge("two", tree_of({"/d": 4}), first.published, first.owners, generation=8)
    assert second.published.sources["/a"].file == second.tree.sources["/a"].file == "one:/a.yaml"


drawn = st.builds(
    tree_of,
    st.dictionaries(st.sampled_from(SCOPES), st.integers(0, 3)),
).flatmap(
    lambda tree: st.lists(
        st.tuples(st.sampled_from(SCOPES), st.sampled_from(UNTIL)), unique=True, max_size=3
    ).map(lambda amended: tree_of(
        {at: policy.limits["x"].burst or 0 for at, policy in tree.policies.items()}, *amended
    ))
)  # fmt: skip


@st.composite
def ownerships(draw: st.DrawFn) -> tuple[PolicyTree, Owners]:
    """Return a tree, and owners of some of its documents."""
    tree = draw(drawn)
    scopes = {at: draw(st.sampled_from(SETS)) for at in tree.policies}
    exceptions = {
        digest(encode_document(each)): draw(st.sampled_from(SETS)) for each in tree.exceptions
    }
    return tree, Owners(
        {at: name for at, name in scopes.items() if name},
        {at: name for at, name in exceptions.items() if name},
    )


@given(ownerships(), st.sampled_from(["one", "two"]), st.booleans())
def test_publishing_the_documents_that_a_set_owns_changes_nothing(
    live: tuple[PolicyTree, Owners], name: str, prune: bool
) -> None:
    tree, owners = live
    part = part_of(tree, owners, name)
    merged = merge(name, part, tree, owners, generation=1, prune=prune)
    assert encode_policies(merged.tree) == encode_policies(tree)
    assert merged.owners == owners
    assert reported(merged) == ()


@given(ownerships(), drawn, drawn, st.booleans())
def test_sets_without_conflicts_can_be_published_in_any_order(
    live: tuple[PolicyTree, Owners], one: PolicyTree, two: PolicyTree, prune: bool
) -> None:
    tree, owners = live
    ends = []
    for order in ((("one", one), ("two", two)), (("two", two), ("one", one))):
        now, whose = tree, owners
        for name, part in order:
            merged = merge(name, part, now, whose, generation=1, prune=prune)
            if merged.conflicts:
                break
            now, whose = merged.published, merged.owners
        else:
            ends.append((encode_policies(now), whose))
    if len(ends) == 2:
        assert ends[0] == ends[1]


@given(ownerships(), drawn, st.booleans())
def test_merge_changes_no_document_of_others_and_has_every_document_of_the_set(
    live: tuple[PolicyTree, Owners], part: PolicyTree, prune: bool
) -> None:
    tree, owners = live
    merged = merge("one", part, tree, owners, generation=1, prune=prune)
    if merged.conflicts:
        return
    for name in ("two", None):
        before, after = part_of(tree, owners, name), part_of(merged.tree, merged.owners, name)
        assert encode_policies(before) == encode_policies(after)
    mine = part_of(merged.tree, merged.owners, "one")
    if prune:
        assert encode_policies(mine) == encode_policies(part)
    else:
        assert set(part.policies) <= set(mine.policies)
        assert set(map(encode_document, part.exceptions)) <= set(
            map(encode_document, mine.exceptions)
        )


# -- stored owners


def test_change_of_owners_alone_makes_a_generation(store: Store) -> None:
    tree, mine = simple(), Beside(owners=Owners({"/": "one"}, {}))
    assert publish(store, tree, ME)
    entry = publish(store, tree, ME, beside=mine)
    assert entry is not None
    assert (entry.generation, entry.bundle) == (2, read_entry(store, 1).bundle)
    assert read_owners(store, owners_blob(store, read_live(store))) == mine.owners
    assert publish(store, tree, ME, beside=mine) is None
    assert publish(store, tree, ME) is None, "publishing without a set does not change the owners"
    assert start(store, tree, ME, Terms.of([5.0]), beside=mine) is None
    assert publish(store, tree, ME, beside=Beside(owners=Owners())) is not None
    assert owners_blob(store, read_live(store)) is None


def test_rollback_restores_the_owners(store: Store) -> None:
    tree = simple()
    for name in ("one", "two"):
        assert publish(store, tree, ME, beside=Beside(owners=Owners({"/": name}, {})))
    entry = rollback(store, 1, ME)
    assert entry is not None
    assert read_owners(store, entry.owners).scopes == {"/": "one"}
    assert rollback(store, 1, ME) is None
    store.delete(f"{MANIFESTS}{read_entry(store, 2).owners}")
    with pytest.raises(NotFound):
        rollback(store, 2, ME)
    assert encode_policies(read_tree(store, entry)) == encode_policies(tree)


def test_candidate_has_owners(store: Store) -> None:
    assert publish(store, simple(), ME)
    mine = Beside(owners=Owners({"/": "one"}, {}))
    entry = start(store, simple("3/s"), ME, Terms.of([5.0]), beside=mine)
    assert entry is not None
    assert read_owners(store, entry.owners) == mine.owners
    assert owners_blob(store, read_live(store)) is None, "it is not live yet"


@given(ownerships())
def test_encoding_of_owners_is_canonical_and_decodes_to_them(
    live: tuple[PolicyTree, Owners],
) -> None:
    _, owners = live
    assert Owners.decode(owners.encode()) == owners
    turned = Owners(dict(reversed(owners.scopes.items())), dict(owners.exceptions))
    assert turned.encode() == owners.encode()
    assert Owners.from_data(json.loads(json.dumps(owners.data()))) == owners


@pytest.mark.parametrize(
    "value",
    [
        b"", b"\xff", b"[]", b"7", b"{}", b'{"format":2,"scopes":{},"exceptions":{}}',
        b'{"format":1,"scopes":{}}', b'{"format":1,"scopes":[7],"exceptions":{}}',
        b'{"format":1,"scopes":{"/":7},"exceptions":{}}',
        b'{"format":1,"scopes":{"a":"one"},"exceptions":{}}',
        b'{"format":1,"scopes":{"/":"../x"},"exceptions":{}}',
        b'{"format":1,"scopes":{},"exceptions":{"0":"a/b"}}', b"[" * 100_000,
    ],
)  # fmt: skip
def test_invalid_bytes_of_owners_are_an_error(value: bytes) -> None:
    with pytest.raises(BundleError):
        Owners.decode(value)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-a", "a" * 65, "ä", "a b", "a\n", ".git"])
def test_invalid_set_name_is_a_problem(name: str) -> None:
    assert set_problem(name)
    assert not set_problem("payments-2.eu_west")
