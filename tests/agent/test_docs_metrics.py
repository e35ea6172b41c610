"""docs/metrics.md: its table is the catalogue, and its code prints the documented output."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

import ratectl
from ratectl.agent.metrics.catalogue import CATALOGUE
from ratectl.contrib import prometheus
from ratectl.engine import engine_type

if TYPE_CHECKING:
    import pytest

    from ratectl.agent.metrics.catalogue import Metric

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", PAGE, re.DOTALL)


def row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |"


def test_table_is_the_catalogue() -> None:
    rows = re.findall(r"^\| `ratectl_\w+` \|.*\|$", PAGE, re.MULTILINE)
    assert rows == [row(metric) for metric in CATALOGUE]


def test_code_prints_the_documented_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (limit,) = re.findall(r"# (spike: \{.*?\})$", PAGE, re.MULTILINE)
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "mail.yaml").write_text(
        f"apiVersion: ratectl/v1\nscope: /mail\nlimits:\n  {limit}\n", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "ratectl.agent.agent.open_engine", lambda *_, **__: engine_type()(lambda: 10**15)
    )
    monkeypatch.setattr(prometheus.export, "__defaults__", (CollectorRegistry(),))
    names: dict[str, object] = {}
    for code, printed in BLOCKS:
        exec(compile(code, "docs/metrics.md", "exec"), names)
        assert capsys.readouterr().out == printed
    agent = names["agent"]
    assert isinstance(agent, ratectl.Agent)
    agent.close()
