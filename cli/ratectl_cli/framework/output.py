"""The versioned document that ``-o json`` and ``-o yaml`` print."""

from __future__ import annotations

import json
from typing import Any, Final

__all__ = ["API_VERSION", "document", "encode"]

API_VERSION: Final = "ratectl/v1"


def document(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    """Return the document of a result."""
    return {"apiVersion": API_VERSION, "kind": kind, **data}


def encode(value: dict[str, Any], output: str) -> str:
    """Return the document as ASCII text, which is safe on a terminal and in any locale."""
    if output == "json":
        return json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False) + "\n"
    import yaml

    text: str = yaml.dump(
        json.loads(json.dumps(value, allow_nan=False)),
        Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper),
        sort_keys=False,
        allow_unicode=False,
        width=2**20,
    )
    return text
