"""Loading only the documents that matter for one scope gives the same explanation."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from ratectl.policy.language.scopes import ancestry
from ratectl.policy.loading.on_path import load_on_path
from ratectl.policy.read import load_checked, load_for
from ratectl.policy.resolution.resolver import resolve

SCOPES = ("/", "/a", "/a/b", "/a/scope", "/ab", "/d")
ASKED = (*SCOPES, "/a/b/c", "/x")

USUAL = ("scope: {s}", 'scope: "{s}"', "scope:  '{s}'", "scope: {s}  # scope of all", "scope: {s} ")
UNUSUAL = (
    '"scope": {s}', "'scope' : {s}", '"sc\\u006fpe": {s}', 'scope: "\\u002f{rest}"',
    "? scope\n: {s}", "scope:\n  {s}", "scope: >-\n  {s}", "scope: &here {s}", "scope:\t{s}",
)  # fmt: skip
TRAPS = (
    "# scope: /a", "description: |\n  scope: /a", 'description: "one\n  scope: /a\n  "',
    "description: 'one\nscope: /d\n'", "description: the scope of it", "owner: telescope",
    'description: "\\""', "# ---", "description: >\n  ---\n  scope: /",
    "description: a\u2028b", "# a\x85scope: /d", "# a\rowner: me",
)  # fmt: skip
BETWEEN = ("---\n", "--- # next\n", "---  \n", "...\n---\n", "# end\n---\n# begin\n")

rates = st.sampled_from(("1/s", "5/s", "90/min"))
bodies = st.fixed_dictionaries(
    {},
    optional={
        "limits": st.dictionaries(
            st.sampled_from(("x", "y")), st.fixed_dictionaries({"rate": rates}), min_size=1
        ),
        "budgets": st.just({"all": {"rate": "9/s"}}),
        "caps": st.just({"x": {"rate": "4/s"}}),
        "on_error": st.sampled_from(("allow", "deny")),
    },
)


@st.composite
def documents(draw: st.DrawFn, scope: str) -> str:
    body: dict[str, Any] = draw(bodies)
    if draw(st.integers(0, 9)) == 0:
        return json.dumps({"apiVersion": "ratectl/v1", "scope": scope, **body}) + "\n"
    style = draw(st.sampled_from(USUAL * 2 + UNUSUAL))
    lines = ["apiVersion: ratectl/v1", style.format(s=scope, rest=scope[1:])]
    lines += [f"{field}: {json.dumps(value)}" for field, value in body.items()]
    trap = draw(st.one_of(st.none(), st.sampled_from(TRAPS)))
    if trap is not None:
        lines.append(trap)
    if draw(st.booleans()):
        lines = draw(st.permutations(lines))
    return "\n".join(lines) + "\n"


@st.composite
def files(draw: st.DrawFn) -> list[bytes]:
    """A few files that declare some scopes in different forms; most are valid."""
    scopes = draw(st.lists(st.sampled_from(SCOPES), min_size=1, max_size=6, unique=True))
    written = [draw(documents(scope)) for scope in scopes]
    found: list[bytes] = []
    while written:
        count = draw(st.integers(1, len(written)))
        some, written = written[:count], written[count:]
        text = draw(st.sampled_from(("", "---\n", "# head\n", "# scopes\n---\n")))
        text += draw(st.sampled_from(BETWEEN)).join(some)
        ends = draw(st.sampled_from(("\n", "\n", "\n", "\r\n", "\r")))
        found.append(text.replace("\n", ends).encode())
    return found


@given(files(), st.sampled_from(ASKED))
def test_a_valid_tree_is_explained_the_same(texts: list[bytes], scope: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for number, text in enumerate(texts):
            (Path(folder) / f"{number}.yaml").write_bytes(text)
        whole = load_checked([folder])
        some = load_for([folder], scope)
    event(f"{whole.usable=}")
    if not whole.usable:
        return
    assert resolve(some.tree, scope) == resolve(whole.tree, scope)
    for up in ancestry(scope):
        assert some.tree.policies.get(up) == whole.tree.policies.get(up)
        assert some.tree.sources.get(up) == whole.tree.sources.get(up), "places"


def test_usual_documents_of_other_scopes_are_left_out(tmp_path: Path) -> None:
    head = "apiVersion: ratectl/v1\n"
    (tmp_path / "a.yaml").write_text(
        "---\n".join(f"{head}{style.format(s=f'/x{n}')}\n" for n, style in enumerate(USUAL[:3]))
        + f"---\n{head}scope: /a/b\nowner: me\n"
    )
    (tmp_path / "b.yaml").write_text(f"{head}scope: /a\n---\n{head}scope: /ab\n")
    (tmp_path / "c.yaml").write_text("# nothing\n")
    loaded = load_on_path([tmp_path], "/a/b/c")
    assert loaded is not None
    assert set(loaded.tree.policies) == {"/a", "/a/b"}
    assert set(loaded.files) == {str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")}
    assert loaded.tree.span("/a/b", "owner").line == 12


@pytest.mark.parametrize("style", UNUSUAL)
def test_unusual_documents_are_always_parsed(style: str, tmp_path: Path) -> None:
    text = f"apiVersion: ratectl/v1\n{style.format(s='/d', rest='d')}\n"
    (tmp_path / "a.yaml").write_text(text)
    loaded = load_on_path([tmp_path], "/a")
    assert loaded is not None, "though it says /d"


def test_all_errors_on_the_path_are_reported(tmp_path: Path) -> None:
    """Errors elsewhere do not prevent an explanation."""
    (tmp_path / "a.yaml").write_text("apiVersion: ratectl/v1\nscope: /a\nowner: me\n")
    (tmp_path / "d.yaml").write_text("apiVersion: ratectl/v1\nscope: /d\nlimit: {}\n")
    assert load_for([tmp_path], "/a").diagnostics == ()
    assert [found.code for found in load_for([tmp_path], "/d/e").diagnostics] == ["RC134"]
    again = tmp_path / "e.yaml"
    again.write_text("apiVersion: ratectl/v1\nscope: /a\n")
    assert {found.code for found in load_for([tmp_path], "/a").diagnostics} == {"RC134", "RC205"}
    again.unlink()
    (tmp_path / "gone.yaml").symlink_to(tmp_path / "nowhere")
    assert "RC121" in {found.code for found in load_for([tmp_path], "/a").diagnostics}
    assert not load_for([tmp_path], "/x").usable, "nothing covers it, so everything is read"
