"""docs/envoy-gateway.md: commands print what it shows."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from envoy_gateway.management_server import ManagementServer, config, limit, packed
from envoy_gateway.place import Place
from envoy_gateway.test_following import ROUTE, RULE
from etcd_server import wait_for
from support import once

if TYPE_CHECKING:
    from cli_support import Cli

PAGE = (Path(__file__).parents[2] / "docs" / "envoy-gateway.md").read_text("utf-8")


def shown(command: str) -> str:
    """Return the output that the page shows for a command."""
    (found,) = re.findall(
        rf"^\$ {re.escape(command)}.*\n((?:(?!\$ |```).*\n)*)", PAGE, re.MULTILINE
    )
    return steady(str(found))


def steady(text: str) -> str:
    """Return a text without times, rates and ports."""
    text = re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z|data \d s old", "TIME", text)
    return re.sub(r" {2,}\d\.\d ", " RATE ", text).rstrip()


@once
def test_what_the_page_shows(cli: Cli, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/rates.db"
    rules = limit(RULE[0], "3/HOUR", RULE[1]), limit("rule-1-match-0", "100/HOUR")
    with ManagementServer() as server, closing(Place(tmp_path, url, server.address)) as place:
        server.put(1, packed(config("default/eg/http", *rules)))
        wait_for(lambda: server.accepted(1), "it is accepted")
        for _ in range(5):
            place.ask("default/eg/http", ROUTE, RULE)
        for number in range(5):
            place.ask("default/eg/http", ROUTE, ("rule-1-match-0", f"client-{number % 2}"))
        assert steady(cli("show", "--store", url).out) == shown("ratectl show")
        expected = shown("ratectl usage")
        wait_for(
            lambda: steady(cli("usage", "--store", url).out) == expected, "all is reported", 20
        )
        policies = tmp_path / "policies"
        policies.mkdir()
        (policies / "own.yaml").write_text(
            "apiVersion: ratectl/v1\nscope: /own\nlimits:\n  own: {rate: 1/s}\n"
        )
        run = cli("apply", str(policies), "--yes", "--store", url)
        assert steady(run.err) == shown("ratectl apply policies --yes")
