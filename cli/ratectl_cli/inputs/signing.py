"""The key that ``--sign`` names."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ratectl.errors import UsageError
from ratectl.signing.signatures import Signer

if TYPE_CHECKING:
    from ratectl_cli.framework.session import Session

__all__ = ["key_of"]


def key_of(session: Session, path: str | None) -> Signer | None:
    """Return the key in a file, and note it for recommended commands; None if no file is named.

    :raises UsageError: the key cannot be used, or RATECTL_SIGN_KEY is empty: a pipeline whose
        secret is not set would publish without a signature.
    """
    named = os.environ.get("RATECTL_SIGN_KEY")
    if path is None and named is not None and not named.strip():
        raise UsageError("RATECTL_SIGN_KEY is empty: name a private key's file, or unset it")
    session.key = path
    return None if path is None else Signer.load(path)
