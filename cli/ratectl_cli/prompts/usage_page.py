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
from ratectl_cli.render.usage import usage_blocks
from ratectl_cli.render.usage_document import usage_data

if TYPE_CHECKING:
    from ratectl_cli.framework.session import Session

__all__ = ["write_usage_page"]


def write_usage_page(session: Session, scope: str | None, file: str) -> int:
    """Write the page to a file, or to standard output (``-``); return the exit code.

    To a file, the command also prints what it prints without the page.
    """
    if not file.strip():
        raise UsageError("--html takes the name of a file, or - for standard output")
    if file == "-" and not session.text:
        raise UsageError(f"--html - writes the page: leave out -o {session.options.output}")
    with session.store() as store, session.busy("reading usage"):
        usage = read_environment_usage(store, scope, session.warn, clock.now_ns())
    target = session.target
    view = environment_view(
        usage,
        place=str(target),
        name=target.environment or shown(target.url),
        selector=session.selector.reading,
        now=clock.now(),
    )
    text = page_text(view)
    told = say_if_unpublished(session, usage.report.generation)
    if file == "-":
        session.emit(text)
    else:
        tidy(write_whole)(Path(file), text.encode())
        session.say(f"wrote {file}")
        session.answer(
            "Usage",
            usage_data(usage.report),
            lambda: usage_blocks(usage.report, session.out, clock.now()),
        )
    if not usage.report.totals.reporting and not told:
        session.say("no agent has reported usage recently: ratectl agents")
    return 0
