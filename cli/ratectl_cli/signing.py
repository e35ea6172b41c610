"""Signing what is published: ``--sign KEY``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ratectl.generations import Live
    from ratectl.signing import Signer

__all__ = ["Sign", "signer_for"]

Sign = Annotated[
    str | None,
    typer.Option(
        "--sign",
        metavar="KEY",
        envvar="RATECTL_SIGN_KEY",
        show_envvar=False,
        help="Private key to sign it with.  [env: RATECTL_SIGN_KEY]",
    ),
]


def signer_for(path: str | None, base: Live, *, unsigned: bool = False) -> Signer | None:
    """The key in a file, if one is named.

    :raises Refused: none is named, but what is live is signed; ``unsigned``: that is meant.
    """
    from ratectl.signing import Signer
    from ratectl_cli.errors import Refused

    if path is not None:
        return Signer.load(path)
    if base.head is not None and base.head.signature is not None and not unsigned:
        raise Refused(
            "what is live is signed, and agents that hold public keys would refuse this: "
            "add --sign KEY"
        )
    return None
