"""``ratectl agent run``."""

import contextlib
import logging
import signal
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING, Annotated

import typer

from ratectl.errors import UsageError
from ratectl_cli.logs import logging_to_stderr
from ratectl_cli.session import session_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

_PATIENCE = 1.0
"""Seconds after which another signal means: now."""


def run(
    ctx: typer.Context,
    agent_id: Annotated[
        str | None,
        typer.Option(
            "--id",
            metavar="ID",
            help="How it appears in `ratectl agents`.  [default: made up, and kept]",
        ),
    ] = None,
    state_dir: Annotated[
        str | None,
        typer.Option(
            "--state-dir",
            metavar="DIR",
            help="Where its id and the last good generation are kept.  "
            "[default: $XDG_STATE_HOME/ratectl]",
        ),
    ] = None,
    public_keys: Annotated[
        list[str] | None,
        typer.Option(
            "--public-key",
            metavar="FILE",
            help="Obey only what one of these keys has signed; may be given more than once.",
        ),
    ] = None,
    environment: Annotated[
        str | None,
        typer.Option(
            "--environment",
            metavar="ID",
            help="With --public-key: the store's identity, as `ratectl doctor` says it.  "
            "[default: the first that it meets]",
        ),
    ] = None,
) -> int:
    """Run an agent until stopped.

    Follows the store, logs every change of generation on standard error, and reports what it
    enforces. Starts from the last good generation when the store is down. SIGTERM or Ctrl-C
    ends it cleanly.

    Examples:
      ratectl agent run
      ratectl agent run --id edge-1 --state-dir /var/lib/ratectl --store etcd://etcd:2379/prod
      ratectl agent run --public-key /etc/ratectl/platform.pub

    Exit codes:
      0   stopped by SIGTERM or SIGINT
      64  wrong arguments
    """
    from ratectl import Agent

    session = session_of(ctx)
    level = logging.WARNING if session.options.quiet else logging.INFO
    if session.options.verbose:
        level = logging.DEBUG
    if session.options.timeout is not None:
        raise UsageError("an agent runs until it is stopped: it takes no --timeout")
    with logging_to_stderr(level) as log, _stop_signals() as wait_for_one:
        url = session.store_url
        with Agent(
            url,
            id=agent_id,
            state_dir=state_dir,
            public_keys=public_keys or None,
            environment=environment,
        ) as agent:
            log.info("agent %s follows %s", agent.id, url)
            status = agent.status
            if status.source == "last-good":
                log.info("generation %d is in force, from disk", status.generation)
            elif not status.generation:
                log.info("no generation yet: on_error answers (%s)", status.error or "waiting")
            wait_for_one()
            log.info("stopping")
        data = {"id": agent.id, "generation": agent.generation or None}
        session.answer("AgentRun", data, list)
        log.info("stopped on generation %d", agent.generation)
    return 0


@contextlib.contextmanager
def _stop_signals() -> "Iterator[Callable[[], object]]":
    """What waits for the first signal; one that comes later ends the process at once.

    Not a second one at the same moment: `timeout` and terminals signal the whole process group,
    wrappers pass the signal on, and so one wish to stop may arrive twice.
    """
    # Not an Event: a handler that sets one deadlocks where it interrupts the middle of a wait.
    came: SimpleQueue[int] = SimpleQueue()
    first: float | None = None
    before: dict[signal.Signals, object] = {}

    def on_signal(number: int, _frame: "FrameType | None") -> None:
        nonlocal first
        if first is None:
            first = time.monotonic()
            came.put(number)
        elif time.monotonic() - first > _PATIENCE:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        before[number] = signal.signal(number, on_signal)
    try:
        yield came.get
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]


__all__ = ["run"]
