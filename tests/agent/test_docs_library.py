"""docs/library.md: its code blocks print the documented output, with the policy in a comment."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import ratectl
from ratectl.engine import engine_type

PAGE = (Path(__file__).parents[2] / "docs" / "library.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n((?:(?!```).)*)```\n\n```text\n(.*?)```", PAGE, re.DOTALL)


def test_the_page_has_blocks_that_print() -> None:
    assert len(BLOCKS) == 9


@pytest.mark.parametrize("number", range(6))
def test_blocks_print_the_documented_output(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, printed = BLOCKS[number]
    (limit,) = re.findall(r"# +(\w+: \{.*?\})$", code, re.MULTILINE)
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "llm.yaml").write_text(
        f"apiVersion: ratectl/v1\nscope: /llm\nlimits:\n  {limit}\n", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    # The clock stands still, so that no bucket refills between two lines of a block.
    monkeypatch.setattr(
        "ratectl.agent.agent.open_engine", lambda *_, **__: engine_type()(lambda: 10**15)
    )
    names: dict[str, object] = {}
    exec(compile(code, "docs/library.md", "exec"), names)
    agent = names["agent"]
    assert isinstance(agent, ratectl.Agent)
    agent.close()
    assert capsys.readouterr().out == printed


def test_blocks_about_tests_print_the_documented_output(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for code, printed in BLOCKS[6:]:
        exec(compile(code, "docs/library.md", "exec"), names)
        assert capsys.readouterr().out == printed
