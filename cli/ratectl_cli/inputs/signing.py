"""The key that ``--sign`` names."""

from __future__ import annotations

import os

from ratectl.errors import UsageError
from ratectl.signing.signatures import Signer

__all__ = ["key_of"]


def key_of(path: str | None) -> Signer | None:
    """Return the key in a file; None if no file is named.

    :raises UsageError: the key cannot be used, or RATECTL_SIGN_KEY is empty: a pipeline whose
        secret is not set would publish without a signature.
    """
    named = os.environ.get("RATECTL_SIGN_KEY")
    if path is None and named is not None and not named.strip():
        raise UsageError("RATECTL_SIGN_KEY is empty: name a private key's file, or unset it")
    return None if path is None else Signer.load(path)
