"""Effect of a limit on requests, and the kinds of changes from one limit to another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from ratectl.policy.resolution.algorithms.protocol import sign
from ratectl.policy.resolution.algorithms.registry import rules_of
from ratectl.policy.resolution.fields import FIELDS, NOTICED_FIELDS, selects_alike

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.policy.resolution.effective_limit import Clip, Limit, Setting

__all__ = [
    "BUDGET", "RELIEFS", "Buckets", "Change", "Kind", "Named", "Origin", "effect", "kind_of",
    "most_of", "origin_of", "text_of",
]  # fmt: skip

Named = tuple[str, str | None, str | None]
"""Identity of a change: its scope, its limit, and its override or exception."""


class Buckets(NamedTuple):
    """Identity of a limit's buckets."""

    scope: str
    limit: str
    overrides: tuple[str, ...]
    """Overrides that select the buckets."""
    budget: bool


BUDGET: Final = "budget "
"""Prefix of a budget's name in a change."""

Kind = Literal[
    "added", "removed", "tightened", "loosened", "clipped", "unclipped", "enforced", "shadowed",
    "changed",
]  # fmt: skip
"""``clipped``: tighter, because a cap clips it now; ``unclipped``: looser, because no cap clips it
any more. ``enforced``: from shadow to enforce, whatever the amounts; ``shadowed``: the reverse."""

RELIEFS: Final[frozenset[Kind]] = frozenset({"loosened", "unclipped", "shadowed"})
"""Kinds that cause no new refusals."""


@dataclass(frozen=True, slots=True)
class Change:
    """One difference at one declared scope.

    ``limit``: None for a change of ``on_error``, ``budget NAME`` for a budget.
    ``via``: the override or exception whose requests are affected; None for all other requests.
    ``inherited``: True if it follows from another change: of the nearest declared scope above, or
    of the limit that an unchanged override builds on.
    """

    scope: str
    limit: str | None
    kind: Kind
    before: str | None
    after: str | None
    inherited: bool = False
    via: str | None = None
    origin: Origin | None = field(default=None, compare=False)
    """The new setting that makes the difference, if a document of the new tree has one."""
    old: Limit | None = field(default=None, compare=False)
    new: Limit | None = field(default=None, compare=False)
    """The limit before and after; None if it does not exist, and for exceptions."""

    @property
    def named(self) -> Named:
        """Identity; not unique for exceptions of one scope with the same times."""
        return (self.scope, self.limit, self.via)

    @property
    def most(self) -> int | None:
        """New capacity: what a full bucket admits at once; None if unlimited or unknown."""
        return most_of(self.new)

    @property
    def buckets(self) -> Buckets | None:
        """Buckets that counted its requests until now; None if they count other requests too."""
        if self.old is None or self.limit is None:
            return None
        overrides = self.old.touched
        if self.via is not None and self.via not in overrides:
            return None
        return Buckets(self.scope, self.old.name, overrides, self.limit.startswith(BUDGET))


class Origin(NamedTuple):
    """A setting, and its path in its document: ``limits.spike.rate``."""

    path: str
    setting: Setting
    clip: Clip | None = None
    """The clip of the value by a cap; then the setting is the cap's."""
    lifted: Clip | None = None
    """The earlier clip of the value, if no cap clips it any more."""


_MODE_FIRST: Final = tuple(sorted(NOTICED_FIELDS, key=lambda row: row.name != "mode"))
"""Fields that requests can notice. A changed mode explains a change better than any amount."""


def effect(limit: Limit | None) -> tuple[object, ...] | None:
    """Return all that requests can notice of a limit; None without one."""
    if limit is None:
        return None
    if limit.mode == "off" or limit.unlimited:
        return (limit.mode if limit.mode == "off" else "unlimited",)
    return tuple([row.noticed_value(limit) for row in NOTICED_FIELDS])


def kind_of(old: Limit | None, new: Limit | None) -> Kind:
    """Return the kind of change from ``old`` to ``new``."""
    if old is None:
        return "added"
    if new is None:
        return "removed"
    if not selects_alike(old, new):
        return "changed"
    if not (old.unlimited or new.unlimited) and {old.mode, new.mode} == {"shadow", "enforce"}:
        return "enforced" if new.mode == "enforce" else "shadowed"
    signs = {sign(_strictness(old), _strictness(new)), *rules_of(new).tightenings(old, new)} - {0}
    if signs == {1}:
        return "clipped" if _clipped(old, new) else "tightened"
    if signs == {-1}:
        return "unclipped" if _clipped(new, old) else "loosened"
    return "changed"


def text_of(limit: Limit | None) -> str | None:
    """Return a limit in words; None without one."""
    if limit is None:
        return None
    return " ".join(filter(None, (row.text(limit) for row in FIELDS)))


def origin_of(old: Limit | None, new: Limit | None, *, budget: bool = False) -> Origin | None:
    """Return the first setting of ``new`` that requests notice and that differs from ``old``.

    If a setting was only removed, this is the limit's required field.
    """
    if new is None:
        return None
    path = f"{'budgets' if budget else 'limits'}.{new.name}"
    for name in _changed_fields(old, new):
        clip = new.clips.get(name)
        if clip is not None:
            return Origin(f"caps.{new.name}.{clip.field}", clip.cap, clip)
        lifted = old.clips.get(name) if old is not None else None
        return Origin(f"{path}.{name}", new.settings[name], lifted=lifted)
    return Origin(path, new.settings[rules_of(new).required])


def most_of(limit: Limit | None) -> int | None:
    """Return the cost that a full bucket admits at once; None if the limit refuses nothing."""
    if limit is None or limit.unlimited or limit.mode != "enforce":
        return None
    return rules_of(limit).capacity(limit)


def _clipped(wide: Limit, narrow: Limit) -> bool:
    """Return True if only caps make one limit narrower than the other."""
    fields = list(_changed_fields(wide, narrow))
    return bool(fields) and all(name in narrow.clips and name not in wide.clips for name in fields)


def _changed_fields(old: Limit | None, new: Limit) -> Iterator[str]:
    """Yield the fields with a setting in ``new`` that differ; first those that explain most.

    Defaults are left out, as they follow from other fields.
    """
    for row in NOTICED_FIELDS if old is None else _MODE_FIRST:
        if row.name in new.settings and (
            old is None or row.noticed_value(old) != row.noticed_value(new)
        ):
            yield row.name


def _strictness(limit: Limit) -> int:
    return {"off": 0, "shadow": 1, "enforce": 2}[limit.mode]
