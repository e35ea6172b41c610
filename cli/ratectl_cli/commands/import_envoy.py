"""``ratectl import envoy``."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ratectl.runtime.files import named_path
from ratectl_cli.framework.session import session_of

if TYPE_CHECKING:
    from ratectl.moving.envoy_limits import QuotaMode


class Meaning(StrEnum):
    """Meanings of quota_mode."""

    SHADOW = "shadow"
    ENFORCE = "enforce"


class Counted(StrEnum):
    """Counters for --across."""

    REDIS = "redis"


def envoy(
    ctx: typer.Context,
    paths: Annotated[
        list[str],
        typer.Argument(metavar="DIR", help="Folder with files of envoyproxy/ratelimit."),
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="FOLDER",
            help="Folder to write to.  [default: the working directory]",
            show_default=False,
        ),
    ] = ".",
    across: Annotated[
        Counted | None,
        typer.Option(
            "--across",
            metavar="redis",
            help="Let a Redis server count the limits for all sidecars, as theirs does.  "
            "[default: each sidecar counts for itself]",
            show_default=False,
        ),
    ] = None,
    quota_mode: Annotated[
        Meaning | None,
        typer.Option(
            "--quota-mode",
            metavar="shadow|enforce",
            help="Meaning of quota_mode in these files, which depends on the version of "
            "envoyproxy/ratelimit: never refuse, or refuse.",
        ),
    ] = None,
) -> int:
    """Turn files of envoyproxy/ratelimit into policies and a mapping.

    Each descriptor with a limit becomes a scope with a quota of the same window, in
    FOLDER/policies. FOLDER/envoy-mapping.yaml maps descriptors to scopes, for a sidecar. Requests
    of one descriptor and one hit are decided alike, except where a note says otherwise. Files are
    read as strictly as policies. What cannot be said is an error, and then nothing is written.
    Never overwrites a file.

    Examples:
      ratectl import envoy config/
      ratectl import envoy config/ --to limits --across redis
      ratectl agent run --rls 127.0.0.1:8081 --rls-mapping envoy-mapping.yaml

    Exit codes:
      0   written
      64  wrong arguments
      65  a file has errors, or says what cannot be said
      69  a full disk, or another failure of the system
      77  a file exists already, or cannot be written
    """
    from ratectl.moving.envoy_files import read_files
    from ratectl.moving.envoy_import import import_files
    from ratectl_cli.prompts.moving import write_new
    from ratectl_cli.render.moving import import_blocks, import_data

    session = session_of(ctx)
    folder = named_path("FOLDER", to)
    with session.busy("reading files"):
        meaning: QuotaMode | None = None if quota_mode is None else quota_mode.value
        imported = import_files(read_files(paths), quota_mode=meaning, across=across)
    written = write_new(folder, imported.files, "import")
    session.answer(
        "Import",
        import_data(imported, written),
        lambda: import_blocks(imported, written, to),
    )
    for note in imported.notes:
        session.say(f"note: {note}")
    if across is None and imported.scopes:
        session.say("note: each sidecar counts for itself; --across redis counts for all of them")
    return 0


__all__ = ["envoy"]
