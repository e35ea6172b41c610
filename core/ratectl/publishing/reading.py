"""Read the policies that somebody wants to publish: files, standard input, or a saved plan."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ratectl.errors import PolicyError, Refused
from ratectl.policy import codes
from ratectl.policy.loading.loader import load
from ratectl.policy.read import check_loaded

if TYPE_CHECKING:
    from ratectl.policy.language.model import PolicyTree
    from ratectl.policy.loading.loader import Loaded

__all__ = ["PolicySource", "publishable", "read_source"]

_NOTHING: Final = {codes.NO_FILES, codes.NO_POLICIES, codes.EMPTY_FILE}
_REMOVES_ALL: Final = ": publishing it would remove every limit"


@dataclass(frozen=True, slots=True)
class PolicySource:
    """Policies that were read, and the path that they were read from (``-``: standard input)."""

    path: str
    loaded: Loaded


def read_source(
    path: str | os.PathLike[str],
    *,
    stdin: bytes | None = None,
    part: bool = False,
    allow_empty: bool = False,
) -> PolicySource:
    """Read policies, and run the rules that do not need the live generation.

    ``publishable`` runs the other rules. ``part``: the policies are only a part of a tree (a set),
    so no rule about relations between documents is run yet. ``allow_empty``: there may be none.

    :raises Refused: there are no policies.
    :raises PolicyError: the policies are invalid, whatever is live.
    """
    name = os.fspath(path)
    loaded = load([name], stdin=stdin)
    checked = loaded if part else check_loaded(loaded)
    tree = loaded.tree
    if part and loaded.ok and not (tree.policies or tree.exceptions or allow_empty):
        raise Refused(f"nothing to apply in {name}: there are only tests")
    if checked.usable:
        return PolicySource(name, loaded)
    errors = [each for each in checked.diagnostics if each.severity == "error"]
    if any(each.code not in _NOTHING for each in errors):
        raise PolicyError(checked.diagnostics)
    if not allow_empty:
        raise Refused(
            f"nothing to apply in {name}{'' if part else _REMOVES_ALL}", checked.diagnostics
        )
    return PolicySource(name, replace(loaded, diagnostics=()))


def publishable(loaded: Loaded, live: PolicyTree | None) -> Loaded:
    """Return the policies with the findings of every rule, given what is live.

    :raises PolicyError: a value that is new or changed exceeds a cap, or another rule is broken.
    """
    checked = check_loaded(loaded, live)
    if not checked.ok:
        raise PolicyError(checked.diagnostics)
    return checked
