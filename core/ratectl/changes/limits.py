"""Effect of a limit on requests, and the kinds of changes from one limit to another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.policy.resolution.effective_limit import Clip, Limit, Setting

__all__ = [
    "BUDGET", "FIELDS", "RELIEFS", "Buckets", "Change", "Kind", "Named", "Origin", "amounts",
    "effect", "kind_of", "most_of", "noticed", "origin_of", "text_of",
]  # fmt: skip

Named = tuple[str, str | None, str | None]
"""Identity of a change: its scope, its limit, and its override or exception."""

Buckets = tuple[str, str, tuple[str, ...], bool]
"""Identity of a limit's buckets: scope, name, selecting overrides, True for a budget."""

BUDGET: Final = "budget "
"""Prefix of a budget's name in a change."""

FIELDS = ("algorithm", "rate", "burst", "max", "hold", "per", "resets", "mode")

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
        return (self.scope, self.old.name, overrides, self.limit.startswith(BUDGET))


class Origin(NamedTuple):
    """A setting, and its path in its document: ``limits.spike.rate``."""

    path: str
    setting: Setting
    clip: Clip | None = None
    """The clip of the value by a cap; then the setting is the cap's."""
    lifted: Clip | None = None
    """The earlier clip of the value, if no cap clips it any more."""


def effect(limit: Limit | None) -> tuple[object, ...] | None:
    """Return a value that is equal for limits with equal effect on requests; None without one."""
    if limit is None:
        return None
    if limit.mode == "off" or limit.unlimited:
        return (limit.mode if limit.mode == "off" else "unlimited",)
    return tuple([noticed(limit, name) for name in FIELDS])


def kind_of(old: Limit | None, new: Limit | None) -> Kind:
    """Return the kind of a change from ``old`` to ``new``."""
    if old is None:
        return "added"
    if new is None:
        return "removed"
    if (old.algorithm, old.per, old.resets) != (new.algorithm, new.per, new.resets):
        return "changed"
    if not (old.unlimited or new.unlimited) and {old.mode, new.mode} == {"shadow", "enforce"}:
        return "enforced" if new.mode == "enforce" else "shadowed"
    signs = {_sign(_strictness(old), _strictness(new)), *amounts(old, new)} - {0}
    if signs == {1}:
        return "clipped" if _clipped(old, new) else "tightened"
    if signs == {-1}:
        return "unclipped" if _clipped(new, old) else "loosened"
    return "changed"


def text_of(limit: Limit | None) -> str | None:
    """Return a limit as text; None if there is none."""
    if limit is None:
        return None
    parts = [limit.algorithm]
    if limit.rate is None:
        parts.append(f"max {limit.max} hold {limit.hold}")
    else:
        parts.append(str(limit.rate))
    if limit.burst is not None:
        parts.append(f"burst {limit.burst}")
    if limit.resets is not None and limit.rate and limit.rate.unit not in ("min", "h"):
        parts.append(f"resets {limit.resets}")
    if limit.per:
        parts.append(f"per {', '.join(limit.per)}")
    if limit.mode != "enforce":
        parts.append(limit.mode)
    return " ".join(parts)


def origin_of(old: Limit | None, new: Limit | None, *, budget: bool = False) -> Origin | None:
    """Return the first setting of ``new`` whose effect differs from ``old``.

    Returns the limit itself if the difference is a removed setting.
    """
    if new is None:
        return None
    said = f"{'budgets' if budget else 'limits'}.{new.name}"
    for name in _said_anew(old, new):
        clip = new.clips.get(name)
        if clip is not None:
            return Origin(f"caps.{new.name}.{clip.field}", clip.cap, clip)
        lifted = old.clips.get(name) if old is not None else None
        return Origin(f"{said}.{name}", new.settings[name], lifted=lifted)
    return Origin(said, new.settings["max" if new.rate is None else "rate"])


def noticed(limit: Limit, name: str) -> object:
    """Return a value that is equal for fields with equal effect on requests."""
    if name == "hold":
        return limit.hold and limit.hold.ns
    if name != "rate" or limit.rate is None:
        return getattr(limit, name)
    rate = limit.rate
    if rate.unlimited:
        return "unlimited"
    if limit.algorithm == "token-bucket":
        return rate.per_second
    return (rate.count, rate.window_ns or rate.unit)


def most_of(limit: Limit | None) -> int | None:
    """Return the capacity, which a full bucket admits at once; None if nothing is refused."""
    if limit is None or limit.unlimited or limit.mode != "enforce":
        return None
    if limit.rate is None:
        return limit.max
    return limit.burst if limit.algorithm == "token-bucket" else limit.rate.count


def _clipped(wide: Limit, narrow: Limit) -> bool:
    """Return True if caps are the only reason why ``narrow`` is tighter than ``wide``."""
    fields = list(_said_anew(wide, narrow))
    return bool(fields) and all(name in narrow.clips and name not in wide.clips for name in fields)


def _said_anew(old: Limit | None, new: Limit) -> Iterator[str]:
    """Yield the fields that differ and that a document of ``new`` sets, most important first.

    Fields with defaults are left out: they follow from others.
    """
    for name in FIELDS if old is None else ("mode", *FIELDS[:-1]):
        if name in new.settings and (old is None or noticed(old, name) != noticed(new, name)):
            yield name


def _strictness(limit: Limit) -> int:
    return {"off": 0, "shadow": 1, "enforce": 2}[limit.mode]


def amounts(old: Limit, new: Limit) -> Iterator[int]:
    """Yield one sign for each amount: 1 tighter, -1 looser, 0 equal."""
    if old.rate is None or new.rate is None:
        yield _sign(new.max or 0, old.max or 0)
        if old.hold and new.hold:  # a longer hold is tighter: a leaked slot is missing for longer
            yield _sign(old.hold.ns, new.hold.ns)
        return
    yield old.rate.exceeds(new.rate) - new.rate.exceeds(old.rate)
    if old.burst is not None and new.burst is not None:
        yield _sign(new.burst, old.burst)
    elif old.algorithm != "token-bucket" and not (old.rate.unlimited or new.rate.unlimited):
        yield _sign(new.rate.numerator, old.rate.numerator)


def _sign(smaller: int, larger: int) -> int:
    return (larger > smaller) - (larger < smaller)
