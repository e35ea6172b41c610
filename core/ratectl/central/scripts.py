"""The scripts that the server runs, with their names by content (SHA-1), as EVALSHA takes them."""

from __future__ import annotations

from hashlib import sha1
from importlib.resources import files
from typing import Final, NamedTuple

__all__ = ["BEAT", "DECIDE", "SETTLE", "Script"]


class Script(NamedTuple):
    """A script of the server."""

    text: str
    sha: str


def _script(name: str) -> Script:
    folder = files(__package__)
    texts = [folder.joinpath(f"{part}.lua").read_text("utf-8") for part in ("algorithms", name)]
    text = "\n".join(texts)
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


DECIDE: Final = _script("decide")
SETTLE: Final = _script("settle")
BEAT: Final = _script("beat")
