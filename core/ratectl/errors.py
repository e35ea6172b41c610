"""Every error ratectl raises on purpose.

RatectlError
├── UsageError               a wrong argument, URL or setting: correct the call
├── PolicyError              invalid policies; carries every diagnostic
├── BundleError              stored bytes are not a bundle this version can read
├── NotFound                 a generation, bundle or key that does not exist
└── StoreError
    ├── StoreUnavailable     no answer; nothing was written (transient)
    ├── StoreUnauthenticated credentials missing, wrong or not sufficient
    ├── StoreMisconfigured   the store answers but cannot be used (too old, foreign data)
    ├── OutcomeUnknown       a write timed out: it may have been applied; re-read
    ├── Conflict             another writer was first
    └── Compacted            the requested revision is no longer kept
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.diagnostics import Diagnostic

__all__ = [
    "BundleError",
    "Compacted",
    "Conflict",
    "NotFound",
    "OutcomeUnknown",
    "PolicyError",
    "RatectlError",
    "StoreError",
    "StoreMisconfigured",
    "StoreUnauthenticated",
    "StoreUnavailable",
    "UsageError",
]


class RatectlError(Exception):
    """Base of all errors of ratectl. If ``transient``, the same call may succeed later."""

    transient = False


class UsageError(RatectlError, ValueError):
    """Raised for a wrong argument, URL or setting."""


class PolicyError(RatectlError):
    """Raised for policies that do not validate; ``diagnostics`` holds every finding."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        errors = sum(1 for d in self.diagnostics if d.severity == "error")
        first = next((d for d in self.diagnostics if d.severity == "error"), None)
        more = f" (and {errors - 1} more)" if errors > 1 else ""
        super().__init__(f"{first}{more}" if first else "invalid policies")


class BundleError(RatectlError):
    """Raised for stored bytes that are not a bundle this version can read."""


class NotFound(RatectlError):
    """Raised when a generation, bundle or key does not exist."""


class StoreError(RatectlError):
    """Base of the errors that a store can report."""


class StoreUnavailable(StoreError):
    """Raised when a store does not answer. A write that raises it was not applied."""

    transient = True

    def __init__(self, address: str, cause: str) -> None:
        self.address = address
        self.cause = cause
        super().__init__(f"store {address} is not reachable: {cause}")


class StoreUnauthenticated(StoreError):
    """Raised when credentials are missing, wrong, or lack a permission."""


class StoreMisconfigured(StoreError):
    """Raised for a store that answers but cannot be used: too old, not of ratectl, or too small."""


class OutcomeUnknown(StoreError):
    """Raised when a write got no reply: it may have been applied. Read again; never just retry."""

    transient = True


class Conflict(StoreError):
    """Raised when another writer was first: the caller decided on stale data."""


class Compacted(StoreError):
    """Raised when the requested revision is older than the oldest that the store keeps."""

    def __init__(self, asked: int, oldest: int) -> None:
        self.asked = asked
        self.oldest = oldest
        super().__init__(f"revision {asked} is compacted; the oldest kept is {oldest}")
