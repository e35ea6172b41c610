"""docs/architecture.md: the packages and layers that it shows are those of the code."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = (ROOT / "docs" / "architecture.md").read_text("utf-8")
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
LAYERS: Final = {
    contract["containers"][0]: [re.findall(r"\w+", layer) for layer in contract["layers"]]
    for contract in PROJECT["tool"]["importlinter"]["contracts"]
    if "containers" in contract
}


def drawn(package: str) -> list[list[str]]:
    """Rows of the table of one package, top to bottom: the names in their first cells."""
    _, _, table = PAGE.partition(f"| packages of `{package}` | purpose |\n|---|---|\n")
    rows = table.partition("\n\n")[0].splitlines()
    return [re.findall(r"`(\w+)`", row.split("|")[1]) for row in rows]


@pytest.mark.parametrize("package", LAYERS)
def test_the_table_has_the_layers_of_the_import_contract(package: str) -> None:
    assert [sorted(row) for row in drawn(package)] == [sorted(row) for row in LAYERS[package]]


def test_every_package_is_named() -> None:
    core = ROOT / "core" / "ratectl"
    packages = {path.parent.name for path in core.rglob("__init__.py")} - {"ratectl"}
    assert [name for name in sorted(packages) if not re.search(rf"`{name}[`/]", PAGE)] == []
