"""``--set``: several repositories own parts of one tree."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli_support import ratectl
from drawn_policies import trees
from hypothesis import given
from hypothesis import strategies as st

from ratectl.policy.bundle import digest, encode_document, encode_policies
from ratectl.policy.loading.files import Sources
from ratectl.policy.loading.loader import load, load_sources
from ratectl.publishing._publish import publish
from ratectl.publishing.export import parts_of, pulled_files
from ratectl.publishing.ownership import Owners
from ratectl.publishing.provenance import Provenance
from ratectl.publishing.source_files import Beside, PolicyFile
from ratectl.stores import open_store
from ratectl_cli.framework.session import Session

if TYPE_CHECKING:
    from cli_support import Cli, Result

    from conftest import Golden
    from ratectl.policy.language.model import PolicyTree

EDGE = """\
# What everybody gets
apiVersion: ratectl/v1
scope: /
limits:
  spike: {rate: 50/s, burst: 100, per: client}
caps:
  spike: {rate: 400/s, burst: 1000}
---
apiVersion: ratectl/v1
scope: /web
limits: {spike: {rate: 60/s}}
"""
PAYMENTS = """\
# Card and wallet payments
apiVersion: ratectl/v1
scope: /payments
limits: {spike: {burst: 300}}
---
apiVersion: ratectl/v1
scope: /payments/old
limits: {spike: {burst: 20}}
"""
SALE = """\
apiVersion: ratectl/v1
kind: Exception
scope: /payments
reason: sale
until: 2040-01-01T00:00Z
limits: {spike: {burst: 500}}
"""
ONLY_A_TEST = """\
apiVersion: ratectl/v1
kind: PolicyTest
name: one passes
steps: [{scope: /, expect: {allowed: 1}}]
"""
LEAVES = PAYMENTS.partition("---\n")[0]
REMOVALS = ("--allow-removals", "moved")


def write(name: str, text: str) -> str:
    folder = Path(name)
    folder.mkdir(exist_ok=True)
    (folder / "all.yaml").write_text(text)
    return name


def apply_set(cli: Cli, name: str, *words: str) -> Result:
    """Publish the folder with the set's name as that set."""
    return cli("apply", name, "--set", name, "--yes", *words)


def live(cli: Cli) -> int:
    found: int = cli("history", "-o", "json").document["live"]
    return found


def owners(cli: Cli) -> dict[str, str]:
    found: dict[str, str] = cli("show", "-o", "json").document["owners"]["scopes"]
    return found


@pytest.fixture
def sets(cli: Cli, store_url: str, still: None) -> str:
    """``edge`` and then ``payments`` are live, each from a folder with its name."""
    write("edge", EDGE)
    write("payments", PAYMENTS)
    for name in ("edge", "payments"):
        assert apply_set(cli, name).code == 0
    return store_url


# -- one tree of several


def test_each_set_publishes_its_part_of_one_tree(cli: Cli, sets: str) -> None:
    document = cli("show", "-o", "json").document
    assert [each["scope"] for each in document["policies"]] == [
        "/", "/payments", "/payments/old", "/web",
    ]  # fmt: skip
    assert document["owners"]["scopes"] == {
        "/": "edge", "/web": "edge", "/payments": "payments", "/payments/old": "payments",
    }  # fmt: skip
    assert apply_set(cli, "edge").out.startswith("nothing to do")
    newest, oldest = cli("history", "-o", "json").document["generations"]
    assert (newest["set"], oldest["set"]) == ("payments", "edge")
    assert "apply of payments" in cli("history").out


def test_what_is_printed(cli: Cli, golden: Golden, sets: str) -> None:
    write("payments", LEAVES)
    runs = [
        cli("plan", "payments", "--set", "payments"),
        cli("plan", "payments", "--set", "payments", "--prune"),
        apply_set(cli, "payments"),
        apply_set(cli, "payments", "--prune", *REMOVALS),
        cli("show"),
    ]
    write("edge", f"{EDGE}---\n{LEAVES}")
    runs += [
        apply_set(cli, "edge"),
        apply_set(cli, "edge", "--take-ownership", "/payments"),
        cli("plan", "edge"),
    ]
    golden("sets", "".join(f"{run.out}{run.err}\n" for run in runs))


@pytest.mark.parametrize("prune", [(), ("--prune",)])
def test_markdown_names_policies_that_are_left_or_pruned(
    cli: Cli, sets: str, prune: tuple[str, ...]
) -> None:
    write("payments", LEAVES)
    words = ("plan", "payments", "--set", "payments", *prune, "--format", "markdown")
    said = "Pruned" if prune else "Left"
    assert f"**{said}**: set payments no longer holds /payments/old" in cli(*words).out


def test_caps_and_limits_of_other_sets_apply(cli: Cli, sets: str) -> None:
    write("payments", PAYMENTS.replace("burst: 300", "rate: 500/s"))
    run = apply_set(cli, "payments")
    assert run.code == 65
    assert "payments/all.yaml:4:24" in run.err
    assert "cap set at edge:edge/all.yaml:7:17" in run.err
    assert live(cli) == 2
    run = cli("explain", "/payments", "--live")
    assert "edge:edge/all.yaml:5:17" in run.out, "where others said it"
    assert "payments:payments/all.yaml:4:25" in run.out


def test_guards_check_the_whole_tree(cli: Cli, sets: str) -> None:
    write("payments", LEAVES)
    run = apply_set(cli, "payments", "--prune")
    assert run.code == 77
    assert "it removes 1 of 4 scopes" in run.err


# -- what others do wrong


def test_existing_errors_of_other_sets_prevent_no_publication(
    cli: Cli, store_url: str, still: None
) -> None:
    """For example if a rule is newer than the live policies."""
    wrong = EDGE.replace("limits: {spike: {rate: 60/s}}", "limits: {half: {per: client}}")
    tree = load(["-"], stdin=wrong.encode()).tree
    with open_store(store_url) as store:
        mine = Beside(owners=Owners({"/": "edge", "/web": "edge"}, {}))
        assert publish(store, tree, Provenance("Eve"), beside=mine)
    write("payments", PAYMENTS)
    run = apply_set(cli, "payments")
    assert (run.code, run.err) == (0, "")
    write("edge", wrong)
    assert apply_set(cli, "edge").code == 65


def test_errors_that_a_set_causes_in_others_are_refused(cli: Cli, sets: str) -> None:
    write("ops", SALE)
    assert apply_set(cli, "ops").code == 0
    write("payments", PAYMENTS.partition("---\n")[2])
    run = apply_set(cli, "payments", "--prune", *REMOVALS)
    assert run.code == 65
    assert "ops:ops/all.yaml:3:8" in run.err
    assert "error[RC207]" in run.err
    assert live(cli) == 3


def test_only_new_warnings_about_others_are_shown(cli: Cli, store_url: str, still: None) -> None:
    write("edge", EDGE.replace("scope: /web\n", "scope: /web\nunset: [nightly]\n"))
    write("payments", PAYMENTS)
    assert "warning[RC301]" in apply_set(cli, "edge").err
    assert apply_set(cli, "payments").err == ""
    write("edge", EDGE.replace("400/s, burst: 1000", "400/s, burst: 200"))
    run = apply_set(cli, "edge")
    assert run.code == 0
    assert "--> payments:payments/all.yaml:4:25" in run.err
    assert apply_set(cli, "payments").err.count("warning[RC201]") == 1, "its own"


def test_findings_of_an_unowned_file_with_the_same_name_are_not_shown_as_ours(
    cli: Cli, store_url: str, still: None
) -> None:
    """Its findings are not ours, and its lines are not shown."""
    write("same", EDGE.replace("scope: /web\n", "scope: /web\nunset: [nightly]\n"))
    assert cli("apply", "same", "--yes").code == 0
    write("same", PAYMENTS)
    run = cli("apply", "same", "--set", "payments", "--yes")
    assert (run.code, run.err) == (0, "")


# -- conflicts


def test_every_conflict_is_named_with_its_remedies(cli: Cli, sets: str) -> None:
    write("payments", f"{PAYMENTS}---\n{EDGE}")
    for words in (("apply", "--yes"), ("apply", "--dry-run"), ("plan",), ("diff",)):
        run = cli(words[0], "payments", "--set", "payments", *words[1:])
        assert run.code == 77
        assert run.err.count("error[RC501]") == 2
        assert "payments/all.yaml:12:8" in run.err
        assert "scope: /web" in run.err
        assert "apply set edge with --prune, or take it over with --take-ownership /web" in run.err
        assert run.err.endswith(
            "error: 2 documents in PATH do not belong to this set in generation 2\n"
        )
    assert live(cli) == 2
    document = cli("plan", "payments", "--set", "payments", "-o", "json").document
    assert [each["code"] for each in document["diagnostics"]] == ["RC501", "RC501"]


def test_each_remedy_works(cli: Cli, sets: str) -> None:
    web = EDGE.partition("---\n")[2]
    write("payments", f"{PAYMENTS}---\n{web}")
    assert apply_set(cli, "payments").code == 77
    assert apply_set(cli, "payments", "--take-ownership", "/web").code == 0
    assert owners(cli)["/web"] == "payments"
    assert apply_set(cli, "edge").code == 77, "it still says so"
    write("edge", EDGE.partition("---\n")[0])
    assert apply_set(cli, "edge").code == 0
    write("payments", PAYMENTS)
    assert apply_set(cli, "payments", "--prune", *REMOVALS).code == 0
    write("edge", EDGE)
    assert apply_set(cli, "edge").code == 0
    assert owners(cli)["/web"] == "edge"


def test_the_same_exception_in_two_sets_is_a_conflict(cli: Cli, sets: str) -> None:
    write("ops", SALE)
    assert apply_set(cli, "ops").code == 0
    write("payments", f"{PAYMENTS}---\n{SALE}")
    run = apply_set(cli, "payments")
    assert run.code == 77
    assert "this exception at /payments belongs to set ops" in run.err
    assert apply_set(cli, "payments", "--take-ownership", "/payments").code == 0
    assert "set payments owns /payments, /payments/old, 1 exception" in cli("show").out


def test_an_exception_can_be_changed_without_prune(cli: Cli, sets: str) -> None:
    write("payments", f"{PAYMENTS}---\n{SALE}")
    assert apply_set(cli, "payments").code == 0
    write("payments", f"{PAYMENTS}---\n{SALE.replace('500', '600')}")
    assert apply_set(cli, "payments").code == 0
    assert len(cli("show", "-o", "json").document["exceptions"]) == 1
    write("payments", PAYMENTS)
    run = apply_set(cli, "payments")
    assert "no longer holds an exception at /payments, which stays" in run.out
    assert apply_set(cli, "payments", "--prune").code == 0
    assert cli("show", "-o", "json").document["exceptions"] == []


# -- with and without sets


def test_a_whole_tree_cannot_replace_sets(cli: Cli, sets: str) -> None:
    write("whole", f"{EDGE}---\n{PAYMENTS}")
    for words in (("apply", "whole", "--yes"), ("plan", "whole")):
        run = cli(*words)
        assert run.code == 77
        assert "generation 2 belongs to sets edge, payments" in run.err
        assert "Add --set NAME" in run.err
    assert cli("diff", "whole").code == 0, "which only reads"
    assert cli("apply", "whole", "--set", "all", "--take-ownership", "/", "--yes").code == 0
    assert set(owners(cli).values()) == {"all"}


def test_a_tree_without_owners_is_divided_into_sets(cli: Cli, store_url: str, still: None) -> None:
    write("whole", f"{EDGE}---\n{PAYMENTS}")
    assert cli("apply", "whole", "--yes").code == 0
    write("payments", PAYMENTS)
    run = apply_set(cli, "payments")
    assert run.code == 77
    assert "belongs to no set in generation 1" in run.err
    run = apply_set(cli, "payments", "--take-ownership", "/payments")
    assert run.code == 0
    assert "taken: set payments takes over, from nobody: /payments, /payments/old\n" in run.out
    assert owners(cli) == {"/payments": "payments", "/payments/old": "payments"}
    document = cli("history", "-o", "json").document["generations"]
    assert document[0]["bundle"] == document[1]["bundle"]
    assert cli("apply", "whole", "--yes").code == 77
    assert cli("rollback", "--yes").code == 0
    assert cli("show", "-o", "json").document["owners"] is None
    assert cli("apply", "whole", "--yes").out.startswith("nothing to do")


@pytest.mark.parametrize(
    "words",
    [
        ("apply", "payments", "--prune"),
        ("plan", "payments", "--take-ownership", "/"),
        ("apply", "payments", "--set", "a/b"),
        ("apply", "payments", "--set", ""),
        ("apply", "payments", "--set", "payments", "--take-ownership", "payments"),
        ("diff", "payments", "--set", "payments", "--from", "1"),
        ("diff", "--set", "payments", "--to", "1"),
        ("pull", "--set", "nobody"),
    ],
    ids=" ".join,
)
def test_invalid_options_are_refused(cli: Cli, sets: str, words: tuple[str, ...]) -> None:
    run = cli(*words)
    assert (run.code, run.out) == (64, "")


@pytest.mark.parametrize("text", ["# nothing\n", ONLY_A_TEST])
def test_an_empty_set_is_refused_without_a_reason(cli: Cli, sets: str, text: str) -> None:
    write("payments", text)
    assert apply_set(cli, "payments", "--prune", *REMOVALS).code == 77
    empty = ("--allow-empty", "closing down")
    assert apply_set(cli, "payments", "--prune", *REMOVALS, *empty).code == 0
    assert set(owners(cli).values()) == {"edge"}


def test_a_set_can_be_the_first_publication(cli: Cli, store_url: str) -> None:
    write("edge", EDGE)
    assert cli("diff", "edge", "--set", "edge").code == 65
    assert apply_set(cli, "edge").code == 0
    write("payments", PAYMENTS)
    assert cli("diff", "payments", "--set", "payments").code == 1


# -- plans


def test_a_plan_of_a_set_contains_its_sources(cli: Cli, sets: str) -> None:
    write("payments", LEAVES)
    words = ("payments", "--set", "payments", "--prune", "--out", "plan.json")
    assert cli("plan", *words).code == 0
    shutil.rmtree("payments")
    assert cli("apply", "plan.json", "--set", "payments").code == 64
    run = cli("apply", "plan.json", "--yes", *REMOVALS)
    assert run.code == 0
    assert run.out.startswith("set payments of plan.json, planned ")
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
