"""docs/validation.md: its files, commands and output."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from cli_support import Cli

PAGE = (Path(__file__).parents[2] / "docs" / "validation.md").read_text()
FILES = re.findall(r"```yaml\n(# (policies/\S+)\n.*?)```", PAGE, re.DOTALL)
RUNS = re.findall(r"```console\n\$ ratectl (.*?)\n(.*?)```", PAGE, re.DOTALL)
SNIPPETS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def test_the_page_shows_the_real_output(cli: Cli, clean_place: Path) -> None:
    assert len(RUNS) >= 9
    texts: dict[str, list[str]] = {}
    for text, name in FILES:
        texts.setdefault(name, []).append(text)
    for name, (text, *_) in texts.items():
        path = clean_place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for command, output in RUNS:
        assert cli(*command.split()).out == output, command
    for name, versions in texts.items():
        assert (clean_place / name).read_text() == versions[-1], name


@pytest.mark.parametrize("text", SNIPPETS, ids=lambda text: text.split("\n")[0][:40])
def test_every_snippet_is_yaml(text: str) -> None:
    yaml.safe_load(text)
