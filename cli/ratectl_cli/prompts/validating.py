"""`ratectl validate`: check policies and print the findings in one of many formats."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ratectl_cli.framework.text import plural
from ratectl_cli.inputs.policies import base_tree, read_checked
from ratectl_cli.inputs.selection import Selection
from ratectl_cli.prompts.fixing import fixed_files
from ratectl_cli.render.formats import render
from ratectl_cli.render.formats.github import summary
from ratectl_cli.render.validation import Validated, headline, validation_blocks, validation_data

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.diagnostics import Severity
    from ratectl_cli.framework.session import Session

__all__ = ["validated"]


def validated(
    session: Session,
    paths: Sequence[str],
    *,
    form: str,
    fail_level: Severity,
    select: Sequence[str],
    ignore: Sequence[str],
    base: str | None,
    fix: bool = False,
) -> int:
    """Check the policies at some paths, print the findings; return the exit code.

    ``fix``: repair first what is certain.

    ``form``: ``full``, or one of ``ratectl_cli.render.formats.FORMATS``.
    """
    selection = Selection.of(select, ignore)
    with session.busy("reading policies"):
        earlier = None if base is None else base_tree(session, paths, base)
    # After all that can fail for its arguments: then no file is changed.
    fixed = fixed_files(session, paths) if fix else None
    with session.busy("reading policies"):
        loaded = read_checked(paths, earlier)
    selected = selection.apply(loaded.diagnostics)
    failing = ("error",) if fail_level == "error" else ("error", "warning")
    result = Validated(
        loaded=loaded,
        shown=selected.shown,
        hidden=selected.hidden,
        fail_level=fail_level,
        base=base,
        fixed=fixed,
        passed=all(finding.severity not in failing for finding in selected.shown),
    )
    if selected.insisted:
        session.warn(
            f"{plural(selected.insisted, 'error')} of RC1xx cannot be hidden: "
            "a file with such an error cannot be read"
        )
    if session.text and form != "full":
        _print(session, form, result)
    else:
        unfold = bool(session.options.verbose)
        session.answer(
            "Validation",
            validation_data(result),
            lambda: validation_blocks(result, session.out, unfold=unfold),
        )
    return 0 if result.passed else 1


def _print(session: Session, form: str, result: Validated) -> None:
    session.emit(render(form, result.shown, result.loaded.files, result.fail_level))
    if form in ("concise", "github"):
        session.show([headline(result)])
    step_summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if form == "github" and step_summary:
        _add_summary(session, Path(step_summary), result)


def _add_summary(session: Session, file: Path, result: Validated) -> None:
    """Add all findings to the summary of a step in GitHub Actions."""
    words = "".join(piece if isinstance(piece, str) else piece.text for piece in headline(result))
    try:
        with file.open("a", encoding="utf-8") as out:
            out.write(summary(result.shown, words))
    except OSError as error:
        session.warn(f"no summary for the step: {(error.strerror or str(error)).lower()}")
