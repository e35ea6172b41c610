"""Every error ratectl raises on purpose.

RatectlError
├── UsageError               a wrong argument, URL or setting: correct the call
├── Limited                  a limit refuses a call; carries the decision
├── PolicyError              invalid policies; carries every diagnostic
├── BundleError              stored bytes are not a bundle this version can read
│   └── Untrusted            they are not signed for this environment by a trusted key
├── NotFound                 a generation or key that is not there
├── NothingPublished         the store holds no generation yet
├── NoAgents                 no agent is running that could do what is asked of agents
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

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.diagnostics import Diagnostic

__all__ = [
    "BundleError",
    "Conflict",
    "GuardRefused",
    "Limited",
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
    "Untrusted",
    "UsageError",
]


class RatectlError(Exception):
    """Base of all errors of ratectl. If ``transient``, the same call may succeed later."""

    transient = False


class UsageError(RatectlError, ValueError):
    """Raised for a wrong argument, URL or setting."""


class _Answer(Protocol):
    """A ``ratectl.Decision``."""

    allowed: bool
    limit: str | None
    scope: str | None
    generation: int

    @property
    def reason(self) -> str: ...

    @property
    def retry_after(self) -> float | None: ...


class Limited(RatectlError):
    """Raised instead of a call that a limit refuses. ``decision``: the refusal."""

    def __init__(self, decision: _Answer | str) -> None:
        """``decision``: the refusal, or the text of another ``Limited``, which is all that Celery
        keeps of one: then the refusal has a reason only."""
        self._made_of = decision
        text = decision if isinstance(decision, str) else _refusal(decision)
        self.decision = _Retold(_reason_in(text)) if isinstance(decision, str) else decision
        self.transient = self.decision.reason != "never"
        super().__init__(text)

    def __reduce__(self) -> tuple[type[Limited], tuple[_Answer | str]]:
        return type(self), (self._made_of,)


class _Retold:
    """A refusal of which only a text is known."""

    allowed: bool = False
    limit: str | None = None
    scope: str | None = None
    generation: int = 0
    retry_after: float | None = None

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __bool__(self) -> bool:
        return False


_FAILED: Final = "refused, because the limiter failed and on_error is deny"
_NEVER: Final = ": waiting does not help"


def _reason_in(refusal: str) -> str:
    """Return the reason of a refusal that is told in one line."""
    if refusal == _FAILED:
        return "error"
    return "never" if refusal.endswith(_NEVER) else "limited"


def _refusal(decision: _Answer) -> str:
    """Return a refusal in one line."""
    if decision.reason == "error":
        return _FAILED
    by = f" by {decision.limit}@{decision.scope}" if decision.limit else ""
    if decision.reason == "never":
        return f"refused{by}{_NEVER}"
    after = decision.retry_after
    return f"refused{by}: retry " + ("later" if after is None else f"after {after:.3g} s")


class PolicyError(RatectlError):
    """Raised for policies that do not validate; ``diagnostics`` holds every finding."""

    headline = "the policies are not valid"
    """Sentence above the findings."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        errors = sum(1 for d in self.diagnostics if d.severity == "error")
        first = next((d for d in self.diagnostics if d.severity == "error"), None)
        more = f" (and {errors - 1} more)" if errors > 1 else ""
        super().__init__(f"{first}{more}" if first else "invalid policies")


class BundleError(RatectlError):
    """Raised for stored bytes that are not a bundle this version can read."""


class Untrusted(BundleError):
    """Raised for a record without a valid signature for this environment, or for an old one."""


class NotFound(RatectlError):
    """Raised when a generation, bundle or key does not exist."""


class NothingPublished(RatectlError):
    """The store holds no generation yet."""

    def __init__(self, url: str) -> None:
        super().__init__(f"nothing is published in {url} yet; publish with `ratectl apply PATH`")


class NoAgents(RatectlError):
    """No agent is running that could do what is asked of agents."""


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
    """Base of the errors that a store can report."""

    detail: str | None = None
    """The text of a library, for those who look closer; not in the message."""


class StoreUnavailable(StoreError):
    """Raised when a store does not answer. A write that raises it was not applied."""

    transient = True

    def __init__(self, address: str, cause: str, detail: str | None = None) -> None:
        self.address = address
        self.cause = cause
        self.detail = detail
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
