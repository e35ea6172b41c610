"""The command ``ratectl agent run``, as files for deployment write it."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout
from functools import cache

from ratectl_cli.app import run

__all__ = ["flags", "known_flags"]


@cache
def known_flags() -> frozenset[str]:
    """Return the long flags that the command's help lists."""
    with redirect_stdout(io.StringIO()) as output:
        assert run(["agent", "run", "--help"]) == 0
    return frozenset(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", output.getvalue(), re.MULTILINE))


def flags(words: list[str]) -> dict[str, list[str]]:
    """Return the values of each flag of a command, in the form ``--flag=VALUE``."""
    assert words[:2] == ["agent", "run"]
    found: dict[str, list[str]] = {}
    for word in words[2:]:
        name, _, value = word.partition("=")
        found.setdefault(name, []).append(value)
    return found
