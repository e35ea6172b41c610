"""Changes of files as one patch for `git apply`."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from ratectl.runtime.git import work_tree
from ratectl_cli.render.unified import unified_diff

if TYPE_CHECKING:
    from ratectl_cli.framework.session import Session

__all__ = ["Patch"]


class Patch:
    """Patch with paths from the top of the Git work tree, or from the working directory."""

    def __init__(self) -> None:
        self.text = ""
        self._here = f"{Path.cwd().resolve()}".rstrip("/") + "/"
        self._top = f"{work_tree(Path(self._here)) or self._here}".rstrip("/") + "/"
        self._outside: list[str] = []
        self._skipped = False

    def add(self, name: str, real: str, before: str, after: str) -> None:
        """Add the change of a file; ``name`` is for messages, ``real`` its path without links."""
        if not real.startswith(self._top):
            self._outside.append(name)
            return
        self._skipped |= not real.startswith(self._here)
        self.text += unified_diff(real.removeprefix(self._top), before, after)

    def warn(self, session: Session) -> None:
        """Say which changes are not in the patch, and which of them Git would skip."""
        for name in self._outside:
            session.warn(
                f"{name}: its changes are not in the diff: it is outside of {self._top}; run "
                "ratectl in the work tree of the file"
            )
        if self._skipped:
            top = shlex.quote(os.path.relpath(self._top, self._here))
            session.warn(
                "`git apply` skips files outside of the working directory: apply the diff with "
                f"`git -C {top} apply`"
            )
