"""Settings of the documentation's site: ``make docs``."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import reference  # noqa: E402  of this folder

reference.write(HERE / "reference")

project = "ratectl"
html_title = "ratectl"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "index"
exclude_patterns = ["_build"]
suppress_warnings = ["myst.header"]  # pages of rules begin with a heading of their own
myst_heading_anchors = 4
html_theme = "furo"
html_show_sphinx = False
html_copy_source = False
nitpicky = True
smartquotes = False  # `--` is an option, not a dash
