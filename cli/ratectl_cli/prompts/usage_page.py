"""`ratectl usage --html FILE`: read the usage of an environment and write its page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ratectl.errors import UsageError
from ratectl.page.document import page_text
from ratectl.page.environment import environment_view, read_environment_usage
from ratectl.runtime.urls import shown
from ratectl.runtime.whole_files import write_whole
from ratectl_cli.framework import clock
from ratectl_cli.framework.deadline import tidy
from ratectl_cli.inputs.unpublished import say_if_unpublished
from ratectl_cli.prompts.usage import say_if_silent

if TYPE_CHECKING:
    from ratectl.health.usage_report import UsageReport
    from ratectl_cli.framework.session import Session
    from ratectl_cli.prompts.usage import Wanted

__all__ = ["write_usage_page"]


def write_usage_page(session: Session, wanted: Wanted, file: str) -> UsageReport:
    """Write the page to a file, or to standard output (``-``); return the usage that it shows."""
    if not file.strip():
        raise UsageError("--html takes the name of a file, or - for standard output")
    if file == "-" and not session.text:
        raise UsageError(f"--html - writes the page: leave out -o {session.options.output}")
    with session.store() as store, session.busy("reading usage"):
        usage = read_environment_usage(
            store, wanted.scope, session.warn, clock.now_ns(), wanted.minutes
        )
    target = session.target
    view = environment_view(
        usage,
        place=str(target),
        name=target.environment or shown(target.url),
        selector=session.selector.reading,
        now=clock.now(),
    )
    text = page_text(view)
    if file == "-":
        told = say_if_unpublished(session, usage.report.generation)
        session.emit(text)
        say_if_silent(session, usage.report, told=told)
    else:
        tidy(write_whole)(Path(file), text.encode())
        session.say(f"wrote {file}")
    return usage.report
