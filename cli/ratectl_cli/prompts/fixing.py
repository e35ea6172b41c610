"""`ratectl validate --fix`: repair what is certain in the files of policies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ratectl.diagnostics import Diagnostic, Span
from ratectl.errors import UsageError
from ratectl.policy.format.repairs import repaired_file
from ratectl.policy.loading.files import STDIN, find_sources
from ratectl.runtime.whole_files import write_whole
from ratectl_cli.framework.deadline import tidy
from ratectl_cli.framework.text import bold
from ratectl_cli.render.validation import Fixed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl_cli.framework.session import Session

__all__ = ["fixed_files"]


def fixed_files(session: Session, paths: Sequence[str]) -> list[Fixed]:
    """Repair the files at some paths, and print each repair on standard error.

    :raises UsageError: standard input is one of the paths.
    """
    if STDIN in paths:
        raise UsageError("--fix changes files: '-' is standard input")
    fixed: list[Fixed] = []
    sources = find_sources(paths, None)
    for name, data in sources.read_all():
        place = sources.paths[name]
        if isinstance(data, Diagnostic) or place is None:
            continue
        better, repairs = repaired_file(data)
        if repairs:
            tidy(write_whole)(Path(place.real), better)
        for repair in repairs:
            width = len(repair.before)
            span = Span(name, repair.line, repair.column, repair.column + width)
            fixed.append(Fixed(span, repair.before, repair.after))
            session.say([bold("fixed ", "green"), f"{span}: {repair.before} → {repair.after}"])
    return fixed
