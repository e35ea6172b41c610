"""Run the command line: in this process for speed, or as a process."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet.reports import report_agent  # noqa: F401  for the tests of commands
from ratectl.records import LimitReport
from ratectl_cli.app import run

if TYPE_CHECKING:
    import pytest

PROGRAM = [sys.executable, "-c", "from ratectl_cli.app import main; main()"]
"""The command line, as a process of its own."""
GOLDEN = Path(__file__).parent / "golden"
EXAMPLES = Path(__file__).parents[2] / "policies"
NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
AUTHOR = "Ada Tester <ada@example.org>"

TREE = """\
apiVersion: ratectl/v1
scope: /
on_error: allow
limits:
  spike: {rate: 50/s, burst: 100, per: client}
caps:
  spike: {rate: 400/s, burst: 1000}
---
apiVersion: ratectl/v1
scope: /shop
description: Everything people buy
owner: team-shop
on_error: deny
limits:
  spike: {rate: 20/s}
  steady: {algorithm: sliding-window, rate: 600/min, per: [client, route]}
---
apiVersion: ratectl/v1
scope: /shop/cart
limits:
  probe: {rate: 5/min, mode: shadow}
---
apiVersion: ratectl/v1
scope: /small
caps:
  spike: {rate: 10/s, burst: 5}
---
apiVersion: ratectl/v1
scope: /small/tiny
limits:
  spike: {rate: 1/s, burst: 1}
"""

# With overrides and exceptions.
GLOBAL = """\
apiVersion: ratectl/v1
scope: /
on_error: allow
limits:
  spike: {rate: 50/s, burst: 100, per: tenant}
"""
TEAM = """\
apiVersion: ratectl/v1
scope: /payments
limits:
  spike: {rate: 100/s, burst: 200}
  steady: {algorithm: sliding-window, rate: 1500/min, per: tenant}
caps:
  spike: {rate: 400/s, burst: 1600}
budgets:
  fleet: {rate: 5000/s, burst: 10000}
overrides:
  - name: gold
    match: {tier: [gold, platinum]}
    limits: {spike: {rate: 300/s, burst: 800}}
---
apiVersion: ratectl/v1
kind: Exception
scope: /payments
reason: CHG-8841 black friday
from: 2026-11-27T00:00+01:00
until: 2026-11-30T00:00+01:00
match: {tenant: acme}
limits: {steady: {rate: 6000/min}}
---
apiVersion: ratectl/v1
kind: Exception
scope: /payments
reason: CHG-9002 christmas
from: 2026-12-20T00:00+01:00
until: 2026-12-27T00:00+01:00
limits: {spike: {rate: 350/s}}
budgets: {fleet: {rate: 8000/s}}
"""
CHECKOUT = """\
apiVersion: ratectl/v1
scope: /payments/checkout
overrides:
  - name: charges
    match: {route: POST /v1/charges}
    limits:
      steady: {rate: 600/min}
      card: {algorithm: sliding-window, rate: 5/min, per: card, mode: shadow}
  - name: internal
    match: {ip: {cidr: 10.0.0.0/8}, tier: {not: free}}
    limits: {steady: {mode: shadow}}
"""


@dataclass(frozen=True)
class Result:
    """Result of a run."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on standard output."""
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value


class MemoryStream(io.TextIOWrapper):
    """Text over bytes in memory; ``tty`` makes it a terminal."""

    def __init__(self, data: bytes = b"", *, tty: bool = False, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(data), encoding=encoding, write_through=True)
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty

    def text(self) -> str:
        self.flush()
        buffer = self.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue().decode(self.encoding)


@dataclass
class Cli:
    """Calls the command line in this process."""

    monkeypatch: pytest.MonkeyPatch

    def __call__(
        self, *words: str, stdin: str | bytes = "", tty: bool = False, encoding: str = "utf-8"
    ) -> Result:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        out, err = (
            MemoryStream(tty=tty, encoding=encoding),
            MemoryStream(tty=tty, encoding=encoding),
        )
        with self.monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", MemoryStream(data, tty=tty))
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            code = run(words)
        return Result(code, out.text(), err.text())


def ratectl(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line as a process of its own."""
    return subprocess.run(
        [*PROGRAM, *words],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        **options,
    )


def limit_report(scope: str, limit: str, **changes: Any) -> LimitReport:
    """Counts of a limit: 900 allowed and 60 refused in the last minute."""
    values: dict[str, Any] = {
        "shadow": False,
        "most": 100,
        "allowed": 9000,
        "refused": 600,
        "never": 0,
        "shadow_refused": 0,
        "keys": 12,
        "recent_allowed": 900,
        "recent_refused": 60,
        "peak": 0.71,
        "top_refused": [("acme", 500), ("zeta", 90)],
    }
    return LimitReport(scope=scope, limit=limit, **{**values, **changes})
