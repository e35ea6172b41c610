"""How large a tree is when what scopes inherit is written out: bounded before it is resolved.

A few kilobytes can say thousands of limits at ``/`` and declare thousands of scopes below, each of
which inherits them all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.runtime.cooperative import breathe, paced

if TYPE_CHECKING:
    from ratectl.policy.language.model import Policy, PolicyTree

__all__ = ["MAX_IN_FORCE", "too_much_inherited"]

MAX_IN_FORCE: Final = 2_000_000
"""Limits and budgets in force, added up over all declared scopes: 10,000 scopes of 200 each."""


def too_much_inherited(tree: PolicyTree) -> tuple[str, str] | None:
    """The scope with which the bound is passed and what to say of it; None where all is well.

    A limit that a scope unsets counts all the same.
    """
    total = 0
    excepted: dict[str, set[str]] = {}
    for exception in tree.exceptions:
        excepted.setdefault(exception.scope, set()).update(exception.limits)
    path: list[tuple[Policy, set[str]]] = []
    names: dict[str, int] = {}  # limits of the path, by how many of its documents name them
    budgets = 0
    for scope in paced(_in_order(tree)):
        while path and not f"{scope}/".startswith(f"{path[-1][0].scope.rstrip('/')}/"):
            left, named = path.pop()
            for name in named:
                names[name] -= 1
                if not names[name]:
                    del names[name]
            budgets -= len(left.budgets)
        policy = tree.policies[scope]
        named = set(policy.limits) | excepted.get(scope, set())
        named.update(name for override in policy.overrides for name in override.limits)
        path.append((policy, named))
        for name in named:
            names[name] = names.get(name, 0) + 1
        budgets += len(policy.budgets)
        total += len(names) + budgets
        if total > MAX_IN_FORCE:
            return scope, f"the scopes inherit more than {MAX_IN_FORCE} limits and budgets in all"
    return None


def _in_order(tree: PolicyTree) -> list[str]:
    """Scopes by their segments: each is followed by all that are below it."""
    # No character of a scope comes before NUL, and texts are compared much faster than lists.
    keys = [scope.replace("/", "\0") for scope in paced(tree.policies)]
    keys.sort()
    breathe()
    return [key.replace("\0", "/") for key in paced(keys)]
