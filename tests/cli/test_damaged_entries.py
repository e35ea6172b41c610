"""A damaged history entry of the live generation does not prevent publishing a whole tree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.signatures import upload
from ratectl.history.generations import read_entry, read_live
from ratectl.policy.bundle import encode_policies
from ratectl.publishing.ownership import Owners
from ratectl.publishing.source_files import Documents, read_documents
from ratectl.records import HEAD, MANIFESTS, history_key
from ratectl.stores import open_store
from ratectl.stores.sqlite.store import SqliteStore
from support import simple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cli_support import Cli

    from ratectl.stores.base import Item, Store

KEY = ("--sign", "platform.key")
EVIL = Owners({"/": "evil"}).encode()


@pytest.fixture(params=[KEY, ()], ids=["signed", "unsigned"])
def key(cli: Cli, request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The options with which everything is published."""
    assert cli("key", "generate", "platform").code == 0
    found: tuple[str, ...] = request.param
    return found


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    with open_store(store_url) as found:
        yield found


def write(name: str, scope: str, rate: str) -> str:
    Path(name).mkdir(exist_ok=True)
    text = f"apiVersion: ratectl/v1\nscope: {scope}\nlimits: {{spike: {{rate: {rate}, per: x}}}}\n"
    Path(name, "all.yaml").write_text(text)
    return name


def whole(cli: Cli, key: tuple[str, ...]) -> None:
    """Publish two generations of a whole tree; leave its files as they are live."""
    for rate in ("50/s", "51/s"):
        assert cli("apply", write("tree", "/", rate), "--yes", *key).code == 0


def shared(cli: Cli, key: tuple[str, ...]) -> None:
    """Publish two generations of two sets; leave the files of a whole tree."""
    for name in ("edge", "payments"):
        folder = write(name, f"/{name}", "50/s")
        assert cli("apply", folder, "--set", name, "--yes", *key).code == 0
    write("tree", "/edge", "60/s")


def put(store: Store, **changes: str | None) -> None:
    """Change the history entry of generation 2, without a new signature."""
    store.put(history_key(2), replace(read_entry(store, 2), **changes).encode())  # type: ignore[arg-type]


def no_entry(store: Store) -> None:
    store.put(history_key(2), b"{}")


def of_another_generation(store: Store) -> None:
    item = store.get(history_key(1))
    assert item is not None
    store.put(history_key(2), item.value)


def of_other_policies(store: Store) -> None:
    put(store, bundle=upload(store, encode_policies(simple("9999/s"))))


def owners_that_are_gone(store: Store) -> None:
    put(store, owners="1" * 64)


def forged_owners(store: Store) -> None:
    put(store, owners=upload(store, EVIL))


def deleted(store: Store) -> None:
    store.delete(history_key(2))


UNREADABLE = [no_entry, of_another_generation, of_other_policies, owners_that_are_gone]


@pytest.mark.parametrize("damage", UNREADABLE, ids=lambda each: each.__name__)
@pytest.mark.parametrize("tree", [whole, shared], ids=lambda each: each.__name__)
def test_a_whole_tree_starts_afresh_and_names_the_damage(
    cli: Cli,
    store: Store,
    key: tuple[str, ...],
    damage: Callable[[Store], None],
    tree: Callable[[Cli, tuple[str, ...]], None],
) -> None:
    tree(cli, key)
    damage(store)
    assert cli("plan", "tree").code == 0
    run = cli("apply", "tree", "--yes", "--allow-removals", "they are meant", *key)
    assert run.code == 0, run.err
    assert "the ownership of generation 2" in run.err
    assert "PATH is the whole tree, and no set owns a part of it" in run.err
    if damage is not owners_that_are_gone:
        assert "'history/0000000002'" in run.err
        assert "generation 3 starts afresh" in run.err
    assert read_entry(store, 3).owners is None
    again = cli("apply", "tree", "--yes", *key)
    assert "nothing to do: generation 3" in again.out
    assert again.err == ""


def test_guards_compare_with_the_policies_of_the_head(
    cli: Cli, store: Store, key: tuple[str, ...]
) -> None:
    """Without --set after the damage, policies of other sets would be removed."""
    shared(cli, key)
    no_entry(store)
    run = cli("apply", "tree", "--yes", *key)
    assert run.code == 77
    assert "it removes 1 of 2 scopes" in run.err


@pytest.mark.parametrize("damage", [*UNREADABLE, forged_owners, deleted], ids=lambda d: d.__name__)
def test_a_rollback_to_an_earlier_generation_starts_afresh(
    cli: Cli, store: Store, key: tuple[str, ...], damage: Callable[[Store], None]
) -> None:
    shared(cli, key)
    damage(store)
    run = cli("rollback", "--to", "1", "--yes", *key)
    assert run.code == 0, run.err
    assert read_entry(store, 3).owners == read_entry(store, 1).owners
    edge = write("edge", "/edge", "70/s")
    assert cli("apply", edge, "--set", "edge", "--yes", *key).code == 0


@pytest.mark.parametrize("damage", [forged_owners, owners_that_are_gone, deleted, no_entry])
def test_owners_not_signed_by_the_key_are_ignored(
    cli: Cli, store: Store, damage: Callable[[Store], None]
) -> None:
    cli("key", "generate", "platform")
    whole(cli, KEY)
    damage(store)
    run = cli("apply", "tree", "--yes", *KEY)
    assert run.code == 0, run.err
    assert "generation 3 starts afresh" in run.err
    if damage is forged_owners:
        assert (
            "the ownership of generation 2 (sets evil) is ignored: it was not signed by this "
            "key, or was changed since" in run.err
        )
    assert read_entry(store, 3).owners is None


def test_owners_signed_by_the_key_are_used_despite_a_forged_head(cli: Cli, store: Store) -> None:
    cli("key", "generate", "platform")
    shared(cli, KEY)
    head = read_live(store).head
    assert head is not None
    store.put(HEAD, replace(head, signature=None).encode())
    run = cli("apply", "tree", "--yes", *KEY)
    assert run.code == 77
    assert "belongs to sets edge, payments" in run.err
    assert cli("rollback", "--to", "2", "--yes", *KEY).code == 0, "the live one is signed again"
    assert cli("apply", "edge", "--set", "edge", "--yes", *KEY).code == 0


@pytest.mark.parametrize("damage", UNREADABLE, ids=lambda each: each.__name__)
def test_publishing_a_set_with_unreadable_owners_hints_how_to_start_afresh(
    cli: Cli, store: Store, key: tuple[str, ...], damage: Callable[[Store], None]
) -> None:
    shared(cli, key)
    damage(store)
    run = cli("apply", "edge", "--set", "edge", "--yes", *key)
    assert run.code == 65
    assert "apply the files of the whole tree without --set" in run.err
    assert f"`ratectl rollback --to GEN{''.join(f' {word}' for word in key)}`" in run.err


def test_a_rollback_without_to_names_the_damage(
    cli: Cli, store: Store, key: tuple[str, ...]
) -> None:
    whole(cli, key)
    no_entry(store)
    run = cli("rollback", "--yes", *key)
    assert run.code == 77
    assert "the history entry of generation 2 ('history/0000000002') is damaged" in run.err
    assert "Name the generation to publish with --to GEN" in run.err


def test_a_damaged_entry_is_no_obstacle_if_the_head_is_missing(
    cli: Cli, store: Store, key: tuple[str, ...]
) -> None:
    shared(cli, key)
    no_entry(store)
    store.delete(HEAD)
    run = cli("apply", "edge", "--set", "edge", "--yes", *key)
    assert run.code == 77
    assert "apply the files of the whole tree without --set first" in run.err
    run = cli("apply", "tree", "--yes", *key)
    assert run.code == 0, run.err
    assert "generation 3 starts afresh" in run.err


def test_a_whole_tree_drops_owners_whose_bytes_were_deleted(
    cli: Cli, store: Store, key: tuple[str, ...]
) -> None:
    """The entry is as it was signed, but the bytes that it names are deleted."""
    shared(cli, key)
    owners = read_entry(store, 2).owners
    assert owners is not None
    store.delete(MANIFESTS + owners)
    assert cli("apply", "edge", "--set", "edge", "--yes", *key).code in (65, 77)
    for name in ("edge", "payments"):
        Path("tree", f"{name}.yaml").write_text(Path(name, "all.yaml").read_text())
    Path("tree", "all.yaml").unlink()
    run = cli("apply", "tree", "--yes", *key)
    assert run.code == 0, run.err
    assert "the ownership of generation 2 is gone" in run.err
    assert read_entry(store, 3).owners is None


def test_a_set_is_signed_with_the_entry_that_was_verified(
    cli: Cli, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store returns the true entry at the first read, and a forged one later."""
    cli("key", "generate", "platform")
    shared(cli, KEY)
    honest = read_entry(store, 2)
    kept = read_documents(store, honest)
    files = [each._replace(text=each.text.replace("50/s", "9999/s")) for each in kept.files]
    forged = replace(honest, documents=upload(store, Documents(tuple(files)).encode() or b""))
    reads: list[str] = []
    get = SqliteStore.get

    def lie(self: SqliteStore, key: str) -> Item | None:
        item = get(self, key)
        if item is None or key != history_key(2):
            return item
        reads.append(key)
        return item if len(reads) == 1 else replace(item, value=forged.encode())

    monkeypatch.setattr(SqliteStore, "get", lie)
    folder = write("payments", "/payments", "60/s")
    assert cli("apply", folder, "--set", "payments", "--yes", *KEY).code == 0
    monkeypatch.undo()
    assert reads, "the entry was read"
    texts = [each.text for each in read_documents(store, read_entry(store, 3)).files]
    assert any("60/s" in text for text in texts)
    assert not any("9999/s" in text for text in texts)
