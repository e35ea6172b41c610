"""Syntax trees of source files."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from ratectl.runtime.gc_pause import paused_collector

if TYPE_CHECKING:
    from pathlib import Path


def syntax_tree(path: Path) -> ast.Module:
    """Return the syntax tree of a Python file.

    CPython 3.11 counts the depth of its recursion wrongly if a pass of the collector, and with it
    a finalizer or another thread, comes between (python/cpython#106905).
    """
    with paused_collector():
        return ast.parse(path.read_text("utf-8"))
