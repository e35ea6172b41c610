"""Bundles: the canonical, content-addressed bytes of a policy tree.

Two trees with the same meaning have the same bytes, whatever their files, comments, key order and
spelling of numbers. The place where each value was written is stored beside them (*origins*), under
a hash of its own: agents never fetch it, and moving a line does not change the policies.

A bundle is lines of canonical JSON (RFC 8785 for what occurs here: no floats, sorted keys, no
spaces): a header with the format and the number of documents, then each policy by scope, then each
exception. A document is one line, so that a reader can rest between two documents.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import Field, ValidationError

from ratectl.errors import BundleError
from ratectl.policy.language.model import (
    Exemption,
    Policy,
    PolicyTree,
    SourceMap,
    _Model,
    with_exceptions,
)
from ratectl.runtime.cooperative import paced, release
from ratectl.runtime.gc_pause import paused_collector

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel

__all__ = [
    "FORMAT",
    "MAX_BUNDLE_BYTES",
    "EncodedTree",
    "decode_origins",
    "decode_policies",
    "digest",
    "encode_document",
    "encode_origins",
    "encode_policies",
]

FORMAT = 2
"""Version of the bytes; a reader refuses any other."""

_ORIGINS_FORMAT: Final = 1

MAX_BUNDLE_BYTES = 256 * 1024 * 1024
"""Largest bundle that is read: stored bytes are untrusted input."""

_Count = Annotated[int, Field(ge=0, le=MAX_BUNDLE_BYTES)]


class _Header(_Model):
    """First line of a bundle: the numbers of documents guard against missing lines."""

    format: Literal[2]
    policies: _Count
    exceptions: _Count


M = TypeVar("M", bound="BaseModel")


def digest(data: bytes) -> str:
    """Return the address of ``data``: SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def encode_policies(tree: PolicyTree) -> bytes:
    """Return the canonical bytes of a tree, without its origins."""
    documents: list[Policy | Exemption] = [tree.policies[scope] for scope in sorted(tree.policies)]
    header = {"exceptions": len(tree.exceptions), "format": FORMAT, "policies": len(documents)}
    documents += tree.exceptions
    lines = map(encode_document, paced(documents))
    return b"\n".join([_canonical(header), *lines, b""])


def encode_document(document: Policy | Exemption) -> bytes:
    """Return the canonical bytes of one document: the same for every spelling of it."""
    fields = document.model_dump(
        mode="json", by_alias=True, exclude_none=True, exclude_defaults=True
    )
    return _canonical(fields)


@dataclass(frozen=True, slots=True)
class EncodedTree:
    """A policy tree with its bundle bytes and their address: a tree is encoded once."""

    tree: PolicyTree
    policies: bytes
    address: str
    """SHA-256 of ``policies``, in hexadecimal."""

    @classmethod
    def of(cls, tree: PolicyTree | Self) -> Self:
        """Encode a tree, unless it is encoded already."""
        if isinstance(tree, cls):
            return tree
        assert isinstance(tree, PolicyTree)
        policies = encode_policies(tree)
        return cls(tree, policies, digest(policies))


def decode_policies(data: bytes) -> PolicyTree:
    """Read the bytes of a bundle, strictly and one document at a time.

    :raises BundleError: the bytes are no bundle, of another format, or invalid.
    """
    if len(data) > MAX_BUNDLE_BYTES:
        raise BundleError(f"bundle has {len(data)} bytes, more than {MAX_BUNDLE_BYTES}")
    with paused_collector():
        policies, exceptions = _documents(data)
        by_scope = {policy.scope: policy for policy in paced(policies)}
    if len(by_scope) != len(policies):
        raise BundleError("bundle declares a scope twice")
    return with_exceptions(PolicyTree(by_scope), ((exception, None) for exception in exceptions))


def _documents(data: bytes) -> tuple[Sequence[Policy], Sequence[Exemption]]:
    lines = BytesIO(data)
    header = _read(_Header, lines.readline())
    policies: list[Policy] = []
    exceptions: list[Exemption] = []
    try:
        for line in paced(islice(lines, header.policies)):
            policies.append(_read(Policy, line, f"policies.{len(policies)}"))
        for line in paced(islice(lines, header.exceptions)):
            exceptions.append(_read(Exemption, line, f"exceptions.{len(exceptions)}"))
    except BundleError:
        release(policies)
        raise
    if (len(policies), len(exceptions), lines.read(1)) != (header.policies, header.exceptions, b""):
        raise BundleError("bundle is invalid: its header counts other documents than it holds")
    return policies, exceptions


def _read(model: type[M], line: bytes, place: str = "") -> M:
    """Read one line of a bundle; ``place`` names it in errors.

    :raises BundleError: the line is not valid.
    """
    try:
        return model.model_validate_json(line)
    except ValidationError as error:
        raise BundleError(_explain(line, place, error)) from None


def encode_origins(tree: PolicyTree) -> bytes:
    """Return the canonical bytes of the origins of a tree: where each value was written."""
    sources = {
        scope: {"file": source.file, "at": {path: list(at) for path, at in source.at.items()}}
        for scope, source in tree.sources.items()
    }
    return _canonical({"format": _ORIGINS_FORMAT, "sources": sources})


def decode_origins(data: bytes) -> dict[str, SourceMap]:
    """Read the bytes of origins.

    :raises BundleError: the bytes are not origins.
    """
    try:
        sources: dict[str, Any] = json.loads(data)["sources"]
        return {
            scope: SourceMap(
                str(source["file"]),
                {path: (int(a), int(b), int(c)) for path, (a, b, c) in source["at"].items()},
            )
            for scope, source in sources.items()
        }
    except (
        ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError,
    ) as error:  # fmt: skip
        raise BundleError(f"origins are not readable: {error}") from None


def _canonical(value: object) -> bytes:
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def _explain(line: bytes, place: str, error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    if field == "format" and not place:
        return (
            f"bundle has a format this version cannot read (it reads {FORMAT}): upgrade ratectl, "
            "or publish the policies again"
        )
    path = ".".join(filter(None, (place, field)))
    at = f" at {path}" if path else f" ({len(line)} bytes)"
    return f"bundle is invalid{at}: {first['msg']}"
