"""Messages and exit codes of errors; scripts rely on the exit codes.

==  ===========================================================================================
 0  yes, or done
 1  no: findings, differences, refused, declined, degraded
64  usage: a wrong argument, option or URL, or a question is needed and nobody can be asked
65  invalid policies, or stored bytes that cannot be read
69  the store is unreachable or cannot be used
70  a bug in ratectl
75  a lost race: the state that the command was based on has changed
77  refused by a guard, or permission denied
124 out of time
130 interrupted by Ctrl-C; 128 and its number for another signal
==  ===========================================================================================
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Self

from ratectl import errors as core
from ratectl.errors import Untrusted
from ratectl.runtime.urls import scrubbed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ratectl.diagnostics import Diagnostic

__all__ = [
    "BUG",
    "INTERRUPTED",
    "MORE",
    "USAGE",
    "Declined",
    "Failure",
    "Interrupted",
    "Terminated",
    "TimedOut",
    "explain_error",
]

FINDINGS: Final = 1
USAGE: Final = 64
INVALID: Final = 65
UNAVAILABLE: Final = 69
BUG: Final = 70
RACE: Final = 75
GUARD: Final = 77
TIMEOUT: Final = 124
INTERRUPTED: Final = 130


class Declined(core.RatectlError):
    """Raised when the answer to a question was no."""


class TimedOut(core.RatectlError):
    """Raised when the command takes longer than ``--timeout``."""

    def __init__(self, seconds: float, tells: str | None = None, *, made: bool = False) -> None:
        """``tells``: the command that shows what was changed; None if nothing was.

        ``made``: True if the change is known to have been made.
        """
        self.tells = tells
        self.made = made
        super().__init__(f"not done within {seconds:g} s")


class Terminated(KeyboardInterrupt):
    """Raised when a signal such as SIGTERM asks the command to end; handled like Ctrl-C."""

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number
        super().__init__(f"ended by signal {number}")


class Interrupted(core.RatectlError):
    """Raised when Ctrl-C or a similar signal has ended a command."""

    def __init__(self, exit_code: int = INTERRUPTED) -> None:
        self.exit_code = exit_code
        super().__init__("interrupted")

    @classmethod
    def by(cls, interrupt: KeyboardInterrupt) -> Self:
        """Return the error for an interrupt."""
        return cls(interrupt.exit_code if isinstance(interrupt, Terminated) else INTERRUPTED)


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as it is printed; ``code`` is stable, for programs."""

    code: str
    exit_code: int
    message: str
    hint: str | None = None
    diagnostics: tuple[Diagnostic, ...] = ()
    detail: str | None = None
    """Text of a library, for ``-v``."""

    @property
    def unread(self) -> bool:
        """True if findings say that a file cannot be read, and none says anything else."""
        found = self.code == "invalid_policy" and bool(self.diagnostics)
        return found and {each.code for each in self.diagnostics} <= _UNREAD

    def reworded(self, reword: Callable[[str], str]) -> Self:
        """Return the failure with other texts."""
        return replace(
            self,
            message=reword(self.message),
            hint=self.hint and reword(self.hint),
            detail=self.detail and reword(self.detail),
        )


MORE: Final = "; -v shows more"
"""End of a hint, where a detail is shown with -v."""

_UNREAD: Final = frozenset(("RC120", "RC121", "RC122", "RC124"))
"""Codes of findings about files, not about what is in them."""

_REMEDY: Final = re.compile(r"[:;] (?=(?:add|did you mean|publish|set|use|write|`ratectl help`) )")
"""Start of the remedy in a message."""

_KINDS: Final[tuple[tuple[type[BaseException], str, int], ...]] = (
    (core.UsageError, "usage", USAGE),
    (core.PolicyError, "invalid_policy", INVALID),
    (Untrusted, "untrusted", GUARD),
    (core.BundleError, "unreadable_bundle", INVALID),
    (core.NothingPublished, "nothing_published", INVALID),
    (core.NotFound, "not_found", INVALID),
    (core.StoreUnavailable, "store_unavailable", UNAVAILABLE),
    (core.StoreUnauthenticated, "store_unauthenticated", GUARD),
    (core.StoreMisconfigured, "store_misconfigured", UNAVAILABLE),
    (core.OutcomeUnknown, "outcome_unknown", UNAVAILABLE),
    (core.Conflict, "conflict", RACE),
    (core.StoreError, "store_error", UNAVAILABLE),
    (core.Refused, "refused", GUARD),
    (Declined, "declined", FINDINGS),
    (core.NoAgents, "no_agents", FINDINGS),
    (TimedOut, "timeout", TIMEOUT),
    (Interrupted, "interrupted", INTERRUPTED),
    (KeyboardInterrupt, "interrupted", INTERRUPTED),
    (PermissionError, "permission_denied", GUARD),
    (OSError, "input_output", UNAVAILABLE),
)


def explain_error(error: BaseException, given: Sequence[str]) -> Failure:
    """Return the message and the exit code for an exception.

    Passwords in URLs are removed, also those in the arguments ``given``.
    """
    return _explained(error).reworded(lambda text: scrubbed(text, given))


def _explained(error: BaseException) -> Failure:
    for kind, code, exit_code in _KINDS:
        if isinstance(error, kind):
            diagnostics = tuple(getattr(error, "diagnostics", ()))
            ends = error.exit_code if isinstance(error, Interrupted) else exit_code
            detail = getattr(error, "detail", None)
            message, hint = _message(error), _hint(error)
            if hint is None and isinstance(error, core.UsageError | core.NothingPublished):
                message, hint = _parted(message)
            return Failure(code, ends, message, hint, diagnostics, detail)
    return Failure(
        "bug",
        BUG,
        f"{type(error).__name__}: {error}" if str(error) else type(error).__name__,
        "this is a bug in ratectl: please report it, with the output of -v",
    )


def _message(error: BaseException) -> str:
    if isinstance(error, OSError):
        return _os_message(error)
    if isinstance(error, core.PolicyError):
        invalid = {finding.code for finding in error.diagnostics} - _UNREAD
        if type(error) is core.PolicyError and error.diagnostics and not invalid:
            return "the policies cannot be read"
        return error.headline
    if isinstance(error, core.GuardRefused):
        options = " ".join(f"--allow-{guard} REASON" for guard in error.guards)
        return f"{error}. If this is intended, add {options}"
    return str(error) or type(error).__name__


def _parted(message: str) -> tuple[str, str | None]:
    """Return a message without the remedy at its end, and the remedy."""
    match = _REMEDY.search(message)
    return (message[: match.start()], message[match.end() :]) if match else (message, None)


def _os_message(error: OSError) -> str:
    why = (error.strerror or str(error) or type(error).__name__).lower()
    if error.filename:
        return f"{os.fsdecode(error.filename)}: {why}"
    if isinstance(error, FileNotFoundError) and not os.path.exists("."):  # noqa: PTH110
        return "the working directory no longer exists: change to another one"
    return f"input or output failed: {why}"


def _hint(error: BaseException) -> str | None:
    notes = getattr(error, "__notes__", None)
    if notes:  # added where the context of the error is known
        return "; ".join(notes)
    if isinstance(error, core.StoreUnavailable):
        if error.detail is None:
            return "check the URL of the store (`ratectl env`); `ratectl doctor` shows more"
        return f"check the URL of the store (`ratectl env`), and that the store runs{MORE}"
    if isinstance(error, TimedOut) and error.tells:
        what = "the change was made" if error.made else "the change may have been made"
        return f"{what}: see `{error.tells}`"
    if isinstance(error, core.StoreUnauthenticated):
        return "set RATECTL_ETCD_USER and RATECTL_ETCD_PASSWORD_FILE, or the client certificate"
    return None
