"""Matchers: conditions on one attribute, for overrides and exceptions.

``gold`` · ``[gold, platinum]`` (any of) · ``/v1/receipts/*`` (``*``: any text, also empty)
· ``{not: …}`` · ``{cidr: 10.0.0.0/8}`` · ``{exists: true}``. On an absent attribute a matcher is
false, except ``not`` and ``exists: false``.

``disjoint`` and ``covers`` compare two matchers soundly: they return True only if that holds for
every value, and False if they cannot tell.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import PydanticCustomError, core_schema

from ratectl.policy.language.networks import Network, parsed_network
from ratectl.runtime.closest import closest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import GetJsonSchemaHandler

__all__ = [
    "FORMS", "MAX_VALUES", "Matcher", "address_of", "covers_all", "disjoint_somewhere", "glob",
]  # fmt: skip

FORMS: Final = ("not", "cidr", "exists")
"""Fields of matchers in braces."""

MAX_VALUES: Final = 1_000
_MAX_CHARS: Final = 512
_WRITTEN: Final = "a text, a list of texts, {not: …}, {cidr: …} or {exists: true}"

_REGULAR_EXPRESSIONS: Final = ("regex", "regexp", "re", "pattern", "matches", "prefix")
_SIMPLE_REGEX: Final = re.compile(r"\^(?P<text>[\w/-]+)\.\*\$?", re.ASCII)
_PREFIX: Final = re.compile(r"(?P<text>[\w./-]+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Matcher:
    """Condition on one attribute; ``negated`` inverts the other fields."""

    values: tuple[str, ...] = ()
    """Accepted values; a value with a ``*`` is a glob."""
    networks: tuple[Network, ...] = ()
    exists: bool | None = None
    negated: bool = False

    @classmethod
    def parse(cls, value: object) -> Matcher:
        """Read the written form.

        :raises ValueError: it is no matcher; the message says what to write.
        """
        if isinstance(value, Matcher):
            return value
        if isinstance(value, dict):
            return _parse_form(value)
        return cls(values=_texts(value))

    def holds(self, value: str | None) -> bool:
        """Return True if the condition holds for this value; None is an absent attribute."""
        if value is None:
            return self.negated or self.exists is False
        if self.exists is not None:
            return self.exists
        return self._accepts(value) is not self.negated

    def _accepts(self, value: str) -> bool:
        if self.networks:
            address = address_of(value)
            return address is not None and any(
                address.version == network.version and address in network
                for network in self.networks
            )
        return any(
            glob(accepted, value) if "*" in accepted else accepted == value
            for accepted in self.values
        )

    @property
    def exact(self) -> tuple[str, ...] | None:
        """All values for which it holds; None if they cannot be listed."""
        if self.negated or not self.values or any("*" in value for value in self.values):
            return None
        return self.values

    @property
    def written(self) -> Any:
        """The written form, as in documents and bundles."""
        if self.exists is not None:
            return {"exists": self.exists}
        inner: Any = list(self.values) if len(self.values) > 1 else "".join(self.values)
        if self.networks:
            texts = [str(network) for network in self.networks]
            inner = {"cidr": texts if len(texts) > 1 else texts[0]}
        return {"not": inner} if self.negated else inner

    def __str__(self) -> str:
        return _shown(self.written)

    def disjoint(self, other: Matcher) -> bool:
        """Return True if certainly no request satisfies both matchers."""
        for one, two in ((self, other), (other, self)):
            if one.exact is not None and not any(map(two.holds, one.exact)):
                return True
            if one.exists is False and not two.holds(None):
                return True
            if one.negated and not two.negated and one.negation().covers(two):
                return True
        if self.networks and other.networks and not (self.negated or other.negated):
            return not any(a.overlaps(b) for a in self.networks for b in _like(a, other))
        return False

    def covers(self, other: Matcher) -> bool:
        """Return True if certainly every request that satisfies ``other`` satisfies this one."""
        if self == other:
            return True
        if other.exists is False:
            return self.holds(None)
        if self.exists is not None or other.exists is not None:
            return self.exists is True and not other.holds(None)
        if other.exact is not None:
            return all(map(self.holds, other.exact))
        if self.negated:
            if other.negated:
                return other.negation().covers(self.negation())
            return self.negation().disjoint(other)
        if other.negated:
            return False
        if self.networks and other.networks:
            return all(any(_within(b, a) for a in self.networks) for b in other.networks)
        return (
            bool(self.values)
            and all(
                any(_glob_covers(mine, theirs) for mine in self.values) for theirs in other.values
            )
            and not other.networks
        )

    def negation(self) -> Matcher:
        """Return the matcher that holds exactly if this one does not, for absence as well."""
        return Matcher(self.values, self.networks, self.exists, not self.negated)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> core_schema.CoreSchema:
        def validate(value: object) -> Matcher:
            try:
                return cls.parse(value)
            except ValueError as error:
                raise PydanticCustomError("matcher", "{reason}", {"reason": str(error)}) from None

        return core_schema.no_info_plain_validator_function(
            validate,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda matcher: matcher.written
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _schema: core_schema.CoreSchema, _handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        text = {"type": "string", "maxLength": _MAX_CHARS}
        texts = {"type": "array", "items": text, "minItems": 1, "maxItems": MAX_VALUES}
        some = [text, texts]

        def form(name: str, of: Mapping[str, Any], description: str) -> dict[str, Any]:
            return {
                "type": "object",
                "description": description,
                "properties": {name: of},
                "required": [name],
                "additionalProperties": False,
            }

        network = form("cidr", {"anyOf": some}, "Addresses in one of these networks.")
        return {
            "anyOf": [
                {**text, "description": "This value; * stands for any text."},
                {**texts, "description": "Any of these values."},
                form("not", {"anyOf": [*some, network]}, "Any other value, or no value at all."),
                network,
                form("exists", {"type": "boolean"}, "Whether the request has the attribute."),
            ]
        }


def disjoint_somewhere(one: Mapping[str, Matcher], other: Mapping[str, Matcher]) -> bool:
    """Return True if certainly no request satisfies both conditions."""
    return any(name in other and matcher.disjoint(other[name]) for name, matcher in one.items())


def covers_all(one: Mapping[str, Matcher], other: Mapping[str, Matcher]) -> bool:
    """Return True if certainly every request that satisfies ``other`` satisfies ``one``."""
    return all(name in other and matcher.covers(other[name]) for name, matcher in one.items())


def _parse_form(form: Mapping[object, object]) -> Matcher:
    if len(form) != 1:
        raise ValueError(f"a matcher in braces has one field: write {_WRITTEN}")
    ((name, value),) = form.items()
    if name == "exists":
        if not isinstance(value, bool):
            raise ValueError("exists is true or false: write {exists: true}")
        return Matcher(exists=value)
    if name == "cidr":
        return Matcher(networks=tuple(map(parsed_network, _texts(value))))
    if name == "not":
        inner = Matcher.parse(value)
        if inner.negated or inner.exists is not None:
            inverted = "exists" if inner.exists is not None else "not"
            raise ValueError(f"not cannot contain {inverted}: write the condition without not")
        return inner.negation()
    if str(name).lower() in _REGULAR_EXPRESSIONS:
        what = "prefix" if str(name).lower() == "prefix" else "regular expression"
        raise ValueError(f"match takes no {what}: {_as_glob(value, prefix=what == 'prefix')}")
    meant = closest(str(name).lower(), FORMS)
    hint = f"did you mean {meant}? write {_WRITTEN}" if meant else f"write {_WRITTEN}"
    raise ValueError(f"{str(name)[:40]!r} is not a matcher: {hint}")


def _as_glob(value: object, *, prefix: bool) -> str:
    """Return what to write in place of a regular expression or a prefix."""
    form = _PREFIX if prefix else _SIMPLE_REGEX
    simple = form.fullmatch(value) if isinstance(value, str) else None
    like = f"write {simple['text']}*" if simple else "write a text like /reports/*"
    return f"{like} (* stands for any text)"


def _texts(value: object) -> tuple[str, ...]:
    items = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not items:
        raise ValueError("an empty list matches nothing: write at least one value")
    if len(items) > MAX_VALUES:
        raise ValueError(f"{len(items)} values are too many: write at most {MAX_VALUES}")
    for item in items:
        if isinstance(item, bool | int | float):
            written = str(item).lower() if isinstance(item, bool) else item
            raise ValueError(f'values of attributes are text: write it in quotes, like "{written}"')
        if not isinstance(item, str):
            raise ValueError(f"a matcher is a text or a list of texts: write {_WRITTEN}")
        if len(item) > _MAX_CHARS:
            raise ValueError(f"a value has {len(item)} characters: write at most {_MAX_CHARS}")
    if len(set(items)) != len(items):
        twice = next(item for at, item in enumerate(items) if item in items[:at])
        raise ValueError(f"{twice[:40]!r} is named twice: write each value once")
    return items


def address_of(value: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a text names; None if it names none."""
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return None
    # An IPv4 client seen through an IPv6 socket is the same client.
    return getattr(address, "ipv4_mapped", None) or address


@lru_cache(maxsize=4_096)
def _parts(pattern: str) -> tuple[str, ...]:
    return tuple(pattern.split("*"))


def glob(pattern: str, text: str) -> bool:
    """Return True if a text matches a pattern in which ``*`` stands for any text.

    Each part is found after the one before, in linear time without backtracking.
    """
    first, *middle, last = _parts(pattern)
    if len(text) < len(first) + len(last):
        return False
    if not (text.startswith(first) and text.endswith(last)):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        start = text.find(part, at, end)
        if start < 0:
            return False
        at = start + len(part)
    return True


def _glob_covers(mine: str, theirs: str) -> bool:
    """Return True if ``mine`` matches every text that ``theirs`` matches.

    False if that cannot be told: ``mine`` has more than one ``*``.
    """
    if mine == theirs or mine == "*":
        return True
    if "*" not in mine:
        return False
    first, *middle, last = _parts(mine)
    if middle:
        return False
    if "*" not in theirs:
        return glob(mine, theirs)
    starts, *_, ends = _parts(theirs)
    return starts.startswith(first) and ends.endswith(last)


def _like(network: Network, matcher: Matcher) -> list[Any]:
    return [other for other in matcher.networks if other.version == network.version]


def _within(inner: Any, outer: Any) -> bool:
    return inner.version == outer.version and bool(inner.subnet_of(outer))


def _shown(written: Any) -> str:
    if isinstance(written, dict):
        ((name, value),) = written.items()
        return f"{{{name}: {_shown(value)}}}"
    if isinstance(written, list):
        return f"[{', '.join(map(_shown, written))}]"
    if isinstance(written, bool):
        return "true" if written else "false"
    return str(written) or '""'
