"""Signing what is published: ``--sign KEY``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from ratectl.errors import UsageError

if TYPE_CHECKING:
    from ratectl.generations import Live
    from ratectl.signing import Signer
    from ratectl.stores.base import Store

__all__ = ["Sign", "key_of", "signed_as_wanted", "signer_for"]

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


def key_of(path: str | None) -> Signer | None:
    """The key in a file, if one is named.

    :raises UsageError: it cannot be used, or the variable that is to name it is empty: a pipeline
        whose secret is not set would publish without a signature.
    """
    from ratectl.signing import Signer

    named = os.environ.get("RATECTL_SIGN_KEY")
    if path is None and named is not None and not named.strip():
        raise UsageError("RATECTL_SIGN_KEY is empty: name a private key's file, or unset it")
    return None if path is None else Signer.load(path)


def signer_for(path: str | None, base: Live) -> Signer | None:
    """The same.

    :raises Refused: none is named, but what is live is signed.
    """
    from ratectl_cli.errors import Refused

    if path is None and base.head is not None and base.head.signature is not None:
        raise Refused(
            "what is live is signed, and agents that hold public keys would refuse this: "
            "add --sign KEY"
        )
    return key_of(path)


def signed_as_wanted(store: Store, base: Live, signer: Signer | None, *, unsigned: bool) -> bool:
    """Whether what is live is signed by this key; without one, whether it may stay as it is."""
    from ratectl.generations import read_environment

    if base.head is None or signer is None:
        return base.head is None or base.head.signature is None or not unsigned
    environment = read_environment(store)
    return environment is not None and signer.has_signed(
        "head", environment.id, base.head.signed_part(), base.head.signature
    )
