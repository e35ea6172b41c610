"""Read policy files and check the tree that they make.

``load_valid`` returns a valid tree, or raises an error that carries every finding.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from ratectl.diagnostics import Diagnostic, Span
from ratectl.errors import PolicyError
from ratectl.policy import codes
from ratectl.policy.language.scopes import nearest
from ratectl.policy.loading.loader import load, with_source_lines
from ratectl.policy.loading.on_path import load_on_path
from ratectl.policy.resolution.inherited_size import too_much_inherited
from ratectl.policy.validation.tests import check_tests
from ratectl.policy.validation.tree import check_tree
from ratectl.runtime.gc_pause import paused_collector

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from ratectl.policy.language.model import PolicyTree
    from ratectl.policy.loading.loader import Loaded

__all__ = ["check_loaded", "load_checked", "load_for", "load_valid"]

_ABOUT_ABSENCE = frozenset(
    {
        codes.INCOMPLETE,
        codes.UNSET_NOTHING,
        codes.CAP_UNUSED,
        codes.TEST_SCOPE,
        codes.TEST_LIMIT,
    }
)


def load_checked(
    paths: Sequence[str | os.PathLike[str]],
    *,
    stdin: bytes | None = None,
    base: PolicyTree | None = None,
) -> Loaded:
    """Load files and directories and run every rule; ``diagnostics`` holds all findings.

    The tree holds what could be read; publish it only if no diagnostic is an error. ``base``: an
    earlier state, whose values may stay above a cap that came later.
    """
    return check_loaded(load(paths, stdin=stdin), base)


def check_loaded(loaded: Loaded, base: PolicyTree | None = None) -> Loaded:
    """The same policies with the findings of every rule, as ``load_checked`` gives them."""
    too_much = too_much_inherited(loaded.tree)
    if too_much:
        semantic = [_too_large(loaded.tree, *too_much)]
    else:
        semantic = check_tree(loaded.tree, loaded.broken, time.time_ns(), base)
        semantic += check_tests(loaded.tree, loaded.tests, loaded.broken)
    if loaded.tests and loaded.ok and not loaded.tree.policies:
        semantic.append(_only_tests(loaded))
    if loaded.unread:
        # What is missing may stand in a file's unread rest.
        semantic = [each for each in semantic if each.code not in _ABOUT_ABSENCE]
    semantic = with_source_lines(semantic, loaded.texts)
    found = sorted([*loaded.diagnostics, *semantic], key=lambda finding: finding.sort_key)
    return replace(loaded, diagnostics=tuple(found))


def _too_large(tree: PolicyTree, scope: str, message: str) -> Diagnostic:
    hint = "define limits no higher than where they are needed"
    return Diagnostic(codes.TOO_LARGE, message, tree.span(scope, "scope"), hint=hint)


def load_for(
    paths: Sequence[str | os.PathLike[str]], scope: str, *, stdin: bytes | None = None
) -> Loaded:
    """Load what can concern ``scope``: in a large tree much sooner than everything.

    In a valid tree, ``scope`` resolves as it does in the whole. Findings are those of these
    documents; where they are not usable, or do not cover the scope, of all.
    """
    with paused_collector():
        loaded = load_on_path(paths, scope, stdin=stdin)
    if loaded is not None:
        loaded = check_loaded(loaded)
        if loaded.usable and nearest(scope, loaded.tree.policies) is not None:
            return loaded
    return load_checked(paths, stdin=stdin)


def _only_tests(loaded: Loaded) -> Diagnostic:
    message, hint = "there are only tests, and no policy to test", "give the policies' paths too"
    return Diagnostic(codes.NO_POLICIES, message, Span(loaded.files[0]), hint=hint)


def load_valid(paths: Sequence[str | os.PathLike[str]], *, stdin: bytes | None = None) -> Loaded:
    """Load files and directories that validate.

    :raises PolicyError: they do not; it carries every finding.
    """
    loaded = load_checked(paths, stdin=stdin)
    if not loaded.ok:
        raise PolicyError(loaded.diagnostics)
    return loaded
