"""`ratectl fmt`: write files in their canonical form, or see whether they would change."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ratectl.diagnostics import Diagnostic
from ratectl.errors import PolicyError
from ratectl.policy.bundle import encode_policies
from ratectl.policy.format import format_text
from ratectl.policy.loading.files import find_sources
from ratectl.policy.loading.loader import load
from ratectl_cli.framework.text import bold, plural
from ratectl_cli.inputs.policies import read_stdin
from ratectl_cli.prompts.rewriting import rewrite
from ratectl_cli.render.unified import painted_diff, unified_diff

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ratectl_cli.framework.session import Session
    from ratectl_cli.framework.text import Block

__all__ = ["files_formatted", "stream_formatted"]


@dataclass(slots=True)
class _Result:
    """Files that were formatted, or would be with ``check``."""

    check: bool
    """True if nothing is written."""
    changed: list[str] = field(default_factory=list)
    unchanged: int = 0
    kept: list[tuple[str, int]] = field(default_factory=list)
    """File and line of each document that was left as it is."""
    diff: str = ""
    """Unified diff of the changed files."""


def files_formatted(session: Session, paths: Sequence[str], *, check: bool, diff: bool) -> int:
    """Format files; return the exit code. ``check``, ``diff``: write nothing."""
    result = _format_files(session, paths, _Result(check or diff))
    data = {
        "check": result.check,
        "changed": result.changed,
        "unchanged": result.unchanged,
        "kept": [{"file": name, "line": line} for name, line in result.kept],
    }
    _answer(session, {**data, "diff": result.diff} if diff else data, result, diff=diff)
    return 1 if result.check and result.changed else 0


def _answer(session: Session, data: dict[str, Any], result: _Result, *, diff: bool) -> None:
    """Print the result; with ``diff``, standard output holds the diff and nothing else."""
    if session.text and diff:
        session.emit(painted_diff(result.diff, colour=session.out.colour))
        session.say(_total(result))
    else:
        session.answer("Format", data, lambda: _blocks(result))


def _format_files(session: Session, paths: Sequence[str], result: _Result) -> _Result:
    """Format files, or with ``check`` see whether they would change."""
    with session.busy("formatting policies"):
        loaded = load(paths)
        if not loaded.ok:
            raise PolicyError(loaded.diagnostics)
        sources = find_sources(paths, None)
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
                if result.check:
                    result.diff += unified_diff(name, data.decode("utf-8-sig"), text)
        result.changed += changes
        if not result.check:
            rewrite(sources, {name: text.encode() for name, text in changes.items()})
    _warn_of_kept(session, result.kept)
    return result


def stream_formatted(session: Session, *, check: bool, diff: bool) -> int:
    """Format standard input to standard output; return the exit code."""
    data = read_stdin()
    loaded = load(["-"], stdin=data)
    if not loaded.ok:
        raise PolicyError(loaded.diagnostics)
    text, kept = _formatted(data)
    _warn_of_kept(session, [("<stdin>", line) for line in kept])
    changed = text.encode() != data
    result = _Result(check or diff, ["<stdin>"] if changed else [], int(not changed))
    if session.text and not result.check:
        session.emit(text)
        return 0
    document: dict[str, Any] = {"check": result.check, "changed": result.changed, "text": text}
    if diff:
        result.diff = unified_diff("<stdin>", data.decode("utf-8-sig"), text) if changed else ""
        document["diff"] = result.diff
    _answer(session, document, result, diff=diff)
    return 1 if result.check and changed else 0


def _formatted(data: bytes) -> tuple[str, tuple[int, ...]]:
    """Return the canonical text, and the lines of documents that were left as they are.

    Returns the text unchanged if formatting would change its meaning.
    """
    formatted = format_text(data.decode("utf-8-sig"))
    before, after = load(["-"], stdin=data), load(["-"], stdin=formatted.text.encode())
    same = (
        after.ok == before.ok
        and encode_policies(after.tree) == encode_policies(before.tree)
        and [item.test for item in after.tests] == [item.test for item in before.tests]
    )
    return (formatted.text, formatted.kept) if same else (data.decode(), (1,))


def _warn_of_kept(session: Session, kept: Sequence[tuple[str, int]]) -> None:
    for name, line in kept:
        session.warn(
            f"{name}:{line}: this document is unchanged, because a comment would be lost: "
            "move comments out of { } and [ ], and away from anchors"
        )


def _blocks(result: _Result) -> Iterator[Block]:
    word = bold("would format ", "yellow") if result.check else bold("formatted ", "green")
    for name in result.changed:
        yield [word, name]
    yield _total(result)


def _total(result: _Result) -> str:
    total = plural(len(result.changed) + result.unchanged, "file")
    would = "would change" if result.check else "changed"
    return f"{len(result.changed)} of {total} {would}"
