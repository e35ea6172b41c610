"""Policies of two sets, and functions that publish and read sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cli_support import Cli, Result

EDGE = """\
# What everybody gets
apiVersion: ratectl/v1
scope: /
limits:
  spike: {rate: 50/s, burst: 100, per: client}
caps:
  spike: {rate: 400/s, burst: 1000}
---
apiVersion: ratectl/v1
scope: /web
limits: {spike: {rate: 60/s}}
"""
PAYMENTS = """\
# Card and wallet payments
apiVersion: ratectl/v1
scope: /payments
limits: {spike: {burst: 300}}
---
apiVersion: ratectl/v1
scope: /payments/old
limits: {spike: {burst: 20}}
"""
SALE = """\
apiVersion: ratectl/v1
kind: Exception
scope: /payments
reason: sale
until: 2040-01-01T00:00Z
limits: {spike: {burst: 500}}
"""
ONLY_A_TEST = """\
apiVersion: ratectl/v1
kind: PolicyTest
name: one passes
steps: [{scope: /, expect: {allowed: 1}}]
"""
LEAVES = PAYMENTS.partition("---\n")[0]
REMOVALS = ("--allow-removals", "moved")


def write(name: str, text: str) -> str:
    """Write the one file of a folder; return the name of the folder."""
    folder = Path(name)
    folder.mkdir(exist_ok=True)
    (folder / "all.yaml").write_text(text)
    return name


def apply_set(cli: Cli, name: str, *words: str) -> Result:
    """Publish the folder with the set's name as that set."""
    return cli("apply", name, "--set", name, "--yes", *words)


def live(cli: Cli) -> int:
    """Return the number of the live generation."""
    generation: int = cli("history", "-o", "json").document["live"]
    return generation


def owners(cli: Cli) -> dict[str, str]:
    """Return the owner of each scope."""
    owner_of: dict[str, str] = cli("show", "-o", "json").document["owners"]["scopes"]
    return owner_of
