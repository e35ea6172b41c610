"""Signatures of heads, kill switch records and resets: agents with keys obey only signed ones.

A head names a bundle by its SHA-256, so a signature over the head covers every byte of policies.
The signature covers the head's content and the identity of the environment. So a head of another
environment is refused, and an older head of the same one by its sequence. Signatures do not expire:
otherwise agents could not start from disk after a long time without a publication.

The algorithm is Ed25519 (RFC 8032), from the package ``cryptography``, an optional dependency
(``ratectl[signing]``). The signed bytes are a line with the kind of the record, then JSON with
sorted keys and no blanks.
"""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from ratectl.errors import Untrusted, UsageError
from ratectl.runtime.files import read_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

    from ratectl.records import Head

__all__ = ["Signer", "Trust", "generate_key", "message", "same"]


_MAX_BYTES: Final = 1_000_000
"""Largest size of a key file."""
_ENVIRONMENT: Final = "ratectl-environment: "
"""Prefix of the line before a key that is for one environment only."""


def same(one: Head, other: Head) -> bool:
    """Return True if two heads have equal content, apart from their signatures."""
    return one.signed_part() == other.signed_part()


def message(kind: str, environment: str, content: Mapping[str, Any]) -> bytes:
    """Return the bytes to sign for a record's content; they differ between kinds."""
    signed = {**content, "environment": environment}
    text = json.dumps(signed, sort_keys=True, separators=(",", ":"))
    return f"ratectl {kind} v1\n{text}".encode()


class Signer:
    """A private key. Its file may restrict it to one environment."""

    def __init__(self, key: Ed25519PrivateKey, environment: str | None = None) -> None:
        self._key = key
        self.environment = environment

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a private key as ``ratectl key generate`` writes it: PEM, PKCS #8, not encrypted.

        :raises UsageError: the file cannot be read, or does not hold one Ed25519 key.
        """
        ed25519, serialization = _cryptography()
        environment, data = _unbound(_read(path), path)
        if data.count(b"-----BEGIN ") > 1:
            raise UsageError(f"{path} holds more than one key: keep only the one that is to sign")
        try:
            key = serialization.load_pem_private_key(data, password=None)
        except (ValueError, TypeError) as error:
            raise UsageError(f"{path} is not a private key: {error}") from None
        if not isinstance(key, ed25519.Ed25519PrivateKey):
            raise UsageError(f"{path} is not an Ed25519 key: ratectl key generate makes one")
        return cls(key, environment)

    def sign(self, kind: str, environment: str, content: Mapping[str, Any]) -> str:
        """Return a signature of a record's content, in base64.

        :raises Untrusted: the key is for another environment.
        """
        self.check(environment)
        return base64.b64encode(self._key.sign(message(kind, environment, content))).decode("ascii")

    def check(self, environment: str) -> None:
        """Return if the key may sign for ``environment``.

        :raises Untrusted: the key is for another environment.
        """
        if self.environment not in (None, environment):
            raise Untrusted(
                f"the store says that it is environment {environment}, but the key is for "
                f"{self.environment}"
            )

    def has_signed(
        self, kind: str, environment: str, content: Mapping[str, Any], signature: str | None
    ) -> bool:
        """Return True if ``signature`` is this key's signature of a record's content."""
        trust = Trust([(self._key.public_key(), None)])
        try:
            trust.verify_signature(kind, content, signature, environment)
        except Untrusted:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Trust:
    """Trusted public keys: a signature of any one of them is enough."""

    keys: Sequence[tuple[Ed25519PublicKey, str | None]]
    """Each key with the environment that it is for; None for any."""
    environment: str | None = None
    """The environment that the store must have, if it is known beforehand."""

    @classmethod
    def load(
        cls, paths: Sequence[str | os.PathLike[str]] | None, environment: str | None = None
    ) -> Trust | None:
        """Read public keys from files: PEM, any number in each.

        ``paths`` None: return None, so that no signature is needed. An empty list, or a file
        without a key, is an error: it must not turn the check off.

        :raises UsageError: a file cannot be read, holds no Ed25519 key, or holds other data too.
        """
        if paths is None:
            if environment is not None:
                raise UsageError("environment needs public_keys: only a signature can prove it")
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

        ``environment``: the identity in the store; ``known``: the identity on this agent's disk;
        ``accepted``: the newest head that was obeyed. The signature is tried with every key: a head
        must not choose the key that verifies it.

        :raises Untrusted: it may not; the message says why.
        """
        self.verify_signature("head", head.signed_part(), head.signature, environment, known)
        if accepted is not None and head.sequence < accepted.sequence:
            raise Untrusted(
                f"it is older (sequence {head.sequence}) than the head that this agent accepted "
                f"(sequence {accepted.sequence}): an old head was put back"
            )
        if accepted is not None and head.sequence == accepted.sequence and not same(head, accepted):
            raise Untrusted(
                f"it differs from the accepted head, and has the same sequence ({head.sequence})"
            )

    def verify_signature(
        self,
        kind: str,
        content: Mapping[str, Any],
        signature: str | None,
        environment: str | None,
        known: str | None = None,
    ) -> None:
        """Return if one of the keys has signed a record's content, for the right environment.

        :raises Untrusted: none has; the message says why.
        """
        if signature is None:
            raise Untrusted("it is not signed, and this agent obeys only signed records")
        expected = known if self.environment is None else self.environment
        if expected is not None and environment != expected:
            raise Untrusted(
                f"the store says that it is environment {environment}, but this agent belongs to "
                f"{expected}"
            )
        if environment is None:
            raise Untrusted("the store does not say which environment it is")
        if not self._signed(kind, environment, content, signature):
            raise Untrusted(
                "its signature is not from a key that this agent trusts, or it was changed since"
            )

    def _signed(
        self, kind: str, environment: str, content: Mapping[str, Any], signature: str
    ) -> bool:
        from cryptography.exceptions import InvalidSignature

        try:
            raw = base64.b64decode(signature, validate=True)
        except ValueError:
            return False
        for key, bound in self.keys:
            if bound not in (None, environment):
                continue
            try:
                key.verify(raw, message(kind, environment, content))
            except InvalidSignature:
                continue
            return True
        return False


def generate_key(private: Path, public: Path, environment: str | None = None) -> None:
    """Write a new key pair, for one environment if that is given; only the owner can read the
    private file.

    :raises UsageError: one of the files exists already, or cannot be written.
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
            raise UsageError(f"{path} exists already: a key file is never overwritten")
    bound = b"" if environment is None else f"{_ENVIRONMENT}{environment}\n".encode()
    _write(private, bound + secret, 0o600)
    try:
        _write(public, bound + shown, 0o644)
    except UsageError:
        private.unlink()  # half a pair is useless
        raise


def _unbound(data: bytes, path: str | os.PathLike[str]) -> tuple[str | None, bytes]:
    """Return the environment in the line before a key (None: any), and the key.

    :raises UsageError: the line has another form, or there is no key. The message does not quote
        the line: it may be a part of a private key.
    """
    before, begin, key = data.partition(b"-----BEGIN ")
    if not begin:
        raise UsageError(f"{path} holds no key in PEM: ratectl key generate makes one")
    line = before.strip()
    if not line:
        return None, begin + key
    environment = line.removeprefix(_ENVIRONMENT.encode())
    if environment == line or not environment.isalnum():
        raise UsageError(f"{path}: the text before the key is not an environment")
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
        raise UsageError(f"{path} holds no public keys in PEM, or other data after them")
    keys: list[tuple[Ed25519PublicKey, str | None]] = []
    for block in blocks:
        environment, pem = _unbound(block.lstrip(), path)
        try:
            key = serialization.load_pem_public_key(pem + end + b"\n")
        except ValueError as error:
            raise UsageError(f"{path} holds data that is not a public key: {error}") from None
        if not isinstance(key, ed25519.Ed25519PublicKey):
            raise UsageError(f"{path} holds a key that is not an Ed25519 key")
        keys.append((key, environment))
    return keys


def _read(path: str | os.PathLike[str]) -> bytes:
    if not os.fspath(path):
        raise UsageError("the name of a key file is empty: name one, or leave it out")
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
