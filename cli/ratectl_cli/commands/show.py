"""``ratectl show``."""

from typing import Annotated

import typer

from ratectl_cli.framework.session import session_of


def show(
    ctx: typer.Context,
    generation: Annotated[
        int | None,
        typer.Argument(metavar="GEN", min=1, help="Generation to print.  [default: the live one]"),
    ] = None,
) -> int:
    """Print the policies of a generation as YAML.

    The text can be applied again. It is normalised: comments, and the division into files, are
    lost.

    Examples:
      ratectl show
      ratectl show 411 > before.yaml
      diff <(ratectl show 411) <(ratectl show 412)

    Exit codes:
      0   printed
      64  no such generation
      65  nothing is published, or the stored bytes are damaged
      69  store unreachable
    """
    from ratectl.history.generations import read_live, read_tree
    from ratectl.history.trees import find_entry
    from ratectl.publishing.ownership import read_owners
    from ratectl_cli.render.generation import generation_blocks, generation_data

    session = session_of(ctx)
    with session.store() as store, session.busy("reading policies"):
        entry = find_entry(store, generation)
        live = read_live(store).generation
        tree = read_tree(store, entry)
        owners = read_owners(store, entry.owners)
    session.answer(
        "Generation",
        generation_data(entry, tree, owners, live=live),
        lambda: generation_blocks(entry, tree, owners, live=live),
    )
    return 0


__all__ = ["show"]
