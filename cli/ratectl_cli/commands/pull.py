"""``ratectl pull``."""

from typing import Annotated

import typer

from ratectl.runtime.files import named_path
from ratectl_cli.framework.deadline import tidy
from ratectl_cli.framework.session import session_of


def pull(
    ctx: typer.Context,
    directory: Annotated[
        str | None,
        typer.Argument(
            metavar="DIR",
            help="Folder to write to, or - for standard output.  [default: the folder that "
            "ratectl.yaml names, or ./policies]",
            show_default=False,
        ),
    ] = None,
    generation: Annotated[
        int | None,
        typer.Option(
            "--generation",
            metavar="GEN",
            min=1,
            help="Write this generation.  [default: the live one]",
        ),
    ] = None,
    set_: Annotated[
        str | None,
        typer.Option("--set", metavar="NAME", help="Write only the policies that this set owns."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace files with other content.")
    ] = False,
) -> int:
    """Write the live policies to files.

    Applied files that agree with the live policies are written as they were, with their comments
    and tests. The remaining policies are written to new files, one for each scope. Applying the
    files again changes nothing. Either all files are written or none: a file with other content is
    replaced only with --force, and no file is removed.

    If sets own parts of the tree, the files of each set go to a folder with its name. With --set,
    only the files of one set are written, to DIR itself.

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
    from ratectl_cli.render.export import export_blocks, export_data, export_notes

    session = session_of(ctx)
    directory = session.policies if directory is None else directory
    folder = named_path("DIR", directory)
    with session.store() as store, session.busy("reading policies"):
        export = read_export(store, generation, set_)
    to_stdout = directory == "-"
    if to_stdout:
        states = {file.path: "printed" for file in export.files}
    else:
        with session.busy("writing policies"):
            states = dict(write_files(folder, export, force=force, write=tidy(write_all)))
    if to_stdout and session.text:
        session.emit(stream(export.files))
    else:
        place = None if to_stdout else directory
        session.answer(
            "Pull",
            export_data(export, states, place),
            lambda: export_blocks(export, states, place),
        )
    for note in export_notes(export):
        session.say(note)
    return 0


__all__ = ["pull"]
