"""docs/python-api.md: its code blocks run, and print the output shown below them."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import ratectl
from ratectl.stores import open_store

PAGE = (Path(__file__).parents[2] / "docs" / "python-api.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n((?:(?!```).)*)```\n\n```text\n(.*?)```", PAGE, re.DOTALL)


def policy(folder: Path, scope: str) -> None:
    folder.mkdir(exist_ok=True)
    name = scope.strip("/") or "global"
    text = f"apiVersion: ratectl/v1\nscope: {scope}\nlimits: {{spike: {{rate: 5/s}}}}\n"
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


def test_code_blocks_of_the_page_print_the_output_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    policy(Path("policies"), "/checkout")
    policy(Path("fewer"), "/other")
    assert len(BLOCKS) == 2
    with open_store("memory://example"):  # keeps the contents between the blocks
        for code, printed in BLOCKS:
            exec(compile(code, "docs/python-api.md", "exec"), {})
            assert capsys.readouterr().out == printed


def test_guards_hold_in_python_too(tmp_path: Path) -> None:
    policy(tmp_path / "policies", "/checkout")
    policy(tmp_path / "fewer", "/other")
    with ratectl.open_store(f"sqlite:///{tmp_path}/rates.db") as store:
        assert ratectl.propose(store, tmp_path / "policies").apply() is not None
        proposal = ratectl.propose(store, tmp_path / "fewer")
        with pytest.raises(ratectl.GuardRefused, match="removes 1 of 1 scopes"):
            proposal.apply()
        with pytest.raises(ratectl.GuardRefused):
            proposal.apply({"removals": "  "})
        with pytest.raises(ratectl.UsageError, match="there is no guard 'removal'"):
            proposal.apply({"removal": "CHG-1"})
        entry = proposal.apply({"removals": "CHG-1"})
        assert entry is not None
        assert entry.passed == {"removals": "CHG-1"}
        assert ratectl.propose(store, tmp_path / "fewer").apply() is None, (
            "that tree is live already"
        )


def test_proposal_is_stale_after_another_publication(tmp_path: Path) -> None:
    policy(tmp_path / "policies", "/checkout")
    with ratectl.open_store(f"sqlite:///{tmp_path}/rates.db") as store:
        late = ratectl.propose(store, tmp_path / "policies")
        assert ratectl.propose(store, tmp_path / "policies").apply() is not None
        with pytest.raises(ratectl.Conflict):
            late.apply()


def test_every_module_and_function_named_by_the_page_exists() -> None:
    for dotted in set(re.findall(r"`(ratectl(?:\.\w+)+)", PAGE)):
        module, name = ratectl, ""
        path = dotted.split(".")
        for depth in range(len(path), 0, -1):
            try:
                module = importlib.import_module(".".join(path[:depth]))
            except ModuleNotFoundError:
                continue
            for name in path[depth:]:
                module = getattr(module, name)
            break
        assert module is not None, dotted
