"""What requests can notice of a limit, and how one that became another is called."""

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
"""A change by its scope, its limit, and the override that it is for."""

Buckets = tuple[str, str, tuple[str, ...], bool]
"""Those of a limit that some overrides select: scope, name, overrides, whether it is a budget."""

BUDGET: Final = "budget "
"""What the names of budgets begin with, in a change."""

FIELDS = ("algorithm", "rate", "burst", "max", "hold", "per", "resets", "mode")

Kind = Literal[
    "added", "removed", "tightened", "loosened", "clipped", "unclipped", "enforced", "shadowed",
    "changed",
]  # fmt: skip
"""``clipped``: tighter, as a cap now clips what it did not; ``unclipped``: looser, as none does any
more. ``enforced``: shadow before, whatever its amounts do; ``shadowed``: the way back."""

RELIEFS: Final[frozenset[Kind]] = frozenset({"loosened", "unclipped", "shadowed"})
"""Kinds by which nobody is refused who was not."""


@dataclass(frozen=True, slots=True)
class Change:
    """One difference at one declared scope.

    ``limit`` is None for a change of ``on_error``, and ``budget NAME`` for one of a budget.
    ``via`` is the override or exception for whose requests it is; None for all others.
    ``inherited``: it follows from another change, that of the nearest declared scope above or of
    the limit that an unchanged override builds on.
    """

    scope: str
    limit: str | None
    kind: Kind
    before: str | None
    after: str | None
    inherited: bool = False
    via: str | None = None
    origin: Origin | None = field(default=None, compare=False)
    """What makes the difference, as far as it is said on the new side."""
    old: Limit | None = field(default=None, compare=False)
    new: Limit | None = field(default=None, compare=False)
    """What there was and what there is to be; None for exceptions as well."""

    @property
    def named(self) -> Named:
        """What tells it from others, save for exceptions of one scope with the same times."""
        return (self.scope, self.limit, self.via)

    @property
    def most(self) -> int | None:
        """What a full bucket admits at once afterwards; None for everything, and for unknown."""
        return most_of(self.new)

    @property
    def buckets(self) -> Buckets | None:
        """Where its requests were counted until now; None where not by themselves."""
        if self.old is None or self.limit is None:
            return None
        overrides = self.old.touched
        if self.via is not None and self.via not in overrides:
            return None
        return (self.scope, self.old.name, overrides, self.limit.startswith(BUDGET))


class Origin(NamedTuple):
    """A setting, and the path at which its document says it: ``limits.spike.rate``."""

    path: str
    setting: Setting
    clip: Clip | None = None
    """What a cap makes of the value; then the setting is the cap's."""
    lifted: Clip | None = None
    """What a cap made of it before, and none does any more."""


def effect(limit: Limit | None) -> tuple[object, ...] | None:
    """What requests can notice."""
    if limit is None:
        return None
    if limit.mode == "off" or limit.unlimited:
        return (limit.mode if limit.mode == "off" else "unlimited",)
    return tuple([noticed(limit, name) for name in FIELDS])


def kind_of(old: Limit | None, new: Limit | None) -> Kind:
    """How ``new`` treats requests, compared with ``old``."""
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
    """A limit in words; None where there is none."""
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
    """The first setting of ``new`` that requests notice, and that is not as in ``old``; the limit
    as such where something is no longer said."""
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
    """What requests can notice of one field."""
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
    """What a full bucket admits at once; None where nothing is refused."""
    if limit is None or limit.unlimited or limit.mode != "enforce":
        return None
    if limit.rate is None:
        return limit.max
    return limit.burst if limit.algorithm == "token-bucket" else limit.rate.count


def _clipped(wide: Limit, narrow: Limit) -> bool:
    """Whether it is by caps alone that one is narrower than the other."""
    fields = list(_said_anew(wide, narrow))
    return bool(fields) and all(name in narrow.clips and name not in wide.clips for name in fields)


def _said_anew(old: Limit | None, new: Limit) -> Iterator[str]:
    """Fields that something says of ``new`` (defaults follow from others) and that differ; first
    the one that may change most."""
    for name in FIELDS if old is None else ("mode", *FIELDS[:-1]):
        if name in new.settings and (old is None or noticed(old, name) != noticed(new, name)):
            yield name


def _strictness(limit: Limit) -> int:
    return {"off": 0, "shadow": 1, "enforce": 2}[limit.mode]


def amounts(old: Limit, new: Limit) -> Iterator[int]:
    """1 for each amount that became tighter, -1 looser."""
    if old.rate is None or new.rate is None:
        yield _sign(new.max or 0, old.max or 0)
        if old.hold and new.hold:  # a slot that leaks is missed for longer
            yield _sign(old.hold.ns, new.hold.ns)
        return
    yield old.rate.exceeds(new.rate) - new.rate.exceeds(old.rate)
    if old.burst is not None and new.burst is not None:
        yield _sign(new.burst, old.burst)
    elif old.algorithm != "token-bucket" and not (old.rate.unlimited or new.rate.unlimited):
        yield _sign(new.rate.numerator, old.rate.numerator)


def _sign(smaller: int, larger: int) -> int:
    return (larger > smaller) - (larger < smaller)
