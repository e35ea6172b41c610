"""The agent's log: a handler of the host that fails ends no thread, and no decision."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any, Final

__all__ = ["log"]


class _Log(logging.LoggerAdapter[logging.Logger]):
    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log, and ignore the exceptions of handlers."""
        kwargs.setdefault("stacklevel", 2)  # the caller's line, not this one
        with suppress(Exception):
            super().log(level, msg, *args, **kwargs)


log: Final = _Log(logging.getLogger("ratectl.agent"), {})
