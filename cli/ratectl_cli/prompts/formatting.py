"""`ratectl fmt`: write files in their canonical form, or see whether they would change."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ratectl.diagnostics import Diagnostic
from ratectl.errors import PolicyError
from ratectl.policy.bundle import encode_policies
from ratectl.policy.format import COMMENTS, IGNORES, Kept, format_text
from ratectl.policy.loading.files import find_sources
from ratectl.policy.loading.loader import load
from ratectl_cli.framework.text import bold, plural
from ratectl_cli.inputs.policies import read_stdin
from ratectl_cli.prompts.patching import Patch
from ratectl_cli.prompts.rewriting import rewrite
from ratectl_cli.render.unified import painted_diff, unified_diff

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ratectl_cli.framework.session import Session
    from ratectl_cli.framework.text import Block

__all__ = ["files_formatted", "stream_formatted"]

_MEANING: Final = "its meaning would change"
_REMEDIES: Final = {
    COMMENTS: "move comments out of { } and [ ], and away from anchors",
    IGNORES: "write the whole limit on the line of its comment, and apiVersion as the first field",
    _MEANING: "this is a bug in ratectl, please report it",
}


@dataclass(slots=True)
class _Result:
    """Files that were formatted, or would be with ``check``."""

    check: bool
    """True if nothing is written."""
    changed: list[str] = field(default_factory=list)
    unchanged: int = 0
    kept: list[tuple[str, Kept]] = field(default_factory=list)
    """Each document that was left as it is, and its file."""
    patch: Patch | None = None
    """Changes of the files, with ``--diff``."""


def files_formatted(session: Session, paths: Sequence[str], *, check: bool, diff: bool) -> int:
    """Format files; return the exit code. ``check``, ``diff``: write nothing."""
    result = _Result(check or diff, patch=Patch() if diff else None)
    with session.busy("formatting policies"):
        _format_files(paths, result)
    _warn_of_kept(session, result.kept)
    data = {
        "check": result.check,
        "changed": result.changed,
        "unchanged": result.unchanged,
        "kept": [{"file": name, "line": kept.line} for name, kept in result.kept],
    }
    if result.patch is not None:
        result.patch.warn(session)
    _answer(session, data, result, None if result.patch is None else result.patch.text)
    return 1 if result.check and result.changed else 0


def _answer(session: Session, data: dict[str, Any], result: _Result, diff: str | None) -> None:
    """Print the result; with a diff, standard output holds the diff and nothing else."""
    if session.text and diff is not None:
        session.emit(painted_diff(diff, colour=session.out.colour))
        session.say(_total(result))
    else:
        data = data if diff is None else {**data, "diff": diff}
        session.answer("Format", data, lambda: _blocks(result))


def _format_files(paths: Sequence[str], result: _Result) -> None:
    """Format files, or with ``check`` see whether they would change."""
    loaded = load(paths)
    if not loaded.ok:
        raise PolicyError(loaded.diagnostics)
    sources = find_sources(paths, None)
    changes: dict[str, bytes] = {}
    for name, data in sources.read_all():
        if isinstance(data, Diagnostic):  # gone since it was loaded
            raise PolicyError([data])
        text, kept = _formatted(data)
        result.kept += [(name, document) for document in kept]
        place = sources.paths[name]
        if text.encode() == data:
            result.unchanged += 1
            continue
        changes[name] = text.encode()
        if result.patch is not None and place is not None:
            result.patch.add(name, place.real, data.decode(), text)
    if not result.check:
        rewrite(sources, changes)
    result.changed += changes


def stream_formatted(session: Session, *, check: bool, diff: bool) -> int:
    """Format standard input to standard output; return the exit code."""
    data = read_stdin()
    loaded = load(["-"], stdin=data)
    if not loaded.ok:
        raise PolicyError(loaded.diagnostics)
    text, kept = _formatted(data)
    _warn_of_kept(session, [("<stdin>", document) for document in kept])
    changed = text.encode() != data
    result = _Result(check or diff, ["<stdin>"] if changed else [], int(not changed))
    if session.text and not result.check:
        session.emit(text)
        return 0
    document: dict[str, Any] = {"check": result.check, "changed": result.changed, "text": text}
    patch = unified_diff("<stdin>", data.decode(), text) if diff else None
    _answer(session, document, result, patch)
    return 1 if result.check and changed else 0


def _formatted(data: bytes) -> tuple[str, tuple[Kept, ...]]:
    """Return the canonical text, and the documents that were left as they are.

    Returns the text unchanged if formatting would change its meaning.
    """
    formatted = format_text(data.decode("utf-8-sig"))
    before, after = load(["-"], stdin=data), load(["-"], stdin=formatted.text.encode())
    same = (
        after.ok == before.ok
        and encode_policies(after.tree) == encode_policies(before.tree)
        and [item.test for item in after.tests] == [item.test for item in before.tests]
    )
    return (formatted.text, formatted.kept) if same else (data.decode(), (Kept(1, _MEANING),))


def _warn_of_kept(session: Session, kept: Sequence[tuple[str, Kept]]) -> None:
    for name, document in kept:
        why = f"because {document.why}: {_REMEDIES[document.why]}"
        session.warn(f"{name}:{document.line}: this document is unchanged, {why}")


def _blocks(result: _Result) -> Iterator[Block]:
    word = bold("would format ", "yellow") if result.check else bold("formatted ", "green")
    for name in result.changed:
        yield [word, name]
    yield _total(result)


def _total(result: _Result) -> str:
    total = plural(len(result.changed) + result.unchanged, "file")
    would = "would change" if result.check else "changed"
    return f"{len(result.changed)} of {total} {would}"
