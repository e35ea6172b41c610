"""A ratectl.yaml with three environments, and publications."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cli_support import Cli

PROJECT = """\
apiVersion: ratectl/v1
kind: Environments
policies: limits
default: local
environments:
  local: {store: "sqlite:///local.db"}
  staging: {store: "sqlite:///staging.db"}
  production: {store: "sqlite:///production.db", confirm: true}
"""


def apply(cli: Cli, *words: str) -> dict[str, Any]:
    run = cli("apply", "--yes", "-o", "json", *words)
    assert run.code == 0, run.out
    return run.document
