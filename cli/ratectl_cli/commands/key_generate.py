"""``ratectl key generate``."""

from pathlib import Path
from typing import Annotated

import typer

from ratectl_cli.session import session_of
from ratectl_cli.text import dim


def generate(
    ctx: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The files are NAME.key and NAME.pub.")
    ],
) -> int:
    """Make a key pair in two files.

    NAME.key signs what is published (--sign); keep it where the pipeline has it and nobody else.
    NAME.pub goes to the agents (--public-key): those that hold public keys obey nobody else.
    Never writes over a file.

    Examples:
      ratectl key generate platform
      ratectl apply policies/ --sign platform.key
      ratectl agent run --public-key platform.pub

    Exit codes:
      0   made
      64  a file is there already, or cannot be written; or cryptography is not installed
    """
    from ratectl.signing import generate_key

    session = session_of(ctx)
    private, public = Path(f"{name}.key"), Path(f"{name}.pub")
    generate_key(private, public)
    session.answer(
        "Key",
        {"private": str(private), "public": str(public)},
        lambda: [
            [dim("private: "), f"{private} (readable by you alone; it is not encrypted)"],
            [dim("public:  "), str(public)],
        ],
    )
    return 0


__all__ = ["generate"]
