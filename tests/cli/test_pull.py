"""``pull``: live policies as files, without loss, conflict or change."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli_support import EXAMPLES, TREE
from drawn_policies import trees
from hypothesis import given
from hypothesis import strategies as st

from ratectl.policy.bundle import encode_policies
from ratectl.policy.format.tree_text import policy_lines
from ratectl.policy.language.model import PolicyTree
from ratectl.policy.loading.files import Sources
from ratectl.policy.loading.loader import load_sources
from ratectl.policy.read import load_valid
from ratectl.publishing._publish import publish
from ratectl.publishing.export import Part, pulled_files, stream
from ratectl.publishing.provenance import Provenance
from ratectl.publishing.source_files import Beside, Documents, PolicyFile, is_safe
from ratectl.stores import open_store

if TYPE_CHECKING:
    from cli_support import Cli

    from conftest import Golden

COMMENTED = f"# Purpose and customers\n{TREE}"
FITTING = """\
apiVersion: ratectl/v1
kind: PolicyTest
name: one passes
steps: [{scope: /, expect: {allowed: 1}}]
"""


def tree_of(texts: dict[str, str]) -> PolicyTree:
    return load_sources(Sources.of({name: text.encode() for name, text in texts.items()})).tree


def contents(folder: str | Path) -> dict[str, bytes]:
    """Return every file below a folder, also hidden ones."""
    root = Path(folder)
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() or path.is_symlink()
    }


def publish_as(url: str, text: str, *files: tuple[str, str], beside: bool = True) -> None:
    """Publish a text as if it came from these files."""
    documents = Documents(tuple(PolicyFile(*file) for file in files))
    tree = load_valid(["-"], stdin=text.encode()).tree
    with open_store(url) as store:
        assert publish(store, tree, Provenance("Eve"), beside=Beside(documents) if beside else None)


@pytest.fixture
def example(cli: Cli, store_url: str, clean_place: Path) -> Path:
    """The example tree, live and in ``policies``."""
    shutil.copytree(EXAMPLES, clean_place / "policies")
    assert cli("apply", "policies", "--yes").code == 0
    return clean_place / "policies"


# -- what is written


def test_the_files_come_back_as_they_were_applied(cli: Cli, example: Path) -> None:
    before = contents(example)
    shutil.rmtree(example)
    run = cli("pull")
    assert (run.code, run.err) == (0, "")
    assert contents(example) == before
    assert cli("diff", "policies").code == 0
    assert cli("test", "policies").code == 0
    assert cli("apply", "policies", "--yes", "-o", "json").document["published"] is False
    again = cli("pull", "policies")
    assert again.out == "generation 1, which is live, is in policies: 13 files, none written\n"


def test_what_is_printed(cli: Cli, golden: Golden, published: str) -> None:
    golden("pull", cli("pull", "there").out + cli("pull", "-").out)
    golden("pull-help", cli("pull", "--help").out)


@pytest.mark.parametrize("how", ["stdin", "file", "plan"])
def test_comments_are_kept_for_every_way_to_apply(cli: Cli, store_url: str, how: str) -> None:
    Path("one.yaml").write_text(COMMENTED)
    if how == "plan":
        assert cli("plan", "one.yaml", "--out", "plan.json").code == 0
        Path("one.yaml").write_text("changed since\n")
        assert cli("apply", "plan.json", "--yes").code == 0
    else:
        path = {"stdin": "-", "file": "one.yaml"}[how]
        assert cli("apply", path, "--yes", stdin=COMMENTED).code == 0
    assert cli("pull", "out").code == 0
    name = "policies.yaml" if how == "stdin" else "one.yaml"
    assert contents("out") == {name: COMMENTED.encode()}
    assert cli("diff", "out").code == 0


def test_another_generation(cli: Cli, tree: Path, published: str) -> None:
    (tree / "all.yaml").write_text(TREE.replace("50/s", "40/s"))
    assert cli("apply", "policies", "--yes").code == 0
    assert cli("pull", "before", "--generation", "1").code == 0
    assert contents("before") == {"all.yaml": TREE.encode()}
    assert cli("diff", "before").code == 1
    assert cli("rollback", "--yes").code == 0
    assert cli("diff", "before").code == 0
    assert cli("pull", "before").code == 0
    run = cli("pull", "--generation", "9")
    assert (run.code, "there is no generation 9" in run.err) == (64, True)


def test_files_are_generated_if_they_are_not_kept(cli: Cli, store_url: str) -> None:
    publish_as(store_url, COMMENTED, beside=False)
    run = cli("pull", "out")
    assert run.code == 0
    assert "generated, without comments: global.yaml, shop/cart.yaml, shop.yaml" in run.err
    assert sorted(contents("out")) == [
        "global.yaml", "shop.yaml", "shop/cart.yaml", "small.yaml", "small/tiny.yaml",
    ]  # fmt: skip
    assert cli("diff", "out").out.endswith("no differences\n")


def test_files_that_differ_from_the_bundle_are_generated(cli: Cli, store_url: str) -> None:
    head, tail = COMMENTED.split("---\n", 1)
    files = (("a.yaml", head), ("b.yaml", tail.replace("1/s", "2/s")))
    publish_as(store_url, COMMENTED, *files)
    assert cli("pull", "out").code == 0
    written = contents("out")
    assert written["a.yaml"] == head.encode()
    assert "b.yaml" not in written
    assert cli("diff", "out").out.endswith("no differences\n")


def test_outdated_tests_are_left_out(cli: Cli, store_url: str) -> None:
    misfit = FITTING.replace("allowed: 1", "allowed: 0, limit: nonesuch")
    files = (("all.yaml", COMMENTED), ("a_test.yaml", FITTING), ("b_test.yaml", misfit))
    publish_as(store_url, COMMENTED, *files)
    assert cli("pull", "out").code == 0
    assert sorted(contents("out")) == ["a_test.yaml", "all.yaml"]
    assert cli("diff", "out").code == 0


def test_a_generation_without_policies(cli: Cli, tree: Path, published: str) -> None:
    (tree / "all.yaml").write_text("# closed\n")
    assert cli("apply", "policies", "--yes", "--allow-empty", "closing down").code == 0
    assert cli("pull", "out").code == 0
    assert contents("out") == {"all.yaml": b"# closed\n"}
    publish_as(published, COMMENTED, beside=False)
    with open_store(published) as store:
        assert publish(store, PolicyTree({}), Provenance("Eve"))
    run = cli("pull", "other")
    assert (run.code, "holds no policy" in run.err) == (0, True)
    assert cli("pull", "-").out == ""


def test_one_text_on_standard_output(cli: Cli, example: Path) -> None:
    run = cli("pull", "-")
    assert run.code == 0
    assert "# payments/checkout.yaml\n" in run.out
    assert "# Token bucket: bursts" in run.out
    assert cli("diff", "-", stdin=run.out).out.endswith("no differences\n")
    document = cli("pull", "-", "-o", "json").document
    assert document["directory"] is None
    texts = {file["path"]: file["text"] for file in document["files"]}
    assert texts["global.yaml"] == (example / "global.yaml").read_text()


@pytest.mark.parametrize(
    "second",
    ["---\n{}", "# note\n\n---\n{}", "\ufeff{}", "{}\n...\n", "{}---\n# end", "\n\n{}"],
)
def test_files_with_any_start_and_end_join_to_one_text(
    cli: Cli, store_url: str, second: str
) -> None:
    first = "apiVersion: ratectl/v1\nscope: /a\nlimits: {x: {rate: 1/s}}"
    second = second.format("apiVersion: ratectl/v1\nscope: /b\n# mine\n")
    Path("in").mkdir()
    for name in ("a", "c"):
        Path(f"in/{name}.yaml").write_text(first.replace("/a", f"/{name}"))
    Path("in/b.yaml").write_text(second)
    assert cli("apply", "in", "--yes").code == 0
    out = cli("pull", "-").out
    assert cli("diff", "-", stdin=out).out.endswith("no differences\n")
    assert "# mine" in out


# -- what is in the way


def test_files_with_other_content_are_not_replaced(cli: Cli, example: Path) -> None:
    (example / "global.yaml").write_text("# mine\n")
    (example / "internal.yaml").unlink()
    before = contents(example)
    run = cli("pull")
    assert run.code == 77
    assert "policies/global.yaml: other content than in generation 1" in run.err
    assert "--force" in run.err
    assert contents(example) == before, "nothing at all was written"
    run = cli("pull", "--force")
    assert run.code == 0
    assert "replaced policies/global.yaml\nwritten policies/internal.yaml\n" in run.out
    assert cli("diff", "policies").code == 0


@pytest.mark.parametrize(
    "text", [TREE.replace("scope: /", "scope: /more"), "kind: Deployment\n", "scope: [", TREE]
)
def test_other_policies_are_never_removed(cli: Cli, published: str, text: str) -> None:
    (Path("policies") / "more.yaml").write_text(text)
    for force in ((), ("--force",)):
        run = cli("pull", *force)
        assert run.code == 77
        assert "policies/more.yaml: not in generation 1" in run.err
    assert (Path("policies") / "more.yaml").read_text() == text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("more.txt", "scope: ["),
        (".hidden.yaml", TREE),
        ("blank.yaml", "# nothing\n"),
        (
            "more_test.yaml",
            FITTING,
        ),
    ],
)
def test_files_without_policies_are_ignored(cli: Cli, published: str, name: str, text: str) -> None:
    (Path("policies") / name).write_text(text)
    assert cli("pull").code == 0
    assert cli("diff", "policies").code == 0


def test_an_obstacle_in_place_of_the_folder_or_a_file(cli: Cli, published: str) -> None:
    Path("file").write_text("mine")
    run = cli("pull", "file", "--force")
    assert (run.code, "file is in the way" in run.err) == (77, True)
    Path("folder/all.yaml").mkdir(parents=True)
    run = cli("pull", "folder", "--force")
    assert (run.code, "folder/all.yaml is in the way: it is a folder" in run.err) == (77, True)
    os.mkfifo("policies/pipe.yaml")
    run = cli("pull")
    assert (run.code, "policies/pipe.yaml: not in generation 1" in run.err) == (77, True)
    assert Path("file").read_text() == "mine"


# -- what a store may hold


HOSTILE = ["../out.yaml", "/tmp/out.yaml", "a/../../out.yaml", "out.sh", ".out.yaml", "a\0.yaml"]


@pytest.mark.parametrize("path", HOSTILE)
def test_a_hostile_name_writes_nothing_elsewhere(
    cli: Cli, store_url: str, tmp_path: Path, path: str
) -> None:
    publish_as(store_url, COMMENTED, (path, COMMENTED))
    before = contents(tmp_path)
    assert cli("pull", "out").code == 0
    new = set(contents(tmp_path)) - set(before)
    assert new == {f"work/out/{name}" for name in contents("out")}
    assert "global.yaml" in contents("out")
    assert cli("diff", "out").code == 0


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_no_link_leads_out_of_the_folder(
    cli: Cli, store_url: str, tmp_path: Path, force: tuple[str, ...]
) -> None:
    publish_as(store_url, COMMENTED, ("a/b.yaml", COMMENTED))
    outside = tmp_path / "outside"
    outside.mkdir()
    Path("out").mkdir()
    Path("out/a").symlink_to(outside)
    run = cli("pull", "out", *force)
    assert (run.code, "out/a leads out of out" in run.err) == (77, True)
    assert contents(outside) == {}


def test_a_link_in_place_of_a_file_is_replaced(cli: Cli, published: str) -> None:
    Path("mine.yaml").write_text("# mine\n")
    Path("out").mkdir()
    Path("out/all.yaml").symlink_to("../mine.yaml")
    assert cli("pull", "out").code == 77
    assert cli("pull", "out", "--force").code == 0
    assert Path("mine.yaml").read_text() == "# mine\n"
    assert Path("out/all.yaml").read_text() == TREE
    Path("linked").symlink_to("out")
    assert cli("pull", "linked").code == 0, "a link to the folder itself was asked for"


# -- all or nothing


class Full(OSError):
    def __init__(self) -> None:
        super().__init__(28, "No space left on device")


@pytest.mark.parametrize("at", [1, 4, 13])
@pytest.mark.parametrize("call", ["fsync", "link"])
def test_a_full_disk_changes_nothing(
    cli: Cli, example: Path, monkeypatch: pytest.MonkeyPatch, call: str, at: int
) -> None:
    """While drafts are written, and while they are put in place."""
    for number, file in enumerate(sorted(example.rglob("*.yaml"))):
        if number % 2:
            file.write_text("# mine\n")
        elif number % 3:
            file.unlink()
    shutil.rmtree(example / "web")
    before, folders = contents(example), sorted(example.rglob("*"))
    calls = 0
    real = getattr(os, call)

    def fail(*words: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls == at:
            raise Full
        return real(*words, **options)

    with monkeypatch.context() as patch:
        patch.setattr(f"ratectl.runtime.whole_files.os.{call}", fail)
        run = cli("pull", "--force")
    if calls < at:
        assert run.code == 0
        return
    assert (run.code, "no space left" in run.err) == (77, True)
    assert contents(example) == before
    assert sorted(example.rglob("*")) == folders
    assert cli("pull", "--force").code == 0
    assert cli("diff", "policies").code == 0


def test_a_new_folder_is_removed_after_a_failure(
    cli: Cli, published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise Full

    with monkeypatch.context() as patch:
        patch.setattr("ratectl.runtime.whole_files.os.fsync", fail)
        assert cli("pull", "new/folder").code == 77
    assert not Path("new").exists()


# -- the law


@given(trees, st.data())
def test_written_files_agree_with_the_bundle(tree: PolicyTree, data: st.DataObject) -> None:
    """A kept file that agrees with the bundle is written unchanged."""
    true = [
        PolicyFile(f"{at}/all.yaml".lstrip("/"), f"# mine\n{text_of(PolicyTree({at: policy}))}")
        for at, policy in data.draw(st.permutations(sorted(tree.policies.items())))
    ]
    kept = [file for file in true if data.draw(st.booleans())]
    wrong = [
        PolicyFile(data.draw(st.sampled_from([*HOSTILE, "b.yaml", "all.yaml"])), text)
        for text in ("# nothing\n", "scope: [", text_of(tree) if tree.policies else "", TREE)
        if data.draw(st.booleans())
    ]
    files = pulled_files(tree, [Part("", tree, [*kept, *wrong])])
    texts = {file.path: file.text for file in files}
    assert len(texts) == len(files)
    assert all(map(is_safe, texts))
    if tree.policies or tree.exceptions:
        assert encode_policies(tree_of(texts)) == encode_policies(tree)
        assert encode_policies(tree_of({"-": stream(files)})) == encode_policies(tree)
    for file in kept:
        assert texts.get(file.path) == file.text


def text_of(tree: PolicyTree) -> str:
    return "".join(f"{line}\n" for line in policy_lines(tree))
