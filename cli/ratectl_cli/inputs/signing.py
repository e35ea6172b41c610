"""Signing what is published: ``--sign KEY``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from ratectl.errors import UsageError

if TYPE_CHECKING:
    from ratectl.history.generations import Live
    from ratectl.signing.signatures import Signer
    from ratectl.stores.base import Store
    from ratectl_cli.framework.session import Session
    from ratectl_cli.prompts.publication import Proposal

__all__ = [
    "Sign",
    "key_of",
    "signed_as_wanted",
    "signer_for",
    "unverified",
    "warn_of_fresh_start",
]

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
    from ratectl.signing.signatures import Signer

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


def signed_as_wanted(base: Live, *, unsigned: bool) -> bool:
    """Return True where the head need not be written again for the sake of its signature.

    ``base``: as ``heads.publishing_base`` returned it. ``unsigned``: whether signing is to end.
    """
    if base.fresh is not None:
        return False
    return base.head is None or base.head.signature is None or not unsigned


def warn_of_fresh_start(session: Session, base: Live) -> None:
    """Warn that the next head does not continue the one in the store."""
    if base.fresh is not None:
        session.warn(
            f"generation {base.next} starts afresh, and repeats nothing of what is live: "
            f"{base.fresh.because}"
        )


def unverified(store: Store, proposal: Proposal) -> str | None:
    """Return why its signer cannot vouch for what other sets own; None if it can.

    Publishing a set signs everything of other sets as well, and who owns it.
    """
    from ratectl.policy.language.model import PolicyTree
    from ratectl.publishing.ownership import others_untouched, owners_blob, read_owners

    base, merged = proposal.base, proposal.merged
    if merged is None or base.head is None:
        return None
    if base.fresh is not None:
        return base.fresh.because
    owners = read_owners(store, owners_blob(store, base))
    untouched = others_untouched(merged, proposal.old or PolicyTree({}), owners)
    return None if untouched else "the plan says something else of it than what is live"
