"""`ratectl validate --fix`: repair what is certain in the files of policies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.diagnostics import Diagnostic, Span
from ratectl.errors import UsageError
from ratectl.policy.format.repairs import repaired_file
from ratectl.policy.loading.files import STDIN, find_sources
from ratectl_cli.framework.text import bold
from ratectl_cli.prompts.rewriting import rewrite
from ratectl_cli.render.validation import Fixed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.policy.format.repairs import Repair
    from ratectl_cli.framework.session import Session

__all__ = ["fixed_files"]


def fixed_files(session: Session, paths: Sequence[str]) -> list[Fixed]:
    """Repair the files at some paths: all of them, or none. Print each repair on standard error.

    :raises UsageError: standard input is one of the paths.
    :raises OSError: a file cannot be written.
    """
    if STDIN in paths:
        raise UsageError("--fix changes files: '-' is standard input")
    sources = find_sources(paths, None)
    fixed: list[Fixed] = []
    changes: dict[str, bytes] = {}
    for name, data in sources.read_all():
        if isinstance(data, Diagnostic):
            continue
        better, repairs = repaired_file(data)
        if repairs:
            changes[name] = better
        fixed += (_fixed(name, repair) for repair in repairs)
    rewrite(sources, changes)
    for fix in fixed:
        session.say([bold("fixed ", "green"), f"{fix.span}: {fix.before} → {fix.after}"])
    return fixed


def _fixed(name: str, repair: Repair) -> Fixed:
    end = repair.column + len(repair.before)
    return Fixed(Span(name, repair.line, repair.column, end), repair.before, repair.after)
