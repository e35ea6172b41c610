"""``ratectl export envoy``."""

from typing import Annotated

import typer

from ratectl.runtime.files import named_path
from ratectl_cli.commands.options import PolicyPaths
from ratectl_cli.framework.session import session_of


def envoy(
    ctx: typer.Context,
    mapping: Annotated[
        str,
        typer.Option(
            "--mapping",
            metavar="FILE",
            help="The file that maps Envoy's domains and descriptors to scopes.",
        ),
    ],
    to: Annotated[
        str, typer.Option("--to", metavar="FOLDER", help="Folder to write to.", show_default=False)
    ],
    paths: PolicyPaths = None,
) -> int:
    """Turn policies and a mapping into files of envoyproxy/ratelimit.

    Writes a file for each domain of the mapping. Each descriptor that the mapping lists must have
    one limit at most: a quota in UTC, for all requests of its scope. What cannot be said is an
    error that names the line, and then nothing is written. Never overwrites a file.

    Examples:
      ratectl export envoy policies/ --mapping envoy-mapping.yaml --to config

    Exit codes:
      0   written
      64  wrong arguments, or the mapping has errors
      65  the policies have errors, or something cannot be said
      69  a full disk, or another failure of the system
      77  a file exists already, or cannot be written
    """
    from ratectl.moving.envoy_export import export_policies
    from ratectl_cli.inputs.policies import read_valid
    from ratectl_cli.prompts.moving import write_new
    from ratectl_cli.render.moving import export_blocks, export_data

    session = session_of(ctx)
    folder = named_path("FOLDER", to)
    with session.busy("reading policies"):
        exported = export_policies(read_valid(paths or [session.policies]), mapping)
    written = write_new(folder, exported.files, "export")
    session.answer(
        "Export", export_data(exported, written), lambda: export_blocks(exported, written)
    )
    for note in exported.notes:
        session.say(f"note: {note}")
    return 0


__all__ = ["envoy"]
