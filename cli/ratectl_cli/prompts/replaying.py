"""Replays of recorded traffic, for `simulate` and `plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl_cli.framework.text import bold
from ratectl_cli.render.simulation import skipped_blocks

if TYPE_CHECKING:
    from ratectl.simulate import Report
    from ratectl_cli.framework.session import Session

__all__ = ["complain_of_no_request"]


def complain_of_no_request(session: Session, log: str, report: Report) -> None:
    """Print that no line of a log became a request, and why."""
    if session.text:
        what = f"no line of {log} could be replayed"
        session.complain([[bold("error: ", "red"), what], *skipped_blocks(report)])
