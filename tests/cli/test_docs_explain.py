"""docs/explain.md: its policies, and what is printed of them.

RATECTL_UPDATE_GOLDEN=1 writes the page anew.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cli_support import Cli

PAGE = Path(__file__).parents[2] / "docs" / "explain.md"
UPDATE = os.environ.get("RATECTL_UPDATE_GOLDEN") == "1"


def test_the_page_shows_what_is_printed(cli: Cli, clean_place: Path) -> None:
    shown = PAGE.read_text(encoding="utf-8")
    for text, name in re.findall(r"```yaml\n(# (policies/\S+)\n.*?)```", shown, re.DOTALL):
        (clean_place / name).parent.mkdir(exist_ok=True)
        (clean_place / name).write_text(text)

    def printed(match: re.Match[str]) -> str:
        run = cli(*match[1].split())
        assert run.code == 0, run.err
        return f"```console\n$ ratectl {match[1]}\n{run.out}```\n"

    real, runs = re.subn(r"```console\n\$ ratectl (.*)\n[^`]*```\n", printed, shown)
    assert runs == 2
    if UPDATE:
        PAGE.write_text(real, encoding="utf-8")
        shown = real
    assert shown == real
