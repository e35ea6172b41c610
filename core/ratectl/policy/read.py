"""Read policy files and check the resulting tree.

``load_valid`` returns a valid tree, or raises an error with every finding.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from ratectl.diagnostics import Diagnostic, Span
from ratectl.errors import PolicyError
from ratectl.policy import codes
from ratectl.policy.language.scopes import nearest
from ratectl.policy.loading.files import Sources
from ratectl.policy.loading.loader import load, load_sources, with_source_lines
from ratectl.policy.loading.on_path import load_on_path
from ratectl.policy.resolution.inherited_size import too_much_inherited
from ratectl.policy.validation.ignoring import ignored_by_comments
from ratectl.policy.validation.names import check_test_names
from ratectl.policy.validation.tests import check_tests
from ratectl.policy.validation.tree import check_tree
from ratectl.runtime.gc_pause import paused_collector

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from ratectl.policy.language.model import PolicyTree
    from ratectl.policy.loading.loader import Loaded

__all__ = ["check_loaded", "load_checked", "load_for", "load_valid", "load_valid_text"]

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

    The tree has the documents without errors; publish it only if no finding is an error. ``base``:
    an earlier tree; its values may stay above a cap that was lowered since.
    """
    return check_loaded(load(paths, stdin=stdin), base)


def check_loaded(loaded: Loaded, base: PolicyTree | None = None) -> Loaded:
    """Return the loaded policies with the findings of every rule, as ``load_checked`` does."""
    too_much = too_much_inherited(loaded.tree)
    if too_much:
        semantic = [_too_large(loaded.tree, *too_much)]
    else:
        semantic = check_tree(loaded.tree, loaded.broken, time.time_ns(), base)
        semantic += check_tests(loaded.tree, loaded.tests, loaded.broken)
        semantic += check_test_names(loaded.tree, loaded.tests)
    if loaded.tests and loaded.ok and not loaded.tree.policies:
        semantic.append(_only_tests(loaded))
    if loaded.unread:
        # The unread rest of a file may have what is missing.
        semantic = [finding for finding in semantic if finding.code not in _ABOUT_ABSENCE]
    kept, ignored = ignored_by_comments([*loaded.diagnostics, *semantic], loaded.raw)
    findings = sorted(with_source_lines(kept, loaded.texts), key=lambda finding: finding.sort_key)
    return replace(loaded, diagnostics=tuple(findings), ignored=tuple(ignored))


def _too_large(tree: PolicyTree, scope: str, message: str) -> Diagnostic:
    hint = "define limits at the scopes that need them, not at a scope above"
    return Diagnostic(codes.TOO_LARGE, message, tree.span(scope, "scope"), hint=hint)


def load_for(
    paths: Sequence[str | os.PathLike[str]], scope: str, *, stdin: bytes | None = None
) -> Loaded:
    """Load the documents that matter for ``scope``: in a large tree much faster than all.

    In a valid tree, ``scope`` resolves as in the whole tree. Findings are about these documents
    only; if they are not usable, or do not cover the scope, all documents are loaded.
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
    """Load files and directories, which must be valid.

    :raises PolicyError: they are not valid; it has every finding.
    """
    return _valid(load_checked(paths, stdin=stdin))


def load_valid_text(text: str) -> Loaded:
    """Load the documents of a text in YAML, which must be valid.

    :raises PolicyError: they are not valid; it has every finding.
    """
    data = text.encode("utf-8", "surrogatepass")
    return _valid(check_loaded(load_sources(Sources.of({"<policies>": data}))))


def _valid(loaded: Loaded) -> Loaded:
    if not loaded.ok:
        raise PolicyError(loaded.diagnostics)
    return loaded
