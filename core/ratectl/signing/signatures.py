"""Signed heads and switches: agents that hold public keys obey nobody else.

A head names a bundle by its SHA-256, so a signature over the head covers every byte of policies.
Signed is what the head says, together with the identity of the environment: a head of another
environment, or an older one of the same, is no head. There is no expiry, which would take down
agents that start from disk while nobody publishes.

Ed25519 (RFC 8032) by the package ``cryptography``, an optional dependency (``ratectl[signing]``).
What is signed is JSON with sorted keys and no blanks, behind a line that says what it is.
"""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from ratectl.errors import BundleError, UsageError
from ratectl.runtime.files import read_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

    from ratectl.records import Head

__all__ = ["Signer", "Trust", "Untrusted", "generate_key", "message", "same"]


_MAX_BYTES: Final = 1_000_000
"""Of a file that holds keys."""
_ENVIRONMENT: Final = "ratectl-environment: "
"""Stands before a key that is for one environment."""


class Untrusted(BundleError):
    """Not what somebody with a trusted key said last, of this environment."""


def same(one: Head, other: Head) -> bool:
    """Whether two heads say the same, whoever signed them."""
    return one.signed_part() == other.signed_part()


def message(kind: str, environment: str, said: Mapping[str, Any]) -> bytes:
    """The bytes that a signature of what is said is for; no kind's are another kind's."""
    text = json.dumps({**said, "environment": environment}, sort_keys=True, separators=(",", ":"))
    return f"ratectl {kind} v1\n{text}".encode()


class Signer:
    """A private key; of one environment, where its file says so."""

    def __init__(self, key: Ed25519PrivateKey, environment: str | None = None) -> None:
        self._key = key
        self.environment = environment

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a private key as ``ratectl key generate`` writes it: PEM, PKCS #8, not encrypted.

        :raises UsageError: it is not there, not readable, or no Ed25519 key.
        """
        ed25519, serialization = _cryptography()
        environment, data = _unbound(_read(path), path)
        if data.count(b"-----BEGIN ") > 1:
            raise UsageError(f"{path} holds more than one key: nobody can tell which is to sign")
        try:
            key = serialization.load_pem_private_key(data, password=None)
        except (ValueError, TypeError) as error:
            raise UsageError(f"{path} is no private key: {error}") from None
        if not isinstance(key, ed25519.Ed25519PrivateKey):
            raise UsageError(f"{path} is no Ed25519 key: ratectl key generate makes one")
        return cls(key, environment)

    def sign(self, kind: str, environment: str, said: Mapping[str, Any]) -> str:
        """The signature of what is said, in base64.

        :raises Untrusted: the store calls itself another environment than this key is for.
        """
        self.check(environment)
        return base64.b64encode(self._key.sign(message(kind, environment, said))).decode("ascii")

    def check(self, environment: str) -> None:
        """:raises Untrusted: the key is for another environment."""
        if self.environment not in (None, environment):
            raise Untrusted(
                f"the store says that it is environment {environment}, and the key is for "
                f"{self.environment}"
            )

    def has_signed(
        self, kind: str, environment: str, said: Mapping[str, Any], signature: str | None
    ) -> bool:
        """Whether a signature of what is said is by this key."""
        try:
            Trust([(self._key.public_key(), None)]).prove(kind, said, signature, environment)
        except Untrusted:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Trust:
    """Public keys, each of which is enough; and the environment, where that is known beforehand."""

    keys: Sequence[tuple[Ed25519PublicKey, str | None]]
    """With the environment that each is for; None for any."""
    environment: str | None = None

    @classmethod
    def load(
        cls, paths: Sequence[str | os.PathLike[str]] | None, environment: str | None = None
    ) -> Trust | None:
        """Read public keys from files: PEM, any number in each.

        None where there is no list of files: whoever can write the store is obeyed then. An empty
        list, or a file without a key, is an error: it is never the same as none.

        :raises UsageError: a file is not there, or holds no Ed25519 key, or something else too.
        """
        if paths is None:
            if environment is not None:
                raise UsageError("an environment to insist on needs public keys to prove it by")
            return None
        if environment is not None and not environment.strip():
            raise UsageError("environment is empty: name one, or leave it out")
        if not paths:
            raise UsageError(
                "public_keys is empty: name a file, or leave it out to trust the store"
            )
        return cls([key for path in paths for key in _public_keys(path)], environment)

    def verify(
        self, head: Head, environment: str | None, known: str | None, accepted: Head | None
    ) -> None:
        """Return if ``head`` may be obeyed.

        ``environment`` is what the store says it is, ``known`` what it was before (on this agent's
        disk), ``accepted`` the newest head that was obeyed. The signature is tried with every key:
        what a head says of its own key must not decide which one it has to satisfy.

        :raises Untrusted: it may not; the message says why.
        """
        self.prove("head", head.signed_part(), head.signature, environment, known)
        if accepted is not None and head.sequence < accepted.sequence:
            raise Untrusted(
                f"it is older (sequence {head.sequence}) than what this agent has accepted "
                f"(sequence {accepted.sequence}): an old head was put back"
            )
        if accepted is not None and head.sequence == accepted.sequence and not same(head, accepted):
            raise Untrusted(f"it is another head of sequence {head.sequence}, which is taken")

    def prove(
        self,
        kind: str,
        said: Mapping[str, Any],
        signature: str | None,
        environment: str | None,
        known: str | None = None,
    ) -> None:
        """Return if one of the keys has signed what is said, of the right environment.

        :raises Untrusted: none has; the message says why.
        """
        if signature is None:
            raise Untrusted("it is not signed, and this agent obeys only what is")
        expected = known if self.environment is None else self.environment
        if expected is not None and environment != expected:
            raise Untrusted(
                f"the store says that it is environment {environment}, and this agent belongs to "
                f"{expected}"
            )
        if environment is None:
            raise Untrusted("the store does not say which environment it is")
        if not self._signed(kind, environment, said, signature):
            raise Untrusted(
                "its signature is by no key that this agent trusts, or it was changed since"
            )

    def _signed(self, kind: str, environment: str, said: Mapping[str, Any], signature: str) -> bool:
        from cryptography.exceptions import InvalidSignature

        try:
            raw = base64.b64decode(signature, validate=True)
        except ValueError:
            return False
        for key, bound in self.keys:
            if bound not in (None, environment):
                continue
            try:
                key.verify(raw, message(kind, environment, said))
            except InvalidSignature:
                continue
            return True
        return False


def generate_key(private: Path, public: Path, environment: str | None = None) -> None:
    """Make a key pair, for one environment if that is named; the private file is for its owner.

    :raises UsageError: one of the files is there already, or cannot be written.
    """
    ed25519, serialization = _cryptography()
    key = ed25519.Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    shown = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for path in (private, public):
        if path.exists():
            raise UsageError(f"{path} is there already: a key is never written over")
    bound = b"" if environment is None else f"{_ENVIRONMENT}{environment}\n".encode()
    _write(private, bound + secret, 0o600)
    try:
        _write(public, bound + shown, 0o644)
    except UsageError:
        private.unlink()  # half a pair is of no use
        raise


def _unbound(data: bytes, path: str | os.PathLike[str]) -> tuple[str | None, bytes]:
    """The environment that stands before a key, and the key.

    :raises UsageError: something else stands there, or there is no key. It is not quoted: it may be
        a part of a private key.
    """
    before, begin, key = data.partition(b"-----BEGIN ")
    if not begin:
        raise UsageError(f"{path} holds no key in PEM: ratectl key generate makes one")
    said = before.strip()
    if not said:
        return None, begin + key
    environment = said.removeprefix(_ENVIRONMENT.encode())
    if environment == said or not environment.isalnum():
        raise UsageError(f"{path}: what stands before the key is no environment")
    return environment.decode("ascii"), begin + key


def _write(path: Path, data: bytes, mode: int) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from None


def _public_keys(path: str | os.PathLike[str]) -> list[tuple[Ed25519PublicKey, str | None]]:
    ed25519, serialization = _cryptography()
    end = b"-----END PUBLIC KEY-----"
    *blocks, rest = _read(path).split(end)
    if not blocks or rest.strip():
        raise UsageError(f"{path} holds no public keys in PEM, or something else behind them")
    keys: list[tuple[Ed25519PublicKey, str | None]] = []
    for block in blocks:
        environment, pem = _unbound(block.lstrip(), path)
        try:
            key = serialization.load_pem_public_key(pem + end + b"\n")
        except ValueError as error:
            raise UsageError(f"{path} holds something that is no public key: {error}") from None
        if not isinstance(key, ed25519.Ed25519PublicKey):
            raise UsageError(f"{path} holds a key that is no Ed25519 key")
        keys.append((key, environment))
    return keys


def _read(path: str | os.PathLike[str]) -> bytes:
    if not os.fspath(path):
        raise UsageError("the name of a key's file is empty: name one, or leave it out")
    try:
        return read_file(path, _MAX_BYTES)
    except OSError as error:
        raise UsageError(f"cannot read the key {path}: {error.strerror or error}") from None


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise UsageError(
            "signing needs the package cryptography: pip install 'ratectl[signing]'"
        ) from None
    return ed25519, serialization
