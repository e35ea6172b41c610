"""What the formats have in common: a finding's text, its file, and an identity that lasts."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from ratectl_cli.framework.terminal import safe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ratectl.diagnostics import Diagnostic

__all__ = ["explained", "fingerprints", "relative", "uri_path"]

_STDIN = "<stdin>"


def explained(found: Diagnostic, *, between: str = "\n") -> str:
    """Everything that is said of a finding but its place."""
    hint = f"hint: {found.hint}" if found.hint else None
    parts = [found.message, *([hint] if hint else []), *found.notes]
    return between.join(safe(part) for part in parts)


def uri_path(file: str) -> str | None:
    """The path of a file, with ``/``; None for standard input, which has none."""
    return None if file == _STDIN else Path(file).as_posix()


def relative(file: str) -> str:
    """The file as seen from the working directory, where that holds it: CI shows no other."""
    path = uri_path(file) or "stdin"
    if os.path.isabs(path):  # noqa: PTH117 - of a text, not of a file
        near = Path(os.path.relpath(path)).as_posix()
        path = path if near.startswith("../") else near
    return path


def fingerprints(found: Iterable[Diagnostic]) -> Iterator[str]:
    """For each finding an identity that survives the lines above it being edited.

    Equal findings in one file are told apart by their order.
    """
    seen: Counter[str] = Counter()
    for each in found:
        source = (each.source_line or "").strip()
        said = "\0".join((each.code, relative(each.span.file), each.message, source))
        seen[said] += 1
        text = f"{said}\0{seen[said]}"
        yield hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
