"""Names of scopes, limits, attributes and files, made of texts of other programs."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from ratectl.sidecar.questions import attributes_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["UniqueNames", "attribute_names", "attributes_on", "limit_name", "segment"]

_LONGEST: Final = 50
"""Characters of a name, before a number that tells it from others."""

_ATTRIBUTE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*", re.ASCII)


class UniqueNames:
    """Names that differ from those given before; upper and lower case are no difference."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def name(self, wanted: str) -> str:
        """Return the name, with a number if it was given before."""
        name, number = wanted, 1
        while name.lower() in self._given:
            number += 1
            name = f"{wanted}-{number}"
        self._given.add(name.lower())
        return name


def segment(text: str, *, stable: bool = False) -> str:
    """Return a segment of a scope that reads like a text.

    ``stable``: no other text has the same one. Else the names that are given decide.
    """
    name = _readable(text, r"[^A-Za-z0-9._-]+").replace("_-", "_") or "x"
    return _told_apart(name, text) if stable else name


def _told_apart(name: str, text: str) -> str:
    """Return a name that differs from those of other texts; upper case is no difference."""
    if name == text.lower():
        return name
    return f"{name}-{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def limit_name(text: str) -> str:
    """Return the name of a limit that reads like a text; ``requests`` for none."""
    return _readable(text, r"[^A-Za-z0-9_-]+").lstrip("_") or "requests"


def attribute_names(keys: Iterable[str], *, stable: bool = False) -> dict[str, str]:
    """Return attributes for those keys that cannot be their names; ``stable``: see ``segment``."""
    names, renamed = UniqueNames(), {}
    for key in sorted(set(keys), key=lambda key: (not _is_attribute(key), key)):
        name = key
        if not _is_attribute(key):
            name = _readable(key, r"[^A-Za-z0-9_.-]+") or "attribute"
            renamed[key] = name = _told_apart(name, key) if stable else name
        unique = names.name(name)
        if unique != name and key in renamed:
            renamed[key] = unique
    return renamed


def attributes_on(path: Sequence[str], names: Mapping[str, str]) -> list[str]:
    """Return the attributes of a descriptor with entries of these keys, in their order."""
    return list(attributes_of(((key, "") for key in path), names))


def _is_attribute(key: str) -> bool:
    return len(key) <= _LONGEST and _ATTRIBUTE.fullmatch(key) is not None


def _readable(text: str, others: str) -> str:
    """Return a text with a dash for each run of ``others``."""
    return re.sub(others, "-", text, flags=re.ASCII).strip("-.")[:_LONGEST].strip("-.")
