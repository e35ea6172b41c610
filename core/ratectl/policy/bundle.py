"""Bundles: the canonical, content-addressed bytes of a policy tree.

Two trees that say the same have the same bytes, whatever their files, comments, key order and
spelling of numbers. Where each value was written travels beside them (*origins*), under a hash of
its own: agents never fetch it, and moving a line is no change of policy.

The bytes are canonical JSON (RFC 8785 for what occurs here: no floats, sorted keys, no spaces).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError

from ratectl.errors import BundleError
from ratectl.policy.bundle_pieces import split
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
    from collections.abc import Iterable, Iterator, Sequence

    from pydantic_core import ErrorDetails

    from ratectl.policy.bundle_pieces import Pieces

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

FORMAT = 1
"""Version of the bytes; a reader refuses a newer one."""

MAX_BUNDLE_BYTES = 256 * 1024 * 1024
"""What an agent loads at most: its own configuration is untrusted input too."""


class _Bundle(_Model):
    format: Literal[1]
    policies: Annotated[tuple[Policy, ...], Field(strict=False)]
    exceptions: Annotated[tuple[Exemption, ...], Field(strict=False)] = ()


_ADAPTER: Final = TypeAdapter(_Bundle)
_POLICY: Final = TypeAdapter(Policy).validator.validate_json
_EXCEPTION: Final = TypeAdapter(Exemption).validator.validate_json


def digest(data: bytes) -> str:
    """The address of ``data``: SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def encode_policies(tree: PolicyTree) -> bytes:
    """The canonical bytes of what the tree says."""
    parts = [b"{"]
    if tree.exceptions:
        parts += [b'"exceptions":[', _listed(tree.exceptions), b"],"]
    policies = (policy for _, policy in sorted(tree.policies.items()))
    parts += [b'"format":%d,"policies":[' % FORMAT, _listed(policies), b"]}"]
    return b"".join(parts)


def _listed(documents: Iterable[Policy | Exemption]) -> bytes:
    return b",".join([encode_document(each) for each in paced(documents)])


def encode_document(document: Policy | Exemption) -> bytes:
    """The canonical bytes of one document: those that say the same have the same."""
    said = document.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    return _canonical(said)


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
    """Read bundle bytes, strictly; those that ``encode_policies`` wrote one document at a time.

    :raises BundleError: not a bundle, of a newer format, or invalid; the text says which.
    """
    if len(data) > MAX_BUNDLE_BYTES:
        raise BundleError(f"bundle has {len(data)} bytes, more than {MAX_BUNDLE_BYTES}")
    with paused_collector():
        policies, exceptions = _documents(data)
        by_scope = {policy.scope: policy for policy in paced(policies)}
    if len(by_scope) != len(policies):
        raise BundleError("bundle declares a scope twice")
    return with_exceptions(PolicyTree(by_scope), ((each, None) for each in exceptions))


def _documents(data: bytes) -> tuple[Sequence[Policy], Sequence[Exemption]]:
    """What a bundle holds, each document read by itself where it is written as we write it.

    To read everything in one go is one call: while it lasts no other thread gets on.

    :raises BundleError: it is not a bundle.
    """
    pieces = split(data)
    if pieces is None:
        return _whole(data)
    if pieces.format == FORMAT:
        policies: list[Policy] = []
        try:
            policies.extend(map(_POLICY, paced(_each(data, pieces.policies))))
            return policies, [_EXCEPTION(piece) for piece in _each(data, pieces.exceptions)]
        except ValidationError:
            release(policies)
    refusal = _refusal(pieces, data)
    if refusal is None:
        return _whole(data)
    raise BundleError(refusal)


def _each(data: bytes, places: Iterable[int]) -> Iterator[bytes]:
    return (data[before + 1 : behind] for before, behind in pairwise(places))


def _whole(data: bytes) -> tuple[Sequence[Policy], Sequence[Exemption]]:
    try:
        bundle = _ADAPTER.validate_json(data)
    except ValidationError as error:
        raise BundleError(_explain(data, error)) from None
    return bundle.policies, bundle.exceptions


def _refusal(pieces: Pieces, data: bytes) -> str | None:
    """What is wrong first, as it is said of the whole; None where that may not even be JSON."""
    found: list[str] = []
    form = b'{"format":%d,"policies":[%s],"exceptions":[%s]}'
    for field, places in (("policies", pieces.policies), ("exceptions", pieces.exceptions)):
        for position, piece in enumerate(paced(_each(data, places))):
            alone = (piece, b"") if field == "policies" else (b"", piece)
            try:
                _ADAPTER.validate_json(form % (pieces.format, *alone))
            except ValidationError as error:
                first = _first(error)
                if first["type"] == "json_invalid":
                    return None
                if not found:
                    said = _explain(data, error)
                    found.append(said.replace(f" at {field}.0.", f" at {field}.{position}.", 1))
    return found[0] if found else None


def encode_origins(tree: PolicyTree) -> bytes:
    """The canonical bytes of where the tree was written."""
    sources = {
        scope: {"file": source.file, "at": {path: list(at) for path, at in source.at.items()}}
        for scope, source in tree.sources.items()
    }
    return _canonical({"format": FORMAT, "sources": sources})


def decode_origins(data: bytes) -> dict[str, SourceMap]:
    """Read origin bytes.

    :raises BundleError: not origins.
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


def _explain(data: bytes, error: ValidationError) -> str:
    first = _first(error)
    where = ".".join(str(part) for part in first["loc"])
    if where == "format":
        return f"bundle has a format this version cannot read (it reads {FORMAT}): upgrade ratectl"
    place = f" at {where}" if where else f" ({len(data)} bytes)"
    return f"bundle is invalid{place}: {first['msg']}"


def _first(error: ValidationError) -> ErrorDetails:
    return error.errors(include_url=False, include_input=False)[0]
