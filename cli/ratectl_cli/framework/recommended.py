"""Commands that messages recommend: they name the same store, and the same key."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

__all__ = ["Selector"]

_SIGNED: Final = r"apply|panic o(?:n|ff)|rollback|rollout (?:abort|promote|run)|usage reset"
"""Commands that have ``--sign``."""
_OTHERS: Final = r"agents|blame|cluster|diff|doctor|history|panic|plan|pull|rollout|show|usage"
_COMMAND: Final = re.compile(
    rf"`(?P<command>ratectl (?:(?P<signed>{_SIGNED})|{_OTHERS})(?: [^`]*)?)`"
)
_PLACED: Final = re.compile(r" (?:-e|--store|--local)\b")


class Selector(NamedTuple):
    """Options of a command that commands after it have to repeat."""

    reading: str = ""
    """Option that chose the store, after a blank; empty if a variable or the file chose it."""
    changing: str = ""
    """This option, and the one that named the key."""

    def repeated(self, text: str) -> str:
        """Return a text whose commands in backticks have the options that they need."""
        return _COMMAND.sub(self._with_options, text)

    def _with_options(self, match: re.Match[str]) -> str:
        command = match["command"]
        options = self.changing if match["signed"] else self.reading
        return f"`{command}{'' if _PLACED.search(command) else options}`"
