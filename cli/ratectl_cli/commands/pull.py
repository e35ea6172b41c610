"""``ratectl pull``."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ratectl.errors import Refused, UsageError
from ratectl.runtime.files import named_path
from ratectl_cli.framework.files import holds_just, leads_out
from ratectl_cli.framework.session import Session, session_of
from ratectl_cli.framework.text import bold, plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ratectl.records import HistoryEntry
    from ratectl_cli.framework.text import Block
    from ratectl_cli.pulled import Pulled

_NAMED = 10
"""Files named, at most, in a refusal."""

_States = dict[str, str]
"""What is done to each file: ``written``, ``replaced``, ``unchanged``, or ``printed``."""


def pull(
    ctx: typer.Context,
    directory: Annotated[
        str, typer.Argument(metavar="DIR", help="Folder to write to, or - for standard output.")
    ] = "policies",
    generation: Annotated[
        int | None,
        typer.Option("--generation", metavar="GEN", min=1, help="Not the live one, but this."),
    ] = None,
    set_: Annotated[
        str | None, typer.Option("--set", metavar="NAME", help="Only what this set owns.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace files that say something else.")
    ] = False,
) -> int:
    """Write what is live as files of policies.

    The files are those that were applied, with their comments and tests, where these say what is
    live; what they do not say is written anew, a file for each scope. Applied again, they change
    nothing. All are written, or none: a file that says something else is never replaced without
    --force, and none is ever removed.

    Where sets own parts of the tree, each set's files go to a folder of its name; with --set, only
    one set's are written, and to DIR itself.

    Examples:
      ratectl pull
      ratectl pull --force policies/ && git diff
      ratectl pull --generation 411 before/
      ratectl pull --set payments policies/
      ratectl pull - | less

    Exit codes:
      0   written, or there already
      64  no such generation, or no such set in it
      65  nothing is published, or the stored bytes are damaged
      69  store unreachable
      77  files are in the way, or cannot be written
    """
    from ratectl.history.generations import read_live, read_tree
    from ratectl.history.trees import find_entry
    from ratectl.publishing.ownership import read_owners
    from ratectl.publishing.source_files import read_documents
    from ratectl_cli.pulled import parts_of, pulled_files

    session = session_of(ctx)
    folder = named_path("DIR", directory)
    with session.store() as store, session.busy("reading policies"):
        entry = find_entry(store, generation)
        live = read_live(store).generation == entry.generation
        tree = read_tree(store, entry)
        owners = read_owners(store, entry.owners)
        if set_ is not None and set_ not in owners.sets:
            raise UsageError(_no_such_set(entry, set_, owners.sets))
        parts = parts_of(tree, owners, read_documents(store, entry).files, set_)
        files = pulled_files(tree, parts)
    if directory == "-":
        from ratectl_cli.pulled import stream

        states = {file.path: "printed" for file in files}
        if session.text:
            session.emit(stream(files))
        else:
            _answer(session, entry, files, states, directory=None, live=live)
    else:
        with session.busy("writing policies"):
            states = _write(folder, entry, files, force=force)
        _answer(session, entry, files, states, directory=directory, live=live)
    _remark(session, entry, files)
    return 0


def _no_such_set(entry: "HistoryEntry", name: str, sets: "Sequence[str]") -> str:
    there = f"its sets are {_listed(sets)}" if sets else "it has no sets"
    return f"set {name!r} owns nothing of generation {entry.generation}: {there}"


def _write(root: Path, entry: "HistoryEntry", files: "Sequence[Pulled]", *, force: bool) -> _States:
    """Write what is not there yet, if nothing is in the way.

    :raises Refused: something is, or it cannot be written.
    """
    from ratectl_cli.framework.files import write_all

    try:
        states = {file.path: _state(root, file) for file in files}
        _refuse_strays(root, entry, files)
        differing = [str(root / path) for path, state in states.items() if state == "replaced"]
        if differing and not force:
            raise Refused(
                f"{_listed(differing)}: not what generation {entry.generation} says, and pull "
                "replaces no file without --force"
            )
        write_all(
            root,
            {each.path: each.text.encode() for each in files if states[each.path] != "unchanged"},
        )
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise Refused(f"cannot write {error.filename or root}: {why}") from error
    return states


def _state(root: Path, file: "Pulled") -> str:
    """What is to be done to a file.

    :raises Refused: it would lie elsewhere, as links lead out of the folder, or is no file.
    """
    target = root / file.path
    if leads_out(root, target.parent):
        raise Refused(f"{target.parent} leads out of {root} by a link: remove that link")
    if not os.path.lexists(target):
        return "written"
    if target.is_dir():
        raise Refused(f"{target} is in the way: it is a folder")
    return "unchanged" if holds_just(target, file.text.encode()) else "replaced"


def _refuse_strays(root: Path, entry: "HistoryEntry", files: "Sequence[Pulled]") -> None:
    """Other policies in the folder would be applied as well: it must hold none.

    :raises Refused: it does, or something that nobody can read.
    """
    from ratectl.policy import codes
    from ratectl.policy.loading.files import find_sources, printable
    from ratectl.policy.loading.loader import load_sources

    if not os.path.lexists(root):
        return
    if not root.is_dir():
        raise Refused(f"{root} is in the way: it is not a folder")
    sources = find_sources([root], None)
    ours = {os.path.realpath(root / file.path) for file in files}
    sources.paths = {
        name: place
        for name, place in sources.paths.items()
        if place is None or place.real not in ours
    }
    names = {printable(str(root / file.path)) for file in files}
    sources.diagnostics = [
        each
        for each in sources.diagnostics
        if each.span.file not in names and each.code != codes.NO_FILES
    ]
    if not sources.paths and not sources.diagnostics:
        return
    loaded = load_sources(sources)
    wrong = tuple(
        found
        for found in loaded.diagnostics
        if found.severity == "error" and found.code != codes.NO_POLICIES
    )
    strays = {source.file for source in loaded.tree.sources.values()}
    strays |= {found.span.file for found in wrong}
    if strays:
        raise Refused(
            f"{_listed(sorted(strays))}: no part of generation {entry.generation}, and pull "
            "removes no file: remove what would be applied as well, or pull into another folder",
            wrong,
        )


def _listed(names: "Sequence[str]") -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _answer(
    session: Session,
    entry: "HistoryEntry",
    files: "Sequence[Pulled]",
    states: _States,
    *,
    directory: str | None,
    live: bool,
) -> None:
    data = {
        "generation": entry.generation,
        "live": live,
        "directory": directory,
        "files": [
            {
                "path": file.path,
                "state": states[file.path],
                "rendered": file.applied is None,
                "text": file.text if directory is None else None,
            }
            for file in files
        ],
    }

    def blocks() -> "Iterator[Block]":
        for file in files:
            state = states[file.path]
            if state != "unchanged" and directory is not None:
                yield [bold(f"{state} ", "green"), str(Path(directory, file.path))]
        what = f"generation {entry.generation}{', which is live,' if live else ''}"
        done = sum(state != "unchanged" for state in states.values())
        count = plural(len(files), "file")
        yield f"{what} is in {directory}: {count}, {done or 'none'} written"

    session.answer("Pull", data, blocks)


def _remark(session: Session, entry: "HistoryEntry", files: "Sequence[Pulled]") -> None:
    if not files:
        session.say(f"generation {entry.generation} holds no policy: there is nothing to write")
    anew = [file.path for file in files if file.applied is None]
    if anew:
        session.say(
            f"written anew, without comments: {_listed(anew)} (the files that were applied are not "
            "kept, or say something else)"
        )


__all__ = ["pull"]
