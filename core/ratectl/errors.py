"""Every error ratectl raises on purpose.

RatectlError
├── UsageError               a wrong argument, URL or setting: mend the call
├── PolicyError              invalid policies; carries every diagnostic
├── BundleError              stored bytes are not a bundle this version can read
├── NotFound                 a generation or key that is not there
├── NothingPublished         the store holds no generation yet
├── NoAgents                 no agent is there that could do what is asked of agents
├── Refused                  a rule forbids it: ownership, a missing signature, a file in the way
│   └── GuardRefused         a guard objects, and no reason was given
└── StoreError
    ├── StoreUnavailable     no answer; nothing was written (transient)
    ├── StoreUnauthenticated credentials missing, wrong or not sufficient
    ├── StoreMisconfigured   the store answers but cannot be used (too old, foreign data)
    ├── OutcomeUnknown       a write timed out: it may have been applied; re-read
    └── Conflict             somebody else wrote first
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.diagnostics import Diagnostic

__all__ = [
    "BundleError",
    "Conflict",
    "GuardRefused",
    "NoAgents",
    "NotFound",
    "NothingPublished",
    "OutcomeUnknown",
    "PolicyError",
    "RatectlError",
    "Refused",
    "StoreError",
    "StoreMisconfigured",
    "StoreUnauthenticated",
    "StoreUnavailable",
    "UsageError",
]


class RatectlError(Exception):
    """Base of all errors of ratectl. ``transient``: the same call may succeed later."""

    transient = False


class UsageError(RatectlError, ValueError):
    """A wrong argument, URL or setting."""


class PolicyError(RatectlError):
    """Policies that do not validate; ``diagnostics`` holds every finding, not just the first."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        errors = sum(1 for d in self.diagnostics if d.severity == "error")
        first = next((d for d in self.diagnostics if d.severity == "error"), None)
        more = f" (and {errors - 1} more)" if errors > 1 else ""
        super().__init__(f"{first}{more}" if first else "invalid policies")


class BundleError(RatectlError):
    """Bytes from a store or from disk that are not a bundle this version can read."""


class NotFound(RatectlError):
    """A generation, bundle or key that is not there."""


class NothingPublished(RatectlError):
    """The store holds no generation yet."""

    def __init__(self, url: str) -> None:
        super().__init__(f"nothing is published in {url} yet; publish with `ratectl apply PATH`")


class NoAgents(RatectlError):
    """No agent is there that could do what is asked of agents."""


class Refused(RatectlError):
    """A rule forbids the change. ``diagnostics``: documents that break the rule, if any do."""

    def __init__(self, message: str, diagnostics: Sequence[Diagnostic] = ()) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__(message)


class GuardRefused(Refused):
    """Guards object to a change, and no reason was given. ``guards``: their names."""

    def __init__(self, message: str, guards: Sequence[str]) -> None:
        self.guards = tuple(guards)
        super().__init__(message)


class StoreError(RatectlError):
    """Base of what a store can report."""


class StoreUnavailable(StoreError):
    """The store did not answer. If this came from a write, the write was not applied."""

    transient = True

    def __init__(self, address: str, cause: str) -> None:
        self.address = address
        self.cause = cause
        super().__init__(f"store {address} is not reachable: {cause}")


class StoreUnauthenticated(StoreError):
    """Credentials are missing, wrong, or lack a permission."""


class StoreMisconfigured(StoreError):
    """The store answers, but cannot be used: too old, not ours, or limits too small."""


class OutcomeUnknown(StoreError):
    """A write got no reply: it may or may not have been applied. Re-read; never blindly retry."""

    transient = True


class Conflict(StoreError):
    """Somebody else wrote first; what the caller decided on is stale."""
