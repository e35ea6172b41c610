"""`ratectl cluster run`: a dedicated owner, until a signal ends it."""

from __future__ import annotations

import platform
import re
from typing import TYPE_CHECKING

from ratectl.agent.dedicated import DedicatedOwner
from ratectl.errors import UsageError
from ratectl.records import ID_PARTS
from ratectl_cli.framework.logs import level_of, logging_to_stderr
from ratectl_cli.framework.signals import waiting_for_signals

if TYPE_CHECKING:
    from ratectl_cli.framework.session import Session

__all__ = ["run_owner"]


def run_owner(session: Session, name: str | None) -> int:
    """Run a dedicated owner until SIGTERM or SIGINT; return the exit code.

    :raises UsageError: an option is wrong, or peers cannot reach the process.
    :raises StoreError: it cannot join.
    """
    if session.options.timeout is not None:
        raise UsageError("a dedicated owner runs until it is stopped: it takes no --timeout")
    logs = logging_to_stderr(level_of(session.options))
    with logs as log, waiting_for_signals() as wait_for_one:
        with DedicatedOwner(session.store_url, _checked(name)) as owner:
            owner.start()
            wait_for_one()
            member = owner.member
            log.info("stopping")
        session.answer("ClusterRun", {"member": member}, list)
        log.info("stopped")
    return 0


def _checked(name: str | None) -> str:
    """Return the name that the member's id begins with.

    :raises UsageError: it is no such name.
    """
    most = min(ID_PARTS)
    if name is None:
        return re.sub(r"[^A-Za-z0-9._-]", "-", f"owner-{platform.node() or 'host'}")[:most]
    if not re.fullmatch(rf"[A-Za-z0-9._-]{{1,{most}}}", name):
        raise UsageError(
            f"--id: {name!r} is no name of 1 to {most} of the characters A-Z a-z 0-9 . _ -"
        )
    return name
