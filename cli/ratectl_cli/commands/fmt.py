"""``ratectl fmt``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ratectl.errors import PolicyError, UsageError
from ratectl.runtime.whole_files import write_whole
from ratectl_cli.framework.deadline import tidy
from ratectl_cli.framework.session import Session, session_of
from ratectl_cli.framework.text import bold, plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl_cli.framework.text import Block

Paths = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PATH",
        help="Files, directories, or - from stdin to stdout.  [default: ./policies]",
        show_default=False,
    ),
]


@dataclass(slots=True)
class _Result:
    """What was done, or would be."""

    check: bool
    changed: list[str] = field(default_factory=list)
    unchanged: int = 0
    kept: list[tuple[str, int]] = field(default_factory=list)


def fmt(
    ctx: typer.Context,
    paths: Paths = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 if a file would change.")
    ] = False,
) -> int:
    """Write policy files in their canonical form.

    Fields in the order of the language, rates as 10/min, one layout. Comments and blank lines
    stay, and so does the meaning: it is compared before a file is written. Files with errors are
    refused, all of them.

    Examples:
      ratectl fmt
      ratectl fmt --check policies/
      ratectl fmt - < draft.yaml

    Exit codes:
      0   formatted, or nothing to do
      1   files would change (with --check)
      64  wrong arguments
      65  a file has errors
    """
    session = session_of(ctx)
    names = paths or ["policies"]
    if "-" in names:
        if len(names) > 1:
            raise UsageError("'-' goes to standard output: give no other path")
        return _stream(session, check)
    result = _files(session, names, _Result(check))
    data = {
        "check": check,
        "changed": result.changed,
        "unchanged": result.unchanged,
        "kept": [{"file": name, "line": line} for name, line in result.kept],
    }
    session.answer("Format", data, lambda: _blocks(result))
    return 1 if check and result.changed else 0


def _files(session: Session, names: list[str], result: _Result) -> _Result:
    """Format the files, or see whether they would change."""
    from ratectl.diagnostics import Diagnostic
    from ratectl.policy.loading.files import find_sources
    from ratectl.policy.loading.loader import load

    with session.busy("formatting policies"):
        loaded = load(names)
        if not loaded.ok:
            raise PolicyError(loaded.diagnostics)
        sources = find_sources(names, None)
        changes: dict[str, str] = {}
        for name, data in sources.read_all():
            if isinstance(data, Diagnostic):  # gone since it was loaded
                raise PolicyError([data])
            text, kept = _formatted(data)
            result.kept += [(name, line) for line in kept]
            if text.encode() == data:
                result.unchanged += 1
            else:
                changes[name] = text
        result.changed += changes
        for name, text in changes.items():
            place = sources.paths[name]
            if place is not None and not result.check:
                tidy(write_whole)(Path(place.real), text.encode())
    _remark(session, result.kept)
    return result


def _stream(session: Session, check: bool) -> int:
    """Format standard input to standard output."""
    from ratectl.policy.loading.loader import load
    from ratectl_cli.inputs.policies import read_stdin

    data = read_stdin()
    loaded = load(["-"], stdin=data)
    if not loaded.ok:
        raise PolicyError(loaded.diagnostics)
    text, kept = _formatted(data)
    _remark(session, [("<stdin>", line) for line in kept])
    changed = text.encode() != data
    if session.text and not check:
        session.emit(text)
    else:
        document: dict[str, Any] = {"check": check, "changed": ["<stdin>"] if changed else []}
        result = _Result(check, document["changed"], int(not changed))
        session.answer("Format", {**document, "text": text}, lambda: _blocks(result))
    return 1 if check and changed else 0


def _formatted(data: bytes) -> tuple[str, tuple[int, ...]]:
    """The canonical text; the very same if its meaning would not be."""
    from ratectl.policy.bundle import encode_policies
    from ratectl.policy.format import format_text
    from ratectl.policy.loading.loader import load

    formatted = format_text(data.decode("utf-8-sig"))
    before, after = load(["-"], stdin=data), load(["-"], stdin=formatted.text.encode())
    same = (
        after.ok == before.ok
        and encode_policies(after.tree) == encode_policies(before.tree)
        and [each.test for each in after.tests] == [each.test for each in before.tests]
    )
    return (formatted.text, formatted.kept) if same else (data.decode(), (1,))


def _remark(session: Session, kept: list[tuple[str, int]]) -> None:
    for name, line in kept:
        session.warn(
            f"{name}:{line}: this document stays as it is, or a comment would be lost: "
            "move comments out of { } and [ ], and from behind anchors"
        )


def _blocks(result: _Result) -> "Iterator[Block]":
    word = bold("would format ", "yellow") if result.check else bold("formatted ", "green")
    for name in result.changed:
        yield [word, name]
    total = plural(len(result.changed) + result.unchanged, "file")
    would = "would change" if result.check else "changed"
    yield f"{len(result.changed)} of {total} {would}"


__all__ = ["fmt"]
