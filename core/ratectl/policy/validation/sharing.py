"""Limits that agents are to share: a consistency without effect, and windows that are too short."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.diagnostics import Diagnostic
from ratectl.policy import codes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ratectl.policy.language.model import PolicyTree
    from ratectl.policy.resolution.effective_limit import Limit
    from ratectl.policy.validation.declared_limits import DeclaredLimit

__all__ = ["check_sharing"]

_SHORT: Final = 10 * 10**9
"""Windows below so many nanoseconds are used badly: see docs/cluster.md."""


def check_sharing(tree: PolicyTree, declared: Iterable[DeclaredLimit]) -> Iterator[Diagnostic]:
    """Yield findings about limits with ``across`` or ``consistency``."""
    for scope, path, name, fields, limit in declared:
        if limit is None:
            continue
        if fields.consistency is not None and limit.across != "cluster":
            yield Diagnostic(
                codes.CONSISTENCY_UNUSED,
                f"{name} has a consistency, and agents do not share it",
                tree.span(scope, f"{path}.consistency"),
                "warning",
                "write across: cluster, or remove consistency",
            )
        if fields.across == "cluster" and _is_short(limit):
            yield Diagnostic(
                codes.ACROSS_SHORT,
                f"{name} has the window of {limit.rate}: processes hear of each other's requests a "
                "little late, so less than the limit is admitted in a window below 10s",
                tree.span(scope, f"{path}.across"),
                "warning",
                "use a window of 10s or longer, or algorithm: token-bucket",
            )


def _is_short(limit: Limit) -> bool:
    """Return True if the limit is a window that is too short to be used well by a cluster."""
    rate = limit.rate
    if limit.algorithm != "sliding-window" or rate is None or rate.unlimited:
        return False
    return rate.window_ns is not None and rate.window_ns < _SHORT
