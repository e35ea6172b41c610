"""Sets in plans, in races, in ``pull``, and after damage to the store."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cli_support import ratectl
from drawn_policies import trees
from hypothesis import given
from hypothesis import strategies as st
from sets_support import EDGE, LEAVES, PAYMENTS, REMOVALS, apply_set, live, owners, write

from ratectl.policy.bundle import digest, encode_document, encode_policies
from ratectl.policy.loading.files import Sources
from ratectl.policy.loading.loader import load_sources
from ratectl.publishing.export import parts_of, pulled_files
from ratectl.publishing.ownership import Owners
from ratectl.publishing.source_files import PolicyFile
from ratectl.stores import open_store
from ratectl_cli.framework.session import Session

if TYPE_CHECKING:
    import pytest
    from cli_support import Cli

    from ratectl.policy.language.model import PolicyTree

# -- plans


def test_a_plan_of_a_set_contains_its_sources(cli: Cli, sets: str) -> None:
    write("payments", LEAVES)
    words = ("payments", "--set", "payments", "--prune", "--out", "plan.json")
    assert cli("plan", *words).code == 0
    shutil.rmtree("payments")
    assert cli("apply", "plan.json", "--set", "payments").code == 64
    run = cli("apply", "plan.json", "--yes", *REMOVALS)
    assert run.code == 0
    assert "\nset payments of plan.json, planned " in run.out
    assert "/payments/old" not in owners(cli)
    assert cli("history", "-o", "json").document["generations"][0]["set"] == "payments"
    assert cli("apply", "plan.json", "--yes").out.startswith("nothing to do")
    assert cli("pull", "--set", "payments").code == 0
    assert Path("policies/all.yaml").read_text() == LEAVES


def test_a_plan_is_stale_after_a_change_of_owners(cli: Cli, sets: str) -> None:
    web = EDGE.partition("---\n")[2]
    write("third", web)
    take = ("--set", "third", "--take-ownership", "/web")
    assert cli("plan", "third", *take, "--out", "plan.json").code == 0
    write("payments", f"{PAYMENTS}---\n{web}")
    assert apply_set(cli, "payments", "--take-ownership", "/web").code == 0
    run = cli("apply", "plan.json", "--yes")
    assert run.code == 75, "though the same policies are live"
    assert owners(cli)["/web"] == "payments"


# -- races


def test_a_lost_race_can_be_repeated(cli: Cli, sets: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write("edge", EDGE.replace("60/s", "61/s"))
    write("payments", PAYMENTS.replace("300", "301"))
    with monkeypatch.context() as patch:
        patch.setattr(Session, "confirm", _once(patch, lambda: apply_set(cli, "payments")))
        run = cli("apply", "edge", "--set", "edge")
    assert run.code == 75
    assert "generation 3 (apply by" in run.err
    assert apply_set(cli, "edge").code == 0
    assert cli("diff", "edge", "--set", "edge", "--prune").code == 0
    assert cli("diff", "payments", "--set", "payments", "--prune").code == 0


def _once(patch: pytest.MonkeyPatch, act: object) -> object:
    """Answer a question by acting once; answer later questions with yes."""

    def confirm(*_: object, **__: object) -> None:
        patch.setattr(Session, "confirm", lambda *_, **__: None)
        act()  # type: ignore[operator]

    return confirm


AGAIN = """\
import sys
from ratectl_cli.app import run
for n in range(1, 6):
    path = f"{sys.argv[1]}/all.yaml"
    text = open(path).read()
    open(path, "w").write(text.replace(f"burst: {n - 1}}}", f"burst: {n}}}"))
    while (code := run(["-q", "apply", sys.argv[1], "--set", sys.argv[1], "--yes"])) == 75:
        pass
    assert code == 0, code
"""


def test_two_racing_sets_are_both_published(cli: Cli, store_url: str) -> None:
    """As processes: each repeats after a lost race."""
    for name in ("a", "b"):
        write(
            name,
            f"apiVersion: ratectl/v1\nscope: /{name}\nlimits: {{x: {{rate: 1/s, burst: 0}}}}\n",
        )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", AGAIN, name],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("a", "b")
    ]
    for process in running:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    policies = cli("show", "-o", "json").document["policies"]
    assert [each["limits"]["x"]["burst"] for each in policies] == [5, 5]
    assert owners(cli) == {"/a": "a", "/b": "b"}
    assert live(cli) == 10, "each change once"


def test_a_whole_tree_beside_sets_exits_77_as_a_process(sets: str) -> None:
    done = ratectl("apply", "edge", "--yes", "--store", sets)
    assert done.returncode == 77


# -- pulling


def test_pull_writes_the_live_policies_as_a_whole_and_by_set(cli: Cli, sets: str) -> None:
    assert cli("pull", "all").code == 0
    for name, text in (("edge", EDGE), ("payments", PAYMENTS)):
        assert Path(f"all/{name}/all.yaml").read_text() == text
        assert cli("pull", f"only-{name}", "--set", name).code == 0
        assert [path.name for path in Path(f"only-{name}").iterdir()] == ["all.yaml"]
        run = cli("diff", f"only-{name}", "--set", name, "--prune")
        assert run.out.endswith("no differences\n")
    assert cli("diff", "all").out.endswith("no differences\n")
    assert cli("diff", "-", stdin=cli("pull", "-").out).code == 0


def test_pull_writes_left_policies_and_taken_policies_once(cli: Cli, sets: str) -> None:
    write("payments", LEAVES.replace("300", "301"))
    assert apply_set(cli, "payments").code == 0
    write("third", EDGE.partition("---\n")[2])
    assert apply_set(cli, "third", "--take-ownership", "/web").code == 0
    assert cli("pull", "all").code == 0
    assert cli("diff", "all").out.endswith("no differences\n")
    found = {str(path.relative_to("all")) for path in Path("all").rglob("*.yaml")}
    assert found == {
        "edge/global.yaml", "payments/all.yaml", "payments/payments/old.yaml", "third/all.yaml",
    }  # fmt: skip


@given(trees, st.data())
def test_pulled_files_contain_each_document_once(tree: PolicyTree, data: st.DataObject) -> None:
    names = st.sampled_from(["a", "b", None])
    documents = [*tree.policies.values(), *tree.exceptions]
    drawn = {digest(encode_document(each)): data.draw(names) for each in documents}
    scopes = {at: drawn[digest(encode_document(policy))] for at, policy in tree.policies.items()}
    ids = {digest(encode_document(each)) for each in tree.exceptions}
    whose = Owners(
        {at: name for at, name in scopes.items() if name},
        {at: name for at, name in drawn.items() if name and at in ids},
    )
    kept = [
        PolicyFile(path, "# nothing\n", data.draw(names))
        for path in ("a/global.yaml", "a.yaml", "global.yaml", "b/a/x.yaml", "a/b/a.yaml")
        if data.draw(st.booleans())
    ]
    files = pulled_files(tree, parts_of(tree, whose, kept))
    texts = {file.path: file.text.encode() for file in files}
    assert len(texts) == len(files)
    if documents:
        assert encode_policies(load_sources(Sources.of(texts)).tree) == encode_policies(tree)
    for name in whose.sets:
        alone = pulled_files(tree, parts_of(tree, whose, kept, name))
        read = load_sources(Sources.of({file.path: file.text.encode() for file in alone})).tree
        assert set(read.policies) == {at for at, owner in whose.scopes.items() if owner == name}


# -- damage


def test_unknown_owners_are_not_guessed(cli: Cli, sets: str) -> None:
    with open_store(sets) as store:
        blob = next(
            item.key for item in store.list("bundles/").items if item.value == _owners_bytes(cli)
        )
        store.put(blob, b"x")
    whole = cli("apply", "edge", "--yes")
    assert whole.code == 77, "guards hold for whoever forgets --set"
    assert "warning: the ownership of generation 2 cannot be read" in whole.err
    assert "it removes 2 of 4 scopes" in whole.err
    for words in (("apply", "edge", "--set", "edge"), ("pull",)):
        run = cli(*words, "--yes") if words[0] == "apply" else cli(*words)
        assert run.code == 65, run.err
    assert cli("rollback", "--yes").code == 0
    assert apply_set(cli, "payments").code == 0


def _owners_bytes(cli: Cli) -> bytes:
    found = cli("show", "-o", "json").document["owners"]
    return Owners.from_data(found).encode()


def test_no_set_is_merged_into_unreadable_policies(cli: Cli, sets: str) -> None:
    entry = cli("history", "-o", "json").document["generations"][0]
    with open_store(sets) as store:
        store.put(f"bundles/{entry['bundle']}/00000", b"x")
    run = apply_set(cli, "edge")
    assert run.code == 65
    assert "no set can be published beside the others" in run.err
    assert cli("rollback", "--yes").code == 0
    assert apply_set(cli, "payments").code == 0
