"""The code of a page of the documentation, by the file that its first line names."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["files_of"]

_BLOCK = re.compile(r"```python\n# ([\w/]+\.py)\n((?:(?!```).)*)```", re.DOTALL)


def files_of(page: str) -> dict[str, str]:
    text = (Path(__file__).parents[2] / "docs" / page).read_text("utf-8")
    return dict(_BLOCK.findall(text))
