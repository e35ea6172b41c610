"""From an exception to what the user reads, and to the exit code that scripts read.

==  ===========================================================================================
 0  yes, or done
 1  no: findings, differences, refused, declined, degraded
64  usage: a wrong argument, option or URL, or an answer is needed and cannot be asked for
65  invalid policies, or stored bytes that cannot be read
69  the store is unreachable or cannot be used
70  a bug in ratectl
75  a lost race: what was decided on has moved
77  refused by a guard, or permission denied
124 out of time
130 interrupted by Ctrl-C; 128 and its number for another signal
==  ===========================================================================================
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Self

from ratectl import errors as core
from ratectl.runtime.urls import scrubbed
from ratectl.signing.signatures import Untrusted
from ratectl_cli.framework.signals import Terminated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.diagnostics import Diagnostic

__all__ = [
    "BUG",
    "INTERRUPTED",
    "USAGE",
    "Declined",
    "Failure",
    "Interrupted",
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
    """The person asked said no."""


class TimedOut(core.RatectlError):
    """The command took longer than ``--timeout``."""

    def __init__(self, seconds: float, tells: str | None = None) -> None:
        """``tells``: the command that tells what was changed; None where nothing was."""
        self.tells = tells
        super().__init__(f"not done within {seconds:g} s")


class Interrupted(core.RatectlError):
    """Ctrl-C, or another signal that ends a command as that does."""

    def __init__(self, exit_code: int = INTERRUPTED) -> None:
        self.exit_code = exit_code
        super().__init__("interrupted")

    @classmethod
    def by(cls, interrupt: KeyboardInterrupt) -> Self:
        """What an interrupt means."""
        return cls(interrupt.exit_code if isinstance(interrupt, Terminated) else INTERRUPTED)


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as shown: ``code`` is stable, for programs."""

    code: str
    exit_code: int
    message: str
    hint: str | None = None
    diagnostics: tuple[Diagnostic, ...] = ()


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
    """Return what to say of an exception, and how to exit.

    No password in a URL is repeated, nor in any of the arguments ``given``.
    """
    failure = _explained(error)
    hint = failure.hint and scrubbed(failure.hint, given)
    return replace(failure, message=scrubbed(failure.message, given), hint=hint)


def _explained(error: BaseException) -> Failure:
    usage = _usage(error)
    if usage:
        return usage
    for kind, code, exit_code in _KINDS:
        if isinstance(error, kind):
            diagnostics = tuple(getattr(error, "diagnostics", ()))
            ends = error.exit_code if isinstance(error, Interrupted) else exit_code
            return Failure(code, ends, _message(error), _hint(error), diagnostics)
    return Failure(
        "bug",
        BUG,
        f"{type(error).__name__}: {error}" if str(error) else type(error).__name__,
        "this is a bug in ratectl: please report it, with what -v prints",
    )


def _usage(error: BaseException) -> Failure | None:
    """A wrong command line, as Typer words it."""
    import typer

    if not isinstance(error, typer.TyperException):
        return None
    ctx = getattr(error, "ctx", None)
    hint = f"see `{ctx.command_path} --help`" if ctx is not None else None
    message = " ".join(error.format_message().replace("Value error, ", "").split())
    return Failure("usage", USAGE, message[:1].lower() + message[1:], hint)


def _message(error: BaseException) -> str:
    if isinstance(error, OSError):
        return _os_message(error)
    if isinstance(error, core.PolicyError):
        return "the policies are not valid"
    if isinstance(error, core.GuardRefused):
        options = " ".join(f"--allow-{guard} REASON" for guard in error.guards)
        return f"{error}. If it is meant, add {options}"
    return str(error) or type(error).__name__


def _os_message(error: OSError) -> str:
    why = (error.strerror or str(error) or type(error).__name__).lower()
    if error.filename:
        return f"{os.fsdecode(error.filename)}: {why}"
    if isinstance(error, FileNotFoundError) and not os.path.exists("."):  # noqa: PTH110
        return "the working directory is gone: go to one that is there"
    return f"input or output failed: {why}"


def _hint(error: BaseException) -> str | None:
    notes = getattr(error, "__notes__", None)
    if notes:  # whoever added them knows what was being done
        return "; ".join(notes)
    if isinstance(error, core.StoreUnavailable):
        return "check --store and RATECTL_STORE; `ratectl doctor` looks closer"
    if isinstance(error, TimedOut) and error.tells:
        return f"what was under way may have happened: see `{error.tells}`"
    if isinstance(error, core.StoreUnauthenticated):
        return "set RATECTL_ETCD_USER and RATECTL_ETCD_PASSWORD_FILE, or the client certificate"
    return None
