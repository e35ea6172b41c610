"""``ratectl pull``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ratectl.runtime.files import named_path
from ratectl_cli.framework.deadline import tidy
from ratectl_cli.framework.session import Session, session_of
from ratectl_cli.framework.text import bold, plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ratectl.publishing.export import Export
    from ratectl_cli.framework.text import Block

_NAMED = 10
"""Files named, at most, in a message."""


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
    from ratectl.publishing.export import read_export, stream, write_files
    from ratectl.runtime.whole_files import write_all

    session = session_of(ctx)
    folder = named_path("DIR", directory)
    with session.store() as store, session.busy("reading policies"):
        export = read_export(store, generation, set_)
    if directory == "-":
        states: Mapping[str, str] = {file.path: "printed" for file in export.files}
        if session.text:
            session.emit(stream(export.files))
        else:
            _answer(session, export, states, directory=None)
    else:
        with session.busy("writing policies"):
            states = write_files(folder, export, force=force, write=tidy(write_all))
        _answer(session, export, states, directory=directory)
    _remark(session, export)
    return 0


def _answer(
    session: Session, export: "Export", states: "Mapping[str, str]", *, directory: str | None
) -> None:
    data = {
        "generation": export.generation,
        "live": export.live,
        "directory": directory,
        "files": [
            {
                "path": file.path,
                "state": states[file.path],
                "rendered": file.applied is None,
                "text": file.text if directory is None else None,
            }
            for file in export.files
        ],
    }

    def blocks() -> "Iterator[Block]":
        for file in export.files:
            state = states[file.path]
            if state != "unchanged" and directory is not None:
                yield [bold(f"{state} ", "green"), str(Path(directory, file.path))]
        what = f"generation {export.generation}{', which is live,' if export.live else ''}"
        done = sum(state != "unchanged" for state in states.values())
        count = plural(len(export.files), "file")
        yield f"{what} is in {directory}: {count}, {done or 'none'} written"

    session.answer("Pull", data, blocks)


def _remark(session: Session, export: "Export") -> None:
    if not export.files:
        session.say(f"generation {export.generation} holds no policy: there is nothing to write")
    anew = [file.path for file in export.files if file.applied is None]
    if anew:
        session.say(
            f"written anew, without comments: {_listed(anew)} (the files that were applied are not "
            "kept, or say something else)"
        )


def _listed(names: "Sequence[str]") -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


__all__ = ["pull"]
