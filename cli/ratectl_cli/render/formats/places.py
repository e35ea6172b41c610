"""Text, file and stable identity of a finding, for all formats."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from ratectl.runtime.wording import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ratectl.diagnostics import Diagnostic

__all__ = ["explained", "fingerprints", "relative", "uri_path"]

_STDIN = "<stdin>"


def explained(finding: Diagnostic, *, between: str = "\n") -> str:
    """Return the message, the hint and the notes of a finding, without its place."""
    hint = f"hint: {finding.hint}" if finding.hint else None
    parts = [finding.message, *([hint] if hint else []), *finding.notes]
    return between.join(printable(part) for part in parts)


def uri_path(file: str) -> str | None:
    """Return the path of a file with ``/``; None for standard input."""
    return None if file == _STDIN else Path(file).as_posix()


def relative(file: str) -> str:
    """Return the path of a file relative to the working directory, if it is below it.

    CI systems link only such paths.
    """
    path = uri_path(file) or "stdin"
    if os.path.isabs(path):  # noqa: PTH117 - of a text, not of a file
        near = Path(os.path.relpath(path)).as_posix()
        path = path if near.startswith("../") else near
    return path


def fingerprints(findings: Iterable[Diagnostic]) -> Iterator[str]:
    """Yield for finding finding an identity that stays when lines above it are edited.

    Equal findings in one file are numbered in their order.
    """
    seen: Counter[str] = Counter()
    for finding in findings:
        source = (finding.source_line or "").strip()
        content = "\0".join((finding.code, relative(finding.span.file), finding.message, source))
        seen[content] += 1
        text = f"{content}\0{seen[content]}"
        yield hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
