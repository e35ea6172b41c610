"""Matchers as an engine evaluates them: texts and numbers, without policies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.policy.language.matchers import address_of, glob

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.engine.conditional_limit import Mask
    from ratectl.policy.language.matchers import Matcher
    from ratectl.policy.resolution.conditions import Index

__all__ = ["PlainMatch", "PossibleConditions", "plain_match"]

PlainMatch = tuple[tuple[str, tuple[str, ...], tuple[str, ...], bool | None, bool], ...]
"""Match of a condition: attribute, values, networks, ``exists`` and ``negated`` of each matcher.
Equal exactly if the matchers are."""


def plain_match(match: Mapping[str, Matcher]) -> PlainMatch:
    """Return a match as plain data, to be compared."""
    return tuple([(name, *_plain(match[name])) for name in sorted(match)])


def _plain(matcher: Matcher) -> tuple[tuple[str, ...], tuple[str, ...], bool | None, bool]:
    networks = tuple([str(network) for network in matcher.networks])
    return matcher.values, networks, matcher.exists, matcher.negated


class PossibleConditions:
    """Function from an attribute and its value to the conditions that the value leaves possible.

    It is ``Index.possible`` without policies; None is an absent attribute.
    """

    __slots__ = ("_exact", "_tests", "_unaffected")

    def __init__(self, index: Index) -> None:
        self._unaffected = index.unaffected
        self._exact = index.exact
        self._tests = {
            name: [(bit, ValueTest(matcher)) for bit, matcher in others]
            for name, others in index.others.items()
        }

    def __call__(self, name: str, value: str | None) -> Mask:
        mask = self._unaffected[name]
        if value is not None:
            mask |= self._exact[name].get(value, 0)
        for bit, test in self._tests[name]:
            if test.holds(value):
                mask |= bit
        return mask


class ValueTest:
    """Matcher that is no list of exact values: globs, networks, ``not`` and ``exists``."""

    __slots__ = ("_exists", "_globs", "_negated", "_networks", "_texts")

    def __init__(self, matcher: Matcher) -> None:
        self._exists = matcher.exists
        self._negated = matcher.negated
        self._texts = frozenset(value for value in matcher.values if "*" not in value)
        self._globs = tuple([value for value in matcher.values if "*" in value])
        self._networks = tuple(
            [
                (network.version, int(network.network_address), int(network.broadcast_address))
                for network in matcher.networks
            ]
        )
        """IP version, first and last address of each network, as numbers."""

    def holds(self, value: str | None) -> bool:
        """Return True if the condition holds for this value; None is an absent attribute."""
        if value is None:
            return self._negated or self._exists is False
        if self._exists is not None:
            return self._exists
        return self._accepts(value) is not self._negated

    def _accepts(self, value: str) -> bool:
        if self._networks:
            address = address_of(value)
            if address is None:
                return False
            version, number = address.version, int(address)
            return any(
                version == of and first <= number <= last for of, first, last in self._networks
            )
        return value in self._texts or any(glob(pattern, value) for pattern in self._globs)
