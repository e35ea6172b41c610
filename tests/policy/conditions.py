"""Helpers for tests of overrides and exceptions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from policy.trees import tree
from ratectl.policy.language.instants import Instant
from ratectl.policy.language.model import Exemption, with_exceptions
from ratectl.policy.resolution.resolver import Resolver

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.policy.language.model import PolicyTree
    from ratectl.policy.resolution.effective_limit import Limit

FROM, NOON, UNTIL = (f"2026-11-27T{hour:02}:00Z" for hour in (6, 12, 18))


def ns(written: str) -> int:
    return Instant.parse(written).ns


def override(
    name: str, match: Mapping[str, Any] | None = None, **limits: dict[str, Any]
) -> dict[str, Any]:
    """Return an override, by default for the gold tier."""
    return {"name": name, "match": match or {"tier": "gold"}, "limits": limits}


def exception(scope: str = "/", **fields: Any) -> Exemption:
    """Return an exception, by default from 06:00 to 18:00; ``begins`` is ``from``."""
    fields = {"reason": "a test", "begins": FROM, "until": UNTIL, **fields}
    begins = fields.pop("begins")
    if begins is not None:
        fields["from"] = begins
    return Exemption.model_validate({"scope": scope, **fields})


def excepted(fields: Mapping[str, Mapping[str, Any]], *exceptions: Exemption) -> PolicyTree:
    return with_exceptions(tree(fields), [(each, None) for each in exceptions])


def limit(
    policies: PolicyTree,
    scope: str = "/",
    name: str = "x",
    at: str | None = NOON,
    **attributes: str,
) -> Limit:
    """Return a limit in force for a request."""
    resolver = Resolver(policies, None if at is None else ns(at))
    resolved = resolver.select(scope, attributes)
    assert resolved is not None
    assert not resolved.problems
    return resolved.limits[name]


def shown(limit: Limit) -> tuple[str, int | None]:
    return str(limit.rate), limit.burst
