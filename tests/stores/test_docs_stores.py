"""docs/stores.md: its example runs, and it names every scheme and setting."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from ratectl.stores.etcd.settings import VARIABLES
from ratectl.stores.registry import BACKENDS

PAGE = (Path(__file__).parents[2] / "docs" / "stores.md").read_text("utf-8")


def test_example_of_the_page_runs(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    command = [sys.executable, "-W", "error", "-c", example]
    subprocess.run(command, check=True, timeout=60, env={"XDG_STATE_HOME": str(tmp_path)})
    assert not list(tmp_path.rglob("last-good"))


def test_page_names_every_scheme_and_setting() -> None:
    for backend in BACKENDS:
        for scheme in backend.schemes:
            assert f"`{scheme}://" in PAGE
    for variable in VARIABLES:
        assert f"`{variable}`" in PAGE
