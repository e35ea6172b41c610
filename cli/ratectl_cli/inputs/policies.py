"""Policies and values named on the command line."""

from __future__ import annotations

import os
import re
import shlex
import sys
from typing import TYPE_CHECKING, Final

from ratectl.errors import PolicyError, UsageError
from ratectl.history.generations import read_live
from ratectl.history.trees import tree_to_compare
from ratectl.policy.language.instants import Instant
from ratectl.policy.language.scopes import checked_scope
from ratectl.policy.read import load_checked, load_for
from ratectl.policy.yaml.text import MAX_BYTES
from ratectl.publishing import reading
from ratectl.publishing.git_revision import load_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.engine.cost import Cost
    from ratectl.policy.language.model import PolicyTree
    from ratectl.policy.loading.loader import Loaded
    from ratectl.publishing.reading import PolicySource
    from ratectl_cli.framework.session import Session

__all__ = [
    "attributes_of", "base_tree", "cost_of", "instant_of", "read_checked", "read_for",
    "read_source", "read_stdin", "read_valid", "scope_of",
]  # fmt: skip

_MOST_DIGITS: Final = 18


def read_checked(paths: Sequence[str], base: PolicyTree | None = None) -> Loaded:
    """Load and check policies; ``-`` is standard input. ``base``: see ``check_tree``."""
    stdin = read_stdin() if "-" in paths else None
    return load_checked(paths, stdin=stdin, base=base)


def read_valid(paths: Sequence[str]) -> Loaded:
    """Load policies that an agent could run; values above a cap are clipped, as in agents.

    :raises PolicyError: they are not valid.
    """
    loaded = read_checked(paths)
    if not loaded.usable:
        raise PolicyError(loaded.diagnostics)
    return loaded


def read_for(scope: str, path: str) -> PolicyTree:
    """Load the policies that apply to a scope; other policies need not be valid.

    :raises PolicyError: the policies that apply are not valid.
    """
    loaded = load_for([path], scope, stdin=read_stdin() if path == "-" else None)
    if not loaded.usable:
        raise PolicyError(loaded.diagnostics)
    return loaded.tree


def read_source(path: str, *, part: bool = False, allow_empty: bool = False) -> PolicySource:
    """Read policies to publish from a path, or from standard input (``-``).

    :raises Refused, PolicyError: see ``ratectl.publishing.reading.read_source``.
    """
    stdin = read_stdin() if path == "-" else None
    return reading.read_source(path, stdin=stdin, part=part, allow_empty=allow_empty)


def base_tree(session: Session, paths: Sequence[str], named: str) -> PolicyTree | None:
    """Return the policies that ``--base`` names; None if there are none.

    ``named``: ``live``, or a revision of the repository that contains ``paths``.
    """
    if named == "live":
        with session.store() as store:
            live = read_live(store)
            if live.head is None:
                session.say("nothing is published yet: every value counts as new")
            earlier = tree_to_compare(store, live, session.warn)
            return None if earlier is None else earlier.tree
    loaded = load_at(paths, named)
    if loaded is None:
        session.say(f"{named} does not contain these policies: every value counts as new")
        return None
    if not loaded.ok:
        errors = [str(finding) for finding in loaded.diagnostics if finding.severity == "error"]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        session.warn(
            f"the policies at {named} are not valid; values that cannot be read count as new: "
            f"{errors[0]}{more}"
        )
    return loaded.tree


def attributes_of(given: Sequence[str]) -> dict[str, str]:
    """Return ``["tenant=acme"]`` as attributes.

    :raises UsageError: an item has another form, or a name is given twice.
    """
    attributes: dict[str, str] = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise UsageError(f"--attr {text!r} is not NAME=VALUE, like --attr tenant=acme")
        if name in attributes:
            twice = UsageError(f"--attr {name} is given twice")
            twice.add_note(f"give one value for {name}")
            raise twice
        attributes[name] = value
    return attributes


def cost_of(given: Sequence[str]) -> Cost:
    """Return ``["3"]`` or ``["tokens=4000", "bytes=10"]`` as a cost; 1 for an empty list.

    :raises UsageError: an item has another form, or a unit is given twice.
    """
    if len(given) == 1 and "=" not in given[0]:
        return _whole(given[0], given[0])
    costs: dict[str, int] = {}
    for text in given:
        unit, separator, number = text.partition("=")
        if not separator or not unit:
            raise UsageError(
                f"--cost {text!r} is not UNIT=NUMBER, like --cost tokens=4000; a number alone, of "
                "requests, is written once"
            )
        if unit in costs:
            raise UsageError(f"--cost {unit} is given twice")
        costs[unit] = _whole(number, text)
    return costs or 1


def _whole(number: str, text: str) -> int:
    plain = number.replace("_", "")
    whole = plain.isascii() and plain.isdigit()
    if whole and len(plain) > _MOST_DIGITS:
        raise UsageError(f"--cost has more than {_MOST_DIGITS} digits: write a smaller number")
    if not whole:
        raise UsageError(
            f"--cost must be a whole number, 0 or more, not {text!r}: write --cost "
            f"{_whole_part(number)}, or --cost tokens=4000"
        )
    return int(plain)


def _whole_part(number: str) -> int:
    """Return the whole part of a number, at least 1, for an example; 3 for other texts."""
    plain = re.fullmatch(r"([0-9]{1,9})\.[0-9]{1,9}", number)
    return max(int(plain[1]), 1) if plain else 3


def scope_of(text: str, command: str) -> str:
    """Return a scope that was named on the command line of ``command``.

    :raises UsageError: it is no scope.
    """
    if not text.startswith("/") and os.path.exists(text):  # noqa: PTH110
        kind = "folder" if os.path.isdir(text) else "file"  # noqa: PTH112
        error = UsageError(f"SCOPE is missing: {text!r} is a {kind}")
        error.add_note(
            f"write a scope first, like ratectl {command} /shop --policies {shlex.quote(text)}"
        )
        raise error
    return checked_scope(text)


def instant_of(option: str, text: str) -> Instant:
    """Return the instant that ``text`` denotes.

    :raises UsageError: it denotes none.
    """
    try:
        return Instant.parse(text)
    except ValueError as error:
        raise UsageError(f"{option} {error}") from None


def read_stdin() -> bytes:
    """Return the bytes of standard input: at most one more than a file of policies may have."""
    if sys.stdin.isatty():
        raise UsageError("'-' reads policies from standard input, which is a terminal")
    return sys.stdin.buffer.read(MAX_BYTES + 1)
