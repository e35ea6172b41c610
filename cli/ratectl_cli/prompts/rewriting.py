"""Writing of policy files that a command changes: all of them, or none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ratectl.runtime.whole_files import write_together
from ratectl_cli.framework.deadline import tidy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.policy.loading.files import Sources

__all__ = ["rewrite"]


def rewrite(sources: Sources, changes: Mapping[str, bytes]) -> None:
    """Replace the bytes of files, by their names in ``sources``: all of them, or none.

    :raises OSError: a file cannot be written; it has the name to show.
    """
    places = [(name, sources.paths[name]) for name in changes]
    names = {Path(place.real): name for name, place in places if place is not None}
    try:
        tidy(write_together)({path: changes[name] for path, name in names.items()})
    except OSError as error:
        error.filename = names.get(Path(str(error.filename)), error.filename)
        raise
