"""Bundles: the canonical, content-addressed bytes of a policy tree.

Two trees that say the same have the same bytes, whatever their files, comments, key order and
spelling of numbers. Where each value was written travels beside them (*origins*), under a hash of
its own: agents never fetch it, and moving a line is no change of policy.

The bytes are canonical JSON (RFC 8785 for what occurs here: no floats, sorted keys, no spaces).
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from ratectl.collector import paused_collector
from ratectl.errors import BundleError
from ratectl.policy.model import (
    Exemption,
    Policy,
    PolicyTree,
    SourceMap,
    _Model,
    with_exceptions,
)

__all__ = [
    "FORMAT",
    "MAX_BUNDLE_BYTES",
    "decode_origins",
    "decode_policies",
    "digest",
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


_ADAPTER = TypeAdapter(_Bundle)


def digest(data: bytes) -> str:
    """The address of ``data``: SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def encode_policies(tree: PolicyTree) -> bytes:
    """The canonical bytes of what the tree says."""
    said = {
        "format": FORMAT,
        "policies": [_dumped(policy) for _, policy in sorted(tree.policies.items())],
    }
    exceptions = [_dumped(exception) for exception in tree.exceptions]
    return _canonical({**said, "exceptions": exceptions} if exceptions else said)


def _dumped(document: Policy | Exemption) -> dict[str, Any]:
    return document.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)


def decode_policies(data: bytes) -> PolicyTree:
    """Read bundle bytes, strictly.

    :raises BundleError: not a bundle, of a newer format, or invalid; the text says which.
    """
    if len(data) > MAX_BUNDLE_BYTES:
        raise BundleError(f"bundle has {len(data)} bytes, more than {MAX_BUNDLE_BYTES}")
    with paused_collector():
        try:
            bundle = _ADAPTER.validate_json(data)
        except ValidationError as error:
            raise BundleError(_explain(data, error)) from None
        policies = {policy.scope: policy for policy in bundle.policies}
    if len(policies) != len(bundle.policies):
        raise BundleError("bundle declares a scope twice")
    return with_exceptions(PolicyTree(policies), ((each, None) for each in bundle.exceptions))


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
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if where == "format":
        return f"bundle has a format this version cannot read (it reads {FORMAT}): upgrade ratectl"
    place = f" at {where}" if where else f" ({len(data)} bytes)"
    return f"bundle is invalid{place}: {first['msg']}"
