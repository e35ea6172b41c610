"""Signing what is published: ``--sign KEY``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from ratectl.errors import UsageError

if TYPE_CHECKING:
    from ratectl.signing.signatures import Signer

__all__ = ["Sign", "key_of"]

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
    """Return the key in a file; None if no file is named.

    :raises UsageError: it cannot be used, or the variable that is to name it is empty: a pipeline
        whose secret is not set would publish without a signature.
    """
    from ratectl.signing.signatures import Signer

    named = os.environ.get("RATECTL_SIGN_KEY")
    if path is None and named is not None and not named.strip():
        raise UsageError("RATECTL_SIGN_KEY is empty: name a private key's file, or unset it")
    return None if path is None else Signer.load(path)
