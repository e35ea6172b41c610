"""Reading policies for a command: from files and standard input, or from the store."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.errors import BundleError, NotFound, PolicyError, UsageError
from ratectl_cli.errors import NothingPublished, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.history.generations import Live
    from ratectl.policy.language.instants import Instant
    from ratectl.policy.language.model import PolicyTree
    from ratectl.policy.loading.loader import Loaded
    from ratectl.publishing.saved_plan import SavedPlan
    from ratectl.records import HistoryEntry
    from ratectl.stores.base import Store
    from ratectl_cli.framework.session import Session

__all__ = [
    "LiveTree",
    "attributes_of",
    "base_tree",
    "entry_of",
    "instant_of",
    "live_tree",
    "publishable",
    "read_checked",
    "read_for",
    "read_plan",
    "read_stdin",
    "read_usable",
    "read_valid",
    "scope_of",
    "tree_to_compare",
]

_MAX_PLAN: Final = 1024**3
"""Bytes of a saved plan: four times what a bundle may have."""
_REMOVES_ALL: Final = ": publishing it would remove every limit"


class LiveTree(NamedTuple):
    """The policies of a generation, and its number."""

    generation: int
    tree: PolicyTree


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


def read_plan(path: str) -> SavedPlan | None:
    """The saved plan that lies at ``path``; None where that is something else.

    :raises BundleError: it is one, but damaged, or of another version.
    """
    import os

    from ratectl.publishing.saved_plan import SavedPlan, is_plan
    from ratectl.runtime.files import read_file

    if path == "-" or not os.path.isfile(path):  # noqa: PTH113  False also where one may not look
        return None
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            if not is_plan(file.read(4096)):
                return None
        return SavedPlan.decode(read_file(path, _MAX_PLAN))
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from None
    except OSError:
        return None  # reading it as policies says what is wrong


def read_usable(path: str, *, empty: bool = False, part: bool = False) -> Loaded:
    """Load policies without rules that need the live generation, of which there is at least one,
    unless there may be none (``empty``).

    ``publishable`` judges the rest; of a ``part`` of a tree, everything that is between documents.

    :raises Refused: there is nothing.
    :raises PolicyError: they do not validate, whatever is live.
    """
    from ratectl.policy import codes
    from ratectl.policy.loading.loader import load
    from ratectl.policy.read import check_loaded

    nothing: Final = {codes.NO_FILES, codes.NO_POLICIES, codes.EMPTY_FILE}
    loaded = load([path], stdin=read_stdin() if path == "-" else None)
    checked = loaded if part else check_loaded(loaded)
    if part and loaded.ok and not (loaded.tree.policies or loaded.tree.exceptions or empty):
        raise Refused(f"nothing to apply in {path}: there are only tests")
    if not checked.usable:
        errors = [found for found in checked.diagnostics if found.severity == "error"]
        if all(found.code in nothing for found in errors):
            if empty:
                return replace(loaded, diagnostics=())
            raise Refused(
                f"nothing to apply in {path}{'' if part else _REMOVES_ALL}",
                checked.diagnostics,
            )
        raise PolicyError(checked.diagnostics)
    return loaded


def publishable(loaded: Loaded, live: PolicyTree | None) -> Loaded:
    """The same policies, judged against what is live.

    :raises PolicyError: a value that is new or changed exceeds a cap.
    """
    from ratectl.policy.read import check_loaded

    checked = check_loaded(loaded, live)
    if not checked.ok:
        raise PolicyError(checked.diagnostics)
    return checked


def base_tree(session: Session, paths: Sequence[str], named: str) -> PolicyTree | None:
    """The state that ``--base`` names: ``live``, or a revision of the repository of ``paths``."""
    if named == "live":
        from ratectl.history.generations import read_live

        with session.store() as store:
            live = read_live(store)
            if live.head is None:
                session.say("nothing is published yet: every value counts as new")
            return tree_to_compare(session, store, live)
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


def live_tree(store: Store) -> LiveTree:
    """The live generation's policies.

    :raises NothingPublished: there is none.
    """
    from ratectl.history.generations import live_entry, read_live, read_tree

    live = read_live(store)
    if live.head is None:
        raise NothingPublished(store.url)
    return LiveTree(live.generation, read_tree(store, live_entry(store, live)))


def tree_to_compare(session: Session, store: Store, live: Live) -> PolicyTree | None:
    """The live policies; None where there are none, or none that can be read.

    A damaged generation must not keep anybody from publishing a good one. The head names the
    policies as well: where only the history entry is damaged, guards still compare with them.
    """
    from ratectl.history.generations import live_entry, read_blob, read_tree
    from ratectl.policy.bundle import decode_policies

    if live.head is None:
        return None
    try:
        try:
            entry = live_entry(store, live)
        except (BundleError, NotFound):
            return decode_policies(read_blob(store, live.head.bundle))
        return read_tree(store, entry)
    except (BundleError, NotFound) as error:
        session.warn(f"generation {live.generation} cannot be read: {error}")
        return None


def entry_of(store: Store, generation: int | None) -> HistoryEntry:
    """The history entry of a generation; of the live one for None.

    :raises UsageError: there is no generation of this number.
    """
    from ratectl.history.generations import highest_generation, read_base, read_entry

    live = read_base(store)
    if live.head is None and (generation is None or not highest_generation(store)):
        raise (
            NothingPublished(store.url) if live.unreadable is None else BundleError(live.unreadable)
        )
    try:
        return read_entry(store, live.generation if generation is None else generation)
    except NotFound as error:
        if generation is None:
            raise
        raise UsageError(str(error)) from error


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
