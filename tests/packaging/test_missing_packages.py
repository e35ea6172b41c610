"""Packages that are not installed: a usage error names the package to install."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Final

import pytest

from support import once
from syntax_trees import syntax_tree

pytestmark = once

ROOT: Final = Path(__file__).parents[2]
OWN: Final = {"ratectl", "ratectl_cli"}
SIGNING: Final = "signing needs the package cryptography: pip install 'ratectl[signing]'"
ETCD: Final = "pip install grpcio protobuf"
METRICS: Final = "metrics need the package prometheus-client: pip install 'ratectl[prometheus]'"
REDIS: Final = "limits across: redis need the package redis: pip install 'ratectl[redis]'"
HTTP: Final = "--http needs the package httptools: pip install 'ratectl[sidecar]'"
OPTIONAL: Final = {
    "cryptography", "httptools", "ngh2", "opentelemetry-api", "prometheus-client", "uvloop",
}  # fmt: skip
AGENT: Final = """
import ratectl
try:
    ratectl.Agent("sqlite:///rates.db", public_keys=["key.pub"])
except ratectl.UsageError as error:
    sys.exit(str(error))
"""


def without(package: str, code: str, *arguments: str, folder: Path) -> tuple[int, str]:
    """Run code in a process that cannot import a package; return its exit code and stderr."""
    block = f"import sys\nsys.modules[{package!r}] = None\n"
    command = [sys.executable, "-c", block + code, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("package", "arguments", "advice"),
    [
        ("cryptography", ["key", "generate", "key"], SIGNING),
        ("cryptography", ["apply", ".", "-m", "first", "--sign", "key", "--yes"], SIGNING),
        ("prometheus_client", ["agent", "run", "--metrics", "127.0.0.1:0"], METRICS),
        ("httptools", ["agent", "run", "--http", "127.0.0.1:0"], HTTP),
        ("grpc", ["history", "--store", "etcd://127.0.0.1:1/prod"], ETCD),
        ("google.protobuf", ["history", "--store", "etcd://127.0.0.1:1/prod"], ETCD),
    ],
)
def test_command_names_the_package_to_install(
    package: str, arguments: list[str], advice: str, tmp_path: Path
) -> None:
    (tmp_path / "all.yaml").write_text("apiVersion: ratectl/v1\nscope: /\n")
    (tmp_path / "key").write_text("no key")
    code = "from ratectl_cli.app import main\nsys.exit(main())\n"
    exit_code, errors = without(package, code, *arguments, folder=tmp_path)
    assert exit_code == 64
    assert advice in " ".join(errors.split())
    assert "Traceback" not in errors


def test_agent_with_public_keys_names_the_extra(tmp_path: Path) -> None:
    assert without("cryptography", AGENT, folder=tmp_path) == (1, SIGNING + "\n")


def test_agent_with_a_server_names_the_extra(tmp_path: Path) -> None:
    code = AGENT.replace('public_keys=["key.pub"]', 'redis="redis://127.0.0.1:1"')
    assert without("redis", code, folder=tmp_path) == (1, REDIS + "\n")


def test_every_imported_package_is_declared_or_an_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {_normal(line) for line in project["dependencies"]}
    extras = {
        _normal(line) for lines in project["optional-dependencies"].values() for line in lines
    }
    owners = packages_distributions()
    needed = set()
    for name in _imports():
        distributions = {_normal(owner) for owner in owners[name]}
        needed.add(min(distributions & declared, default=min(distributions)))
    assert needed - declared - {"pydantic-core"} == OPTIONAL
    assert extras >= OPTIONAL


def _normal(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def _imports() -> set[str]:
    """Return top-level names of imported packages that belong neither to Python nor to ratectl.

    Adapters are left out: whoever imports one has its library.
    """
    names: set[str] = set()
    for root in ("core", "cli"):
        for path in (ROOT / root).rglob("*.py"):
            if "contrib" in path.parts:
                continue
            for node in ast.walk(syntax_tree(path)):
                if isinstance(node, ast.Import):
                    names |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    names.add((node.module or "").partition(".")[0])
    return names - set(sys.stdlib_module_names) - OWN
