"""The scripts that the server runs, with their names by content (SHA-1), as EVALSHA takes them."""

from __future__ import annotations

from hashlib import sha1
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BEAT", "DECIDE", "SETTLE", "Call", "Script"]


class Script(NamedTuple):
    """A script of the server."""

    text: str
    sha: str


class Call(NamedTuple):
    """One run of a script."""

    script: Script
    keys: Sequence[str]
    argument: str


def _script(name: str) -> Script:
    files = [Path(__file__).with_name(f"{part}.lua") for part in ("algorithms", name)]
    text = "\n".join([file.read_text("utf-8") for file in files])
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


DECIDE: Final = _script("decide")
SETTLE: Final = _script("settle")
BEAT: Final = _script("beat")
