"""Find the limit and the key that an operator names for a reset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.errors import UsageError
from ratectl.policy.language.scopes import checked_scope
from ratectl.policy.resolution.resolver import Resolver
from ratectl.resets.orders import MAX_ATTRIBUTES, MAX_VALUE
from ratectl.runtime.closest import closest
from ratectl.runtime.wording import joined, listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ratectl.policy.language.model import PolicyTree
    from ratectl.policy.resolution.effective_limit import Limit

__all__ = ["FoundKey", "GivenKey", "find_key"]

_NAMED: Final = 10


class GivenKey(NamedTuple):
    """A key as it was given."""

    value: str | None = None
    """The only value, of a limit that counts per one attribute."""
    attributes: Mapping[str, str] = {}
    absent: Sequence[str] = ()
    """Attributes that the requests lack."""

    @property
    def named(self) -> dict[str, str | None]:
        """Values by attribute."""
        return {**self.attributes, **dict.fromkeys(self.absent)}


class FoundKey(NamedTuple):
    """The limit, and the key that is to be reset."""

    scope: str
    """Declared scope of the buckets."""
    limit: Limit
    """The limit as a request with these attributes meets it."""
    budget: bool
    key: dict[str, str | None]
    """Value of each attribute that the limit counts per; None for an absent one."""


def find_key(
    tree: PolicyTree, scope: str, name: str, given: GivenKey, *, budget: bool, now_ns: int
) -> FoundKey:
    """Return the limit or budget of this name, and the key.

    :raises UsageError: there is no such limit at the scope, or it has no bucket of this key.
    """
    _check_declared(tree, checked_scope(scope))
    resolver = Resolver(tree, now_ns)
    limits = list(_limits(resolver, scope, name, given.attributes, budget=budget))
    if not limits:
        raise _unknown(resolver, scope, name, budget=budget)
    limits = _counted_by_agents(limits)
    key = _key(limits, given)
    counting = [limit for limit in limits if set(limit.per) == set(key)]
    if not counting:
        raise _other_attributes(limits, given)
    chosen = next((limit for limit in counting if _counts(limit, key)), None)
    if chosen is None:
        raise _skipped(counting[0], key)
    if len(key) > MAX_ATTRIBUTES or any(len(value or "") > MAX_VALUE for value in key.values()):
        raise UsageError(
            f"a key that can be reset has at most {MAX_ATTRIBUTES} values of {MAX_VALUE} characters"
        )
    return FoundKey(scope, chosen, budget, {each: key[each] for each in chosen.per})


def _check_declared(tree: PolicyTree, scope: str) -> None:
    """:raises UsageError: no policy declares the scope."""
    if scope in tree.policies:
        return
    home = Resolver(tree).at(scope)
    meant = closest(scope, tree.policies)
    hint = [f"did you mean {meant}?"] if meant and meant != "/" else []
    above = None if home is None else home.scope
    if home is None:
        error = UsageError(f"no policy covers {scope}")
    else:
        error = UsageError(f"{scope} is not declared: its requests use the buckets of {home.scope}")
        if meant != above or not hint:
            hint.append(f"To reset a bucket there, name {above}")
    error.add_note(" ".join(hint) or "`ratectl usage` lists scopes")
    raise error


def _limits(
    resolver: Resolver, scope: str, name: str, attributes: Mapping[str, str], *, budget: bool
) -> Iterator[Limit]:
    """Yield the limit for requests with these attributes first, then as overrides change it."""
    find = resolver.budget if budget else resolver.limit
    for mask in _masks(resolver, scope, attributes):
        limit = find(scope, name, mask)
        if limit is not None and limit.mode != "off":
            yield limit


def _counted_by_agents(limits: Sequence[Limit]) -> list[Limit]:
    """Return the limits without those that a server counts (``across: redis``).

    :raises UsageError: a server counts all of them: agents have no bucket of theirs.
    """
    counted = [limit for limit in limits if limit.across != "redis"]
    if not counted:
        error = UsageError(
            f"{limits[0].name} is counted by a Valkey or Redis server (across: redis), and agents "
            "have no bucket to reset"
        )
        error.add_note("delete the key's counts on the server: see docs/redis.md")
        raise error
    return counted


def _masks(resolver: Resolver, scope: str, attributes: Mapping[str, str]) -> Iterator[int]:
    """Yield sets of conditions: the ones that hold, none, each one, all."""
    path = resolver.conditions.at(scope).conditions
    yield path.holding(attributes)
    yield 0
    for position, _ in enumerate(path):
        yield 1 << position
    yield (1 << len(path)) - 1


def _unknown(resolver: Resolver, scope: str, name: str, *, budget: bool) -> UsageError:
    """Return the error for a limit that the scope does not have."""
    limits: dict[str, None] = {}
    owners: dict[str, str] = {}
    for mask in _masks(resolver, scope, {}):
        resolved = resolver.where(scope, mask)
        limits |= dict.fromkeys(resolved.limits if resolved else ())
        owners |= {each.name: at for at, each in (resolved.budgets if resolved else ())}
    kind = "budget" if budget else "limit"
    error = UsageError(f"{scope} has no {kind} {name}")
    if budget and name in owners:
        error.add_note(f"{owners[name]} declares this budget: name that scope")
    elif not budget and name in owners:
        at = "" if owners[name] == scope else f", and name {owners[name]}, which declares it"
        error.add_note(f"{name} is a budget: add --budget{at}")
    elif budget and name in limits:
        error.add_note(f"{name} is a limit: leave out --budget")
    else:
        known = [each for each, at in owners.items() if at == scope] if budget else list(limits)
        meant = closest(name, known)
        there = f"it has {listed(known, _NAMED)}" if known else f"it has no {kind}s"
        error.add_note(f"did you mean {meant}?" if meant else there)
    return error


def _key(limits: Sequence[Limit], given: GivenKey) -> dict[str, str | None]:
    """Return the key by attribute.

    :raises UsageError: a value is given without its attribute, or twice.
    """
    key = given.named
    twice = next((name for name in given.absent if name in given.attributes), None)
    if twice is not None:
        raise UsageError(f"--attr and --absent both name {twice}: give one")
    if given.value is None:
        return key
    if key:
        error = UsageError(
            "--key is the only value of a key: it does not go together with --attr and --absent"
        )
        error.add_note("leave out --key, or leave out --attr and --absent")
        raise error
    single = next((limit.per[0] for limit in limits if len(limit.per) == 1), None)
    if single is None:
        raise _other_attributes(limits, given)
    return {single: given.value}


def _counts(limit: Limit, key: Mapping[str, str | None]) -> bool:
    """Return True if the limit counts requests of this key."""
    return limit.absent != "skip" or None not in key.values()


def _skipped(limit: Limit, key: Mapping[str, str | None]) -> UsageError:
    """Return the error for a key without a bucket: the limit skips such requests."""
    lacking = [name for name in limit.per if key[name] is None]
    error = UsageError(
        f"{limit.name} has 'absent: skip': requests without {joined(lacking)} have no bucket to "
        "reset"
    )
    error.add_note("give " + joined([f"--attr {name}=VALUE" for name in lacking]))
    return error


def _other_attributes(limits: Sequence[Limit], given: GivenKey) -> UsageError:
    """Return the error for a key that is not one of the limit's."""
    limit = limits[0]
    if not limit.per:
        error = UsageError(f"{limit.name} has one bucket for all requests: it takes no key")
        error.add_note("leave out --key, --attr and --absent")
        return error
    unknown = [name for name in given.named if name not in limit.per]
    lacking = [name for name in limit.per if name not in given.named]
    if unknown:
        what = f"the key has a value of {joined(unknown)}"
    elif given.value is not None:
        what = "--key gives only one value"
    elif given.named:
        what = f"the key has no value of {joined(lacking)}"
    else:
        what = "the key is missing"
    error = UsageError(f"{limit.name} counts per {' and '.join(limit.per)}: {what}")
    meant = closest(unknown[0], limit.per) if unknown else None
    options = "--key VALUE" if len(limit.per) == 1 else " ".join(
        f"--attr {name}=VALUE" for name in limit.per
    )  # fmt: skip
    error.add_note(f"did you mean {meant}?" if meant else f"add {options}")
    return error
