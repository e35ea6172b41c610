"""Credentials of endpoints, from files."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from ratectl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.agent.serving.tls import Tls

__all__ = ["check_needs_admin", "tls_of", "token_in"]

_MOST_CHARACTERS = 4_096
"""Most characters of the file of a token."""


def token_in(path: str | None) -> str | None:
    """Return the token in a file, without spaces around it; None without a file.

    :raises UsageError: the file cannot be read, is too long, or holds no token.
    """
    if path is None:
        return None
    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.read(_MOST_CHARACTERS + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(f"--admin-token-file {path}: {reason}") from None
    if len(text) > _MOST_CHARACTERS:
        raise UsageError(
            f"--admin-token-file {path}: it has more than {_MOST_CHARACTERS:,} characters"
        )
    token = text.strip()
    if not token:
        raise _no_token(path, "it is empty")
    from ratectl.agent.serving.endpoints import TOKEN_FORM, is_token

    if not is_token(token):
        raise _no_token(path, TOKEN_FORM)
    return token


def _no_token(path: str, why: str) -> UsageError:
    error = UsageError(f"--admin-token-file {path}: {why}")
    error.add_note(f"write a token: openssl rand -hex 32 > {shlex.quote(path)}")
    return error


def check_needs_admin(admin: str | None, token: str | None, tls: Tls | None) -> None:
    """:raises UsageError: there are credentials, and no address that they are for."""
    if admin is not None or (token is None and tls is None):
        return
    option = "--admin-tls" if token is None else "--admin-token-file"
    error = UsageError(f"{option} is for the admin endpoint: name its address")
    error.add_note("add --admin ADDR, like --admin 127.0.0.1:9465")
    raise error


def tls_of(
    option: str, paths: Sequence[str] | None, authority: str = "of clients' certificates"
) -> Tls | None:
    """Return the certificates of an option; None without one.

    ``authority``: whose authority the third file has, for the error.

    :raises UsageError: there are not two or three files.
    """
    if not paths:
        return None
    from ratectl.agent.serving.tls import Tls

    if len(paths) not in (2, 3):
        raise UsageError(
            f"{option} is given two or three times, not {len(paths)}: certificate, key, and the "
            f"authority {authority}"
        )
    return Tls(*paths)
