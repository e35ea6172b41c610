"""Loading only those documents of a large tree that can matter for one scope.

Only the documents of a scope and its ancestors matter for it: a few of thousands. To parse all
documents takes seconds; to look at their bytes takes milliseconds. A document is left out only if
its text proves that it declares another scope; a document in any unusual form is parsed.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from ratectl.diagnostics import Diagnostic
from ratectl.policy.language.scopes import ancestry
from ratectl.policy.loading.files import Sources, find_sources
from ratectl.policy.loading.loader import load_sources

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from ratectl.policy.loading.loader import Loaded

__all__ = ["load_on_path"]

_DOCUMENT: Final = re.compile(rb"^---(?=[ \t\r\n]|\Z)", re.MULTILINE)
"""Start of a document: at the start of a line this can be nothing else."""

_DECLARED: Final = re.compile(
    rb"^scope: +([\"']?)(/[A-Za-z0-9._/-]*)\1(?:[ \t]+#[^\r\n]*)?[ \t]*\r?$", re.MULTILINE
)
_OTHER_LINE_ENDS: Final = re.compile(rb"\r(?!\n)|\xc2\x85|\xe2\x80[\xa8\xa9]")
"""Line ends of YAML that are not counted here: blanked documents would move other places."""


def load_on_path(
    paths: Sequence[str | os.PathLike[str]], scope: str, *, stdin: bytes | None = None
) -> Loaded | None:
    """Load the documents at ``paths`` that may declare ``scope`` or a scope above it.

    In a valid tree only these matter for ``scope``. Return None if a file cannot be read, or if no
    document declares any of these scopes: then the whole tree must be loaded for the findings.

    :raises UsageError: no path at all, or ``-`` without ``stdin``.
    """
    wanted = {ancestor.encode() for ancestor in ancestry(scope)}
    sources = find_sources(paths, stdin)
    kept: dict[str, bytes] = {}
    for name, data in sources.read_all():
        if isinstance(data, Diagnostic):
            return None
        rest = _relevant(data, wanted)
        if rest is not None:
            kept[name] = rest
    if sources.diagnostics or not kept:
        return None
    return load_sources(Sources.of(kept))


def _relevant(data: bytes, wanted: AbstractSet[bytes]) -> bytes | None:
    """Return the file with documents of other scopes blanked; None if all are."""
    if b"---" not in data:  # most files hold one document
        return data if _may_declare(data, wanted) else None
    starts = [match.start() for match in _DOCUMENT.finditer(data)]
    bounds = [0, *starts, len(data)]
    documents = [data[a:b] for a, b in pairwise(bounds)]
    matter = [_may_declare(document, wanted) for document in documents]
    if not any(matter):
        return None
    if all(matter) or _OTHER_LINE_ENDS.search(data):
        return data
    return b"".join(
        document if matters else b"\n" * document.count(b"\n")
        for document, matters in zip(documents, matter, strict=True)
    )


def _may_declare(document: bytes, wanted: AbstractSet[bytes]) -> bool:
    """Return False only if the text has one key ``scope``, with another value."""
    if b"\\" in document:  # escapes can write any key
        return True
    times = document.count(b"scope")
    if times != 1:
        return times > 1
    declared = _DECLARED.search(document)
    return declared is None or declared[2] in wanted
