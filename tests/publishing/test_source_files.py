"""Source files of a generation, stored beside its bundle: kept, bounded, never trusted."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratectl.errors import BundleError
from ratectl.history.blobs import collect_garbage
from ratectl.history.generations import read_entry
from ratectl.policy.loading.files import is_policy_file
from ratectl.policy.read import load_valid
from ratectl.publishing import source_files as kept
from ratectl.publishing._publish import publish, rollback
from ratectl.publishing.source_files import (
    Beside,
    Documents,
    FileNames,
    PolicyFile,
    intact,
    is_safe,
    read_documents,
)
from ratectl.records import MANIFESTS
from ratectl.rollout import Terms
from ratectl.rollout._start import start
from support import ME, publish_policies, simple

if TYPE_CHECKING:
    from pathlib import Path

    from ratectl.policy.language.model import PolicyTree
    from ratectl.stores.base import Store

TEXT = """\
# what everybody gets
apiVersion: ratectl/v1
scope: /
limits:
  spike: {rate: 2/s, per: tenant}  # twice a second
"""


def files(*texts: str) -> Documents:
    return Documents(tuple(PolicyFile(f"{at}.yaml", text) for at, text in enumerate(texts)))


def tree_of(text: str) -> PolicyTree:
    return load_valid(["-"], stdin=text.encode()).tree


# -- stored with a generation


def test_source_files_are_stored_with_a_generation_and_restored_by_a_rollback(store: Store) -> None:
    written = files(TEXT)
    entry = publish(store, simple(), ME, beside=Beside(written))
    assert entry is not None
    assert read_documents(store, entry) == written
    other = publish_policies(store, simple("3/s"))
    assert read_documents(store, other) == Documents(())
    back = rollback(store, 1, ME)
    assert back is not None
    assert back.documents == entry.documents
    assert collect_garbage(store, age=timedelta(0)) == 0
    assert read_documents(store, back) == written


def test_candidate_has_source_files(store: Store) -> None:
    publish_policies(store, simple())
    entry = start(store, simple("3/s"), ME, Terms.of([5.0]), beside=Beside(files(TEXT)))
    assert entry is not None
    assert read_documents(store, entry) == files(TEXT)


def test_source_files_are_collected_with_their_generation(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ratectl.publishing._publish.KEPT", 1)
    publish(store, simple(), ME, beside=Beside(files(TEXT)))
    publish_policies(store, simple("3/s"))
    assert collect_garbage(store, age=timedelta(0)) == 2, "the bundle and its source files"


def test_changed_comment_alone_makes_no_generation(store: Store) -> None:
    publish(store, simple(), ME, beside=Beside(files(TEXT)))
    assert publish(store, simple(), ME, beside=Beside(files(f"# more\n{TEXT}"))) is None


def test_generation_without_source_files_can_be_read_and_rolled_back_to(store: Store) -> None:
    entry = publish(store, simple(), ME, beside=Beside(files(TEXT)))
    assert entry is not None
    store.delete(f"{MANIFESTS}{entry.documents}")
    assert read_documents(store, entry) == Documents(())
    publish_policies(store, simple("3/s"))
    back = rollback(store, 1, ME)
    assert back is not None
    assert back.documents is None


def test_damaged_source_files_read_as_none(store: Store) -> None:
    entry = publish(store, simple(), ME, beside=Beside(files(TEXT)))
    assert entry is not None
    store.put(f"bundles/{entry.documents}/00000", b"x")
    assert read_documents(store, entry) == Documents(())
    assert read_documents(store, replace(entry, documents=entry.bundle)) == Documents(())


def test_too_large_source_files_are_not_stored(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = files(TEXT + "#" * 5_000)
    monkeypatch.setattr(kept, "MAX_BUNDLE_BYTES", 5_000)
    entry = publish(store, simple(), ME, beside=Beside(large))
    assert entry is not None
    assert entry.documents is None
    assert read_entry(store, 1).documents is None


# -- encoding


@given(st.lists(st.tuples(st.text(), st.text()), max_size=3))
def test_any_text_survives_encoding(texts: list[tuple[str, str]]) -> None:
    written = Documents(tuple(PolicyFile(*each) for each in texts))
    data = written.encode()
    assert data is not None
    assert Documents.decode(data) == written
    assert Documents.of(json.loads(json.dumps(written.data()))) == written


def test_source_files_of_exactly_the_maximum_size_survive_encoding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = files(TEXT).encode()
    assert data is not None
    monkeypatch.setattr(kept, "MAX_BUNDLE_BYTES", len(zlib.decompress(data)))
    assert Documents.decode(data) == files(TEXT)
    monkeypatch.setattr(kept, "MAX_BUNDLE_BYTES", len(zlib.decompress(data)) - 1)
    assert files(TEXT).encode() is None
    with pytest.raises(BundleError, match="too large"):
        Documents.decode(data)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"format":2,"files":[]}',
        b'{"format":1}',
        b'{"format":1,"files":7}',
        b'{"format":1,"files":[7]}',
        b'{"format":1,"files":[{"path":"a.yaml"}]}',
        b'{"format":1,"files":[{"path":"a.yaml","text":7}]}',
        b'{"format":1,"files":[{"path":"a.yaml","text":"","more":""}]}',
    ],
)
def test_invalid_bytes_of_source_files_are_an_error(value: bytes) -> None:
    for data in (value, zlib.compress(value), zlib.compress(value)[:-3]):
        with pytest.raises(BundleError):
            Documents.decode(data)


def test_compressed_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MAX_BUNDLE_BYTES", 10_000)
    with pytest.raises(BundleError, match="too large"):
        Documents.decode(zlib.compress(b" " * 10_000_000))


# -- names


def test_paths_are_relative_to_the_applied_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "policies"
    (folder / "web").mkdir(parents=True)
    (folder / "web" / "site.yaml").write_text(TEXT)
    monkeypatch.chdir(tmp_path)

    def paths(given: str) -> list[str]:
        return [file.path for file in Documents.read(given, load_valid([given])).files]

    assert paths("policies") == paths("./policies/") == paths(str(folder)) == ["web/site.yaml"]
    assert paths(".") == ["policies/web/site.yaml"]
    assert paths("policies/web/site.yaml") == ["site.yaml"]
    monkeypatch.chdir(folder)
    assert paths("../policies") == ["web/site.yaml"]


def test_file_without_a_usable_name_gets_a_default_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (".hidden.yaml", "no-suffix", "back\\slash.yaml"):
        (tmp_path / name).write_text(TEXT)
        assert Documents.read(name, load_valid([name])).files == (
            PolicyFile("policies.yaml", TEXT),
        )
    loaded = load_valid(["-"], stdin=TEXT.encode())
    assert Documents.read("-", loaded).files == (PolicyFile("policies.yaml", TEXT),)


def test_bytes_of_a_file_are_kept_exactly(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode()
    (tmp_path / "a.yaml").write_bytes(data)
    (file,) = Documents.read(str(tmp_path), load_valid([tmp_path])).files
    assert file.text.encode() == data


@pytest.mark.parametrize(
    "path",
    [
        "", ".", "..", "/etc/a.yaml", "../a.yaml", "a/../../b.yaml", "a/./b.yaml", "a//b.yaml",
        "a.yaml/", "a\0.yaml", "a\n.yaml", "\x1b[1m.yaml", "a.txt", "a", ".yaml", ".git/a.yaml",
        "..\\a.yaml", "\udcff.yaml", "x" * 300 + ".yaml", "x/" * 1_600 + "a.yaml", "a\u202e.yaml",
    ],
)  # fmt: skip
def test_unsafe_file_names_are_replaced(path: str) -> None:
    assert not is_safe(path)
    assert FileNames().take(path, otherwise="o.yaml") == "o.yaml"


@given(st.text(st.sampled_from("./a\0\\Ä~"), max_size=12).map(lambda text: f"{text}.yaml"))
def test_a_safe_name_stays_below_its_folder(path: str) -> None:
    if is_safe(path):
        parts = path.split("/")
        assert ".." not in parts
        assert is_policy_file(parts)
        assert "\0" not in path
        assert not path.startswith("/")


def test_names_that_collide_are_changed() -> None:
    names = FileNames()
    taken = [
        names.take(wanted, otherwise="o.yaml")
        for wanted in ("a.yaml", "A.yaml", "a.yaml/b.yaml", "x.yaml/y.yaml", "x.yaml", "", "")
    ]
    assert taken == [
        "a.yaml", "A-2.yaml", "o.yaml", "x.yaml/y.yaml", "x-2.yaml", "o-2.yaml", "o-3.yaml",
    ]  # fmt: skip


# -- files that still match the bundle


def test_only_files_that_match_the_bundle_are_used() -> None:
    other = TEXT.replace("scope: /", "scope: /b").replace("2/s", "3/s")
    exception = (
        "apiVersion: ratectl/v1\nkind: Exception\nscope: /\nreason: sale\n"
        "until: 2040-01-01T00:00Z\nlimits: {spike: {rate: 9/s}}\n"
    )
    tree = tree_of(f"{TEXT}---\n{other}---\n{exception}")
    named = {
        "good.yaml": TEXT,
        "other.yaml": other.replace("3/s", "4/s"),
        "spelt.yaml": exception.replace("2040-01-01T00:00Z", "2040-01-01T01:00+01:00"),
        "none.yaml": "# nothing\n",
        "twice.yaml": TEXT,
        "more.yaml": TEXT.replace("scope: /", "scope: /more"),
        "torn.yaml": f"{other}---\nscope: [",
        "../out.yaml": other,
        "NONE.yaml": "# in the way\n",
    }
    matching, rest = intact([PolicyFile(*item) for item in named.items()], tree)
    assert [file.path for file in matching] == ["good.yaml", "spelt.yaml", "none.yaml"]
    assert sorted(rest.policies) == ["/b"]
    assert rest.exceptions == ()


def test_two_equal_exceptions_count_as_two() -> None:
    exception = (
        "apiVersion: ratectl/v1\nkind: Exception\nscope: /\nreason: sale\n"
        "until: 2040-01-01T00:00Z\nlimits: {spike: {rate: 9/s}}\n"
    )
    tree = tree_of(f"{TEXT}---\n{exception}")
    tree = replace(tree, exceptions=tree.exceptions * 2)
    _, rest = intact([PolicyFile("a.yaml", exception)], tree)
    assert len(rest.exceptions) == 1
    matching, rest = intact([PolicyFile("a.yaml", f"{exception}---\n{exception}")], tree)
    assert (len(matching), rest.exceptions) == (1, ())
