"""Bound on the size of a tree with all inherited limits written out; checked before resolution.

A few kilobytes can declare thousands of limits at ``/`` and thousands of scopes below, each of
which inherits all of the limits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.runtime.cooperative import breathe, paced

if TYPE_CHECKING:
    from ratectl.policy.language.model import Policy, PolicyTree

__all__ = ["MAX_IN_FORCE", "too_much_inherited"]

MAX_IN_FORCE: Final = 2_000_000
"""Maximum sum of limits and budgets in force over all declared scopes: 10,000 scopes × 200."""


def too_much_inherited(tree: PolicyTree) -> tuple[str, str] | None:
    """Return the scope that exceeds the bound and a message; None if the tree is within it.

    Limits that a scope unsets are counted too.
    """
    total = 0
    excepted: dict[str, set[str]] = {}
    for exception in tree.exceptions:
        excepted.setdefault(exception.scope, set()).update(exception.limits)
    path: list[tuple[Policy, set[str]]] = []
    names: dict[str, int] = {}  # limit on the path → number of documents there that name it
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
    """Return scopes in the order of their segments: all scopes below one follow it."""
    # NUL sorts before every character of a scope, and texts compare much faster than lists.
    keys = [scope.replace("/", "\0") for scope in paced(tree.policies)]
    keys.sort()
    breathe()
    return [key.replace("\0", "/") for key in paced(keys)]
