"""Translation of gRPC's and etcd's errors to ratectl's. The original text is kept beside ours.

For writes, "certainly not applied" and "unknown" must not be confused. A write was certainly not
applied in two cases only: gRPC could not connect at all, or etcd answered with a refusal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

import grpc

from ratectl.errors import (
    OutcomeUnknown,
    RatectlError,
    StoreError,
    StoreMisconfigured,
    StoreUnauthenticated,
    StoreUnavailable,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "LeaseGone",
    "ReplyTooLarge",
    "RevisionCompacted",
    "RevisionInFuture",
    "connection_failed",
    "explain",
    "in_plain_words",
    "is_cancelled",
    "is_lost",
    "is_stale_token",
    "is_timeout",
    "names_stale_token",
    "text",
    "translate",
]

Code = grpc.StatusCode

# Texts of gRPC's load balancers and resolvers for a call that never left this process.
_NOT_SENT: Final = (
    "failed to connect to all addresses",
    "connections to all backends failing",
    "dns resolution failed",
    "errors resolving",
    "empty address list",
)

_STALE_TOKEN: Final = ("invalid auth token", "revision of auth store is old", "user name is empty")


class RevisionCompacted(StoreError):
    """Raised when etcd has compacted the revision of a read."""


class LeaseGone(StoreError):
    """Raised when a lease has expired or was revoked."""


class ReplyTooLarge(StoreMisconfigured):
    """Raised when a reply is over gRPC's limit on this side: the caller asks for less at once."""


class RevisionInFuture(StoreError):
    """Raised when etcd has not reached the revision of a read."""


def code(error: grpc.RpcError) -> object:
    """Return the status code."""
    return cast("grpc.Call", error).code()


def text(error: grpc.RpcError) -> str:
    """Return the text of gRPC or etcd."""
    details = cast("grpc.Call", error).details()
    return str(details) if details else str(code(error))


def connection_failed(error: grpc.RpcError) -> bool:
    """Return True if the request was certainly not sent."""
    return code(error) is Code.UNAVAILABLE and text(error).lower().startswith(_NOT_SENT)


def names_stale_token(reason: str) -> bool:
    """Return True if etcd's text is a refusal because of the token."""
    return any(part in reason for part in _STALE_TOKEN)


def is_stale_token(error: grpc.RpcError) -> bool:
    """Return True if the call was refused, and not applied, because of its token."""
    return code(error) is Code.UNAUTHENTICATED or names_stale_token(text(error))


def is_cancelled(error: Exception) -> bool:
    """Return True if this side ended the call."""
    return isinstance(error, grpc.RpcError) and code(error) is Code.CANCELLED


def is_timeout(error: grpc.RpcError) -> bool:
    """Return True if no reply came in time."""
    return code(error) is Code.DEADLINE_EXCEEDED


def is_lost(error: grpc.RpcError) -> bool:
    """Return True if a read may succeed at once on another connection or member."""
    if is_timeout(error):
        return True
    return code(error) is Code.UNAVAILABLE and not connection_failed(error)


def translate(
    error: grpc.RpcError, address: str, seconds: float, *, write: bool = False
) -> RatectlError:
    """Return the error to raise for ``error``. ``write``: the call may have changed the store."""
    error.__traceback__ = None  # its frames would keep the channel alive; see fork.py
    status, cause = code(error), text(error)
    if is_stale_token(error) or status is Code.PERMISSION_DENIED:
        return StoreUnauthenticated(f"store {address} refuses access: {explain(cause)}")
    if status is Code.DEADLINE_EXCEEDED:
        cause = f"no reply within {round(seconds, 1):g} s ({cause})"
    if "Received message larger than max" in cause and not write:
        return ReplyTooLarge(f"store {address} sends more than gRPC accepts here: {cause}")
    refusal = _refusal(status, cause, address)
    if refusal is not None:
        return refusal
    if write and not connection_failed(error):
        return OutcomeUnknown(
            f"store {address} did not confirm the write ({cause}): it may have been applied or "
            "may still be; read again before repeating it"
        )
    return StoreUnavailable(address, in_plain_words(cause), cause)


def _refusal(status: object, cause: str, address: str) -> RatectlError | None:
    """Return the error for a refusal of etcd, which applied nothing; None for other errors."""
    for part, make in _REFUSALS.items():
        if part in cause:
            return make(address, cause)
    if status is Code.UNIMPLEMENTED:
        refusal = StoreMisconfigured(f"{address} is not an etcd v3 server")
        refusal.detail = cause
        return refusal
    if status in (Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION):
        return StoreMisconfigured(f"store {address} refuses the request: {cause}")
    return None


def _misconfigured(message: str) -> Callable[[str, str], RatectlError]:
    return lambda address, cause: StoreMisconfigured(f"store {address} {message} ({cause})")


_REFUSALS: Final[dict[str, Callable[[str, str], RatectlError]]] = {
    "required revision has been compacted": lambda _, cause: RevisionCompacted(cause),
    "required revision is a future revision": lambda _, cause: RevisionInFuture(cause),
    "authentication failed": lambda address, cause: StoreUnauthenticated(
        f"store {address} refuses user or password: {cause} (RATECTL_ETCD_USER and "
        "RATECTL_ETCD_PASSWORD or RATECTL_ETCD_PASSWORD_FILE say which)"
    ),
    "requested lease not found": lambda _, cause: LeaseGone(
        f"the lease has ended: make a new one and write the keys again ({cause})"
    ),
    "database space exceeded": _misconfigured(
        "is out of space and refuses writes; reads go on. Compact and defragment it, or raise "
        "its --quota-backend-bytes, then clear the alarm with 'etcdctl alarm disarm'"
    ),
    "request is too large": _misconfigured("has too small a --max-request-bytes"),
    "received message larger than max": _misconfigured("has too small a --max-request-bytes"),
    "too many operations in txn": _misconfigured("has too small a --max-txn-ops (ratectl: 128)"),
    "too many requests": StoreUnavailable,
    "duplicate key given in txn": lambda _, cause: UsageError(cause),
}


_EXPLANATIONS: Final = {
    "permission denied": (
        "the user needs a role that may read and write the keys below /ratectl/ENVIRONMENT/"
    ),
    "user name is empty": (
        "set RATECTL_ETCD_USER and RATECTL_ETCD_PASSWORD or RATECTL_ETCD_PASSWORD_FILE"
    ),
}


_PLAIN: Final = {
    "CERTIFICATE_VERIFY_FAILED": (
        "its certificate is not trusted: RATECTL_ETCD_CA must name the authority of the certificate"
    ),
    "Hostname Verification Check failed": (
        "its certificate has other names: set RATECTL_ETCD_SERVER_NAME to one of them"
    ),
    "is not in peer certificate": (
        "its certificate has other names: set RATECTL_ETCD_SERVER_NAME to one of them"
    ),
    "WRONG_VERSION_NUMBER": "the server does not speak TLS: its URL is etcd://",
    ": Socket closed": (
        "the server closed the connection at once: it may speak TLS although the URL says "
        "etcd://, or the reverse"
    ),
    "Handshake read failed": "the server may not speak TLS: then its URL is etcd://",
    "Connection refused": "no server answers there (connection refused)",
    "name not found": "the host name does not exist",
    "address lookup failed": "the host name cannot be resolved",
    "errors resolving": "the host name cannot be resolved",
    "dns resolution failed": "the host name cannot be resolved",
    "DNS resolution failed": "the host name cannot be resolved",
    "No route to host": "there is no route to the host",
    "Network is unreachable": "the network is unreachable",
    "Connection timed out": "the host does not answer",
    "Timeout occurred": "the host does not answer",
    "Connection reset": "the server closed the connection",
    "Failed parsing HTTP/2": "a server listens there, and it is not etcd, or it speaks TLS",
}
"""Our words for texts of gRPC, which name addresses and states inside it."""


def in_plain_words(cause: str) -> str:
    """Return why a store cannot be reached, without the words of gRPC if they are known."""
    return next((meaning for part, meaning in _PLAIN.items() if part in cause), explain(cause))


def explain(cause: str) -> str:
    """Return the cause, followed by an explanation if there is one."""
    for part, meaning in _EXPLANATIONS.items():
        if part in cause:
            return f"{cause} ({meaning})"
    return cause
