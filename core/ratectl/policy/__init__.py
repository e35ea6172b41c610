"""Policies: documents, their model, and what holds where. Pure but for reading files.

``load_valid`` is the way in: files to a tree that holds together, or every reason why not.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ratectl.errors import PolicyError

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from ratectl.policy.loader import Loaded

__all__ = ["load_checked", "load_valid"]


def load_checked(paths: Sequence[str | os.PathLike[str]], *, stdin: bytes | None = None) -> Loaded:
    """Load files and directories and run every rule; ``diagnostics`` holds all findings.

    The tree holds what could be read; publish it only if no diagnostic is an error.
    """
    from ratectl.policy.check import check_tree
    from ratectl.policy.loader import load, with_source_lines

    loaded = load(paths, stdin=stdin)
    semantic = with_source_lines(check_tree(loaded.tree, loaded.broken), loaded.texts)
    found = sorted([*loaded.diagnostics, *semantic], key=lambda finding: finding.sort_key)
    return replace(loaded, diagnostics=tuple(found))


def load_valid(paths: Sequence[str | os.PathLike[str]], *, stdin: bytes | None = None) -> Loaded:
    """Load files and directories that validate.

    :raises PolicyError: they do not; it carries every finding.
    """
    loaded = load_checked(paths, stdin=stdin)
    if any(finding.severity == "error" for finding in loaded.diagnostics):
        raise PolicyError(loaded.diagnostics)
    return loaded
