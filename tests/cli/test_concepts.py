"""docs/concepts.md and its drawing say what explain says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cli_support import Cli

DOCS = Path(__file__).parents[2] / "docs"


def block(kind: str) -> str:
    page = (DOCS / "concepts.md").read_text("utf-8")
    (found,) = re.findall(rf"```{kind} concepts\n(.*?)```", page, re.DOTALL)
    return str(found)


def test_explain_prints_what_the_page_and_the_drawing_show(clean_place: Path, cli: Cli) -> None:
    (clean_place / "policies").mkdir()
    (clean_place / "policies" / "all.yaml").write_text(block("yaml"))
    command, shown = block("console").split("\n", 1)
    ran = cli(*command.split()[2:])
    assert (ran.code, ran.out) == (0, shown)
    drawing = (DOCS / "img" / "resolution.svg").read_text("utf-8")
    for part in (
        "rate:   5/s ",
        "cap of free@/",
        "burst:  100",
        "bucket: spike [free@/] @ /search",
    ):
        assert part in drawing
    other = cli("explain", "/search", "--policies", "policies", "--attr", "tier=gold").out
    assert re.search(r"rate +60/s +/search", other)
    assert "spike @ /search" in other
    assert "bucket: spike @ /search" in drawing
