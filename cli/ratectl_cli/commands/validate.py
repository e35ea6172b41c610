"""``ratectl validate``."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ratectl_cli.session import Session, session_of
from ratectl_cli.text import Line, bold, plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.policy.loader import Loaded
    from ratectl_cli.text import Block

Paths = Annotated[
    list[str], typer.Argument(metavar="PATH", help="Files, directories, or - for stdin.")
]


def validate(ctx: typer.Context, paths: Paths) -> int:
    """Check policy files and report every problem at once.

    Reads .yaml and .yml files, also below directories; hidden ones are skipped. Needs no store.
    Warnings do not fail.

    Examples:
      ratectl validate policies/
      ratectl validate policies/ -o json | jq '.diagnostics[].message'
      git show HEAD:policies/global.yaml | ratectl validate -

    Exit codes:
      0   no errors
      1   errors, or nothing to validate
      64  wrong arguments
    """
    from ratectl_cli.policies import read_checked

    session = session_of(ctx)
    with session.busy("reading policies"):
        loaded = read_checked(paths)
    session.answer("Validation", _data(loaded), lambda: _blocks(loaded, session))
    return 0 if loaded.ok else 1


def _data(loaded: "Loaded") -> dict[str, Any]:
    from ratectl_cli.render.diagnostics import count, diagnostic_data

    policies = loaded.tree.policies.values()
    return {
        "valid": loaded.ok,
        "errors": count(loaded.diagnostics, "error"),
        "warnings": count(loaded.diagnostics, "warning"),
        "files": list(loaded.files),
        "scopes": len(policies),
        "limits": sum(len(policy.limits) for policy in policies),
        "diagnostics": [diagnostic_data(found) for found in loaded.diagnostics],
    }


def _blocks(loaded: "Loaded", session: Session) -> "Iterator[Block]":
    from ratectl_cli.render.diagnostics import diagnostic_blocks, tally

    yield from diagnostic_blocks(
        loaded.diagnostics, session.out, unfold=bool(session.options.verbose)
    )
    files = plural(len(loaded.files), "file")
    if loaded.ok:
        data = _data(loaded)
        declared = f"{plural(data['scopes'], 'scope')} and {plural(data['limits'], 'limit')}"
        warnings = f", {tally(loaded.diagnostics)}" if loaded.diagnostics else ""
        line: Line = [bold("valid", "green"), f": {declared} in {files}{warnings}"]
    else:
        line = [bold("invalid", "red"), f": {tally(loaded.diagnostics)} in {files}"]
    yield line


__all__ = ["validate"]
