"""Writing of files that were moved from another format, or to it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ratectl.errors import Refused
from ratectl.runtime.whole_files import leads_out, write_all
from ratectl.runtime.wording import listed
from ratectl_cli.framework.deadline import tidy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["write_new"]

_NAMED = 10
"""Files named, at most, in a message."""


def write_new(folder: Path, files: Mapping[str, str], command: str) -> list[str]:
    """Write texts to new files, all of them or none; return their paths.

    :raises Refused: a file exists already, or a link leads out of the folder.
    """
    paths = {name: folder / name for name in files}
    existing = [str(path) for path in paths.values() if os.path.lexists(path)]
    if existing:
        refused = Refused(
            f"{command} never overwrites, and there are already: {listed(existing, _NAMED)}"
        )
        refused.add_note("move these files away, or name another folder: --to other")
        raise refused
    for path in paths.values():
        if leads_out(folder, path.parent):
            raise Refused(f"{path.parent} leads out of {folder} by a link: remove that link")
    tidy(write_all)(folder, {name: text.encode("utf-8") for name, text in files.items()})
    return [str(path) for path in paths.values()]
