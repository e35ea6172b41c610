"""Policies and values named on the command line."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ratectl.errors import PolicyError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.policy.language.instants import Instant
    from ratectl.policy.language.model import PolicyTree
    from ratectl.policy.loading.loader import Loaded
    from ratectl.publishing.reading import PolicySource
    from ratectl_cli.framework.session import Session

__all__ = [
    "attributes_of", "base_tree", "instant_of", "read_checked", "read_for", "read_source",
    "read_stdin", "read_valid", "scope_of",
]  # fmt: skip


def read_checked(paths: Sequence[str], base: PolicyTree | None = None) -> Loaded:
    """Load and check; ``-`` is standard input. ``base``: an earlier state (``check_tree``)."""
    from ratectl.policy.read import load_checked

    stdin = read_stdin() if "-" in paths else None
    return load_checked(paths, stdin=stdin, base=base)


def read_valid(paths: Sequence[str]) -> Loaded:
    """Load policies that an agent could run: values above a cap are clipped, as agents do.

    :raises PolicyError: they do not validate.
    """
    loaded = read_checked(paths)
    if not loaded.usable:
        raise PolicyError(loaded.diagnostics)
    return loaded


def read_for(scope: str, path: str) -> PolicyTree:
    """The policies that concern a scope; others need not even be valid.

    :raises PolicyError: they are not.
    """
    from ratectl.policy.read import load_for

    loaded = load_for([path], scope, stdin=read_stdin() if path == "-" else None)
    if not loaded.usable:
        raise PolicyError(loaded.diagnostics)
    return loaded.tree


def read_source(path: str, *, part: bool = False, allow_empty: bool = False) -> PolicySource:
    """Read policies to publish from a path, or from standard input (``-``).

    :raises Refused, PolicyError: see ``ratectl.publishing.reading.read_source``.
    """
    from ratectl.publishing import reading

    stdin = read_stdin() if path == "-" else None
    return reading.read_source(path, stdin=stdin, part=part, allow_empty=allow_empty)


def base_tree(session: Session, paths: Sequence[str], named: str) -> PolicyTree | None:
    """The state that ``--base`` names: ``live``, or a revision of the repository of ``paths``."""
    if named == "live":
        from ratectl.history.generations import read_live
        from ratectl.history.trees import tree_to_compare

        with session.store() as store:
            live = read_live(store)
            if live.head is None:
                session.say("nothing is published yet: every value counts as new")
            earlier = tree_to_compare(store, live, session.warn)
            return None if earlier is None else earlier.tree
    from ratectl.publishing.git_revision import load_at

    loaded = load_at(paths, named)
    if loaded is None:
        session.say(f"there are no such policies at {named}: every value counts as new")
        return None
    if not loaded.ok:
        errors = [str(found) for found in loaded.diagnostics if found.severity == "error"]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        session.warn(
            f"the policies at {named} are not valid; what cannot be read there counts as new: "
            f"{errors[0]}{more}"
        )
    return loaded.tree


def scope_of(text: str) -> str:
    """``text`` if it is a scope.

    :raises UsageError: it is not.
    """
    from ratectl.policy.language.scopes import scope_problem

    problem = scope_problem(text)
    if problem:
        raise UsageError(f"{text!r} is not a scope: {problem}")
    return text


def attributes_of(given: Sequence[str]) -> dict[str, str]:
    """``["tenant=acme"]`` as attributes.

    :raises UsageError: one is not of this form, or given twice.
    """
    found: dict[str, str] = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise UsageError(f"--attr {text!r} is not NAME=VALUE, like --attr tenant=acme")
        if name in found:
            raise UsageError(f"--attr {name} is given twice")
        found[name] = value
    return found


def instant_of(option: str, text: str) -> Instant:
    """``text`` if it is an instant.

    :raises UsageError: it is not.
    """
    from ratectl.policy.language.instants import Instant

    try:
        return Instant.parse(text)
    except ValueError as error:
        raise UsageError(f"{option} {error}") from None


def read_stdin() -> bytes:
    """The bytes of standard input: at most one more than a file of policies may have."""
    from ratectl.policy.yaml.text import MAX_BYTES

    if sys.stdin.isatty():
        raise UsageError("'-' reads policies from standard input, which is a terminal")
    return sys.stdin.buffer.read(MAX_BYTES + 1)
