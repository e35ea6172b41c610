"""A generation that was written as files, as text and as data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ratectl.runtime.wording import listed
from ratectl_cli.framework.text import bold, plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ratectl.publishing.export import Export
    from ratectl_cli.framework.text import Block

__all__ = ["export_blocks", "export_data", "export_notes"]

_NAMED: Final = 10
"""Files named, at most, in a message."""


def export_data(export: Export, states: Mapping[str, str], directory: str | None) -> dict[str, Any]:
    """Return the files for programs, with their text if they went to no ``directory``.

    ``states``: by path, what was done with each file.
    """
    return {
        "generation": export.generation,
        "live": export.live,
        "directory": directory,
        "files": [
            {
                "path": file.path,
                "state": states[file.path],
                "rendered": file.applied is None,
                "text": file.text if directory is None else None,
            }
            for file in export.files
        ],
    }


def export_blocks(
    export: Export, states: Mapping[str, str], directory: str | None
) -> Iterator[Block]:
    """Yield the files that were written, for people."""
    for file in export.files:
        state = states[file.path]
        if state != "unchanged" and directory is not None:
            yield [bold(f"{state} ", "green"), str(Path(directory, file.path))]
    what = f"generation {export.generation}{', which is live,' if export.live else ''}"
    done = sum(state != "unchanged" for state in states.values())
    count = plural(len(export.files), "file")
    yield f"{what} is in {directory}: {count}, {done or 'none'} written"


def export_notes(export: Export) -> Iterator[str]:
    """Yield messages about files that are missing or were generated."""
    if not export.files:
        yield f"generation {export.generation} holds no policy: there is nothing to write"
    generated = [file.path for file in export.files if file.applied is None]
    if generated:
        yield (
            f"generated, without comments: {listed(generated, _NAMED)} (the applied files are not "
            "kept, or have other content)"
        )
