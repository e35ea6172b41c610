"""Results of `ratectl import` and `ratectl export`, for people and for programs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ratectl.moving.envoy_import import MAPPING
from ratectl_cli.framework.text import bold, dim, plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ratectl.moving.envoy_export import Exported
    from ratectl.moving.envoy_import import Imported
    from ratectl_cli.framework.text import Block

__all__ = ["export_blocks", "export_data", "import_blocks", "import_data"]


def import_data(imported: Imported, written: Sequence[str]) -> dict[str, Any]:
    """Return an import for programs."""
    return {"files": list(written), "scopes": imported.scopes, "notes": imported.notes}


def import_blocks(imported: Imported, written: Sequence[str], to: str) -> Iterator[Block]:
    """Yield an import for people, with the commands to run next."""
    yield from _written(written)
    yield f"{plural(imported.scopes, 'limit')}, each at a scope of its own"
    policies, mapping = (shlex.quote(str(Path(to, name))) for name in ("policies", MAPPING))
    yield dim("next:")
    yield f"  ratectl apply {policies}"
    yield f"  ratectl agent run --rls 127.0.0.1:8081 --rls-mapping {mapping}"


def export_data(exported: Exported, written: Sequence[str]) -> dict[str, Any]:
    """Return an export for programs."""
    return {"files": list(written), "limits": exported.limits, "notes": exported.notes}


def export_blocks(exported: Exported, written: Sequence[str]) -> Iterator[Block]:
    """Yield an export for people."""
    yield from _written(written)
    yield f"{plural(exported.limits, 'descriptor')} with a limit"


def _written(paths: Sequence[str]) -> Iterator[Block]:
    for path in paths:
        yield [bold("wrote ", "green"), path]
