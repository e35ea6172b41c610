"""Output in docs/usage.md, for the example tree and reports of three agents."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli_support import EXAMPLES, report_agent
from live_support import detailed

from ratectl.stores import open_store

if TYPE_CHECKING:
    from cli_support import Cli

PAGE = Path(__file__).parents[2] / "docs" / "usage.md"
BLOCK = re.compile(r"```console usage\n(.*?)```\n", re.DOTALL)
UPDATE = os.environ.get("RATECTL_UPDATE_GOLDEN") == "1"


@pytest.fixture
def fleet(cli: Cli, clean_place: Path, store_url: str, still: None) -> None:
    shutil.copytree(EXAMPLES, clean_place / "policies")
    assert cli("apply", "policies", "--yes", "-q").code == 0
    for name, peak in (("edge-1", 0.93), ("edge-2", 0.52), ("edge-3", 0.1)):
        report_agent(
            store_url,
            id=name,
            limits=[
                detailed("/payments", "spike", peak=0.71, near_keys=0),
                detailed(
                    "/payments/checkout", "spike", peak=peak, recent_allowed=2400, allowed=52_000,
                    busiest=[("acme", 31_000, 0, peak), ("zeta", 9000, 140, 0.3)],
                    top_refused=[("acme", 590), ("omega", 10)],
                ),
            ],
        )  # fmt: skip
    with open_store(store_url) as store:
        store.delete("usage/edge-3")


def test_the_page_shows_the_real_output(cli: Cli, fleet: None) -> None:
    text = PAGE.read_text("utf-8")

    def printed(block: re.Match[str]) -> str:
        real = ""
        for command in re.findall(r"^\$ ratectl (.*)\n", block[1], re.MULTILINE):
            run = cli(*shlex.split(command))
            real += f"$ ratectl {command}\n{run.out}{run.err}"
        return f"```console usage\n{real}```\n"

    real = BLOCK.sub(printed, text)
    if UPDATE:
        PAGE.write_text(real, "utf-8")
    assert real == PAGE.read_text("utf-8"), "see RATECTL_UPDATE_GOLDEN"
