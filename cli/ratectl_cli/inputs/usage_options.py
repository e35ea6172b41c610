"""Values of the options of ``ratectl usage`` and ``ratectl top``."""

from __future__ import annotations

import re
from typing import Final

from ratectl.errors import UsageError
from ratectl.fleet.recent import MAX_MINUTES

__all__ = ["minutes_of", "share_of"]

_MINUTES: Final = re.compile(r"([0-9]{1,4}) ?(?:m|min)")
_SHARE: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(%?)")


def share_of(text: str) -> float:
    """Return the share, above 0 and at most 1, that ``80%`` or ``0.8`` names.

    :raises UsageError: it is something else.
    """
    match = _SHARE.fullmatch(text.strip())
    share = float(match[1]) / (100 if match[2] else 1) if match else 0.0
    if not 0 < share <= 1:
        error = UsageError(f"--near must be above 0% and at most 100%, not {text!r}")
        percent = f"{text}%" if match and not match[2] and 1 < share <= 100 else "80%"
        error.add_note(f"write a share, like --near {percent}")
        raise error
    return share


def minutes_of(text: str) -> int:
    """Return the minutes that ``1m`` to ``15m`` name.

    :raises UsageError: it is something else.
    """
    match = _MINUTES.fullmatch(text.strip())
    minutes = int(match[1]) if match else 0
    if not 1 <= minutes <= MAX_MINUTES:
        error = UsageError(f"--since must be 1m to {MAX_MINUTES}m, not {text!r}")
        error.add_note(
            f"write whole minutes, like --since 5m: agents report the last {MAX_MINUTES} minutes"
        )
        raise error
    return minutes
