"""Wheels and the source distribution: their files, and decisions of an installed package."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from typing import TYPE_CHECKING

import pytest
from distributions import ROOT, Built, Environment, run, sources

from support import once

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [once, pytest.mark.packaging, pytest.mark.xdist_group("packaging")]

REASON = "the compiled core was not built: [Errno 2] No such file or directory: '/no/such/compiler'"
POLICIES = """\
apiVersion: ratectl/v1
scope: /
limits:
  spike: {rate: 1/day, burst: 2, per: tenant}
"""
DECIDE = """\
import json, sys
import ratectl
with ratectl.Agent(sys.argv[1]) as agent:
    decisions = [agent.check("/", {"tenant": "acme"}).allowed for _ in range(3)]
    print(json.dumps([decisions, agent.status.engine]))
"""


@pytest.fixture(params=["compiled", "pure"])
def wheel(request: pytest.FixtureRequest, built: Built) -> Path:
    path: Path | None = getattr(built, request.param)
    if path is None:
        pytest.skip("no compiler here")
    return path


@pytest.fixture
def compiled(built: Built) -> Path:
    if built.compiled is None:
        pytest.skip("no compiler here")
    return built.compiled


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_source_distribution_has_exactly_the_sources(built: Built) -> None:
    with tarfile.open(built.source) as archive:
        files = {item.name.partition("/")[2] for item in archive if item.isfile()}
    generated = {name for name in files if "egg-info/" in name} | {"PKG-INFO", "setup.cfg"}
    assert files - generated == sources()


def test_compiled_wheel_is_for_every_python_from_the_oldest(compiled: Path) -> None:
    assert re.search(r"-cp311-abi3-[a-z0-9_.]+\.whl$", compiled.name)
    modules = sorted(name for name in names(compiled) if name.endswith((".so", ".pyd")))
    assert [name.partition(".abi3.")[0] for name in modules] == [
        "ratectl/engine/native/_fast", "ratectl/sidecar/_http2",
    ]  # fmt: skip
    assert not any("build_failure" in name for name in names(compiled))


def test_wheel_without_the_core_is_for_every_platform_and_has_the_reason(built: Built) -> None:
    assert built.pure.name.endswith("-py3-none-any.whl")
    assert not any(name.endswith((".so", ".pyd")) for name in names(built.pure))
    assert "ratectl/engine/native/build_failure.txt" in names(built.pure)
    assert REASON.lower() in built.warnings.lower(), "the build warns"


def test_wheels_have_the_licence_and_no_c_sources(wheel: Path) -> None:
    files = names(wheel)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in files)
    assert not [name for name in files if name.endswith((".c", ".h"))]
    assert {name.partition("/")[0] for name in files if ".dist-info" not in name} == {
        "ratectl", "ratectl_cli",
    }  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="the flags are those of Linux")
@pytest.mark.parametrize("name", ["engine/native/_fast", "sidecar/_http2"])
def test_compiled_modules_are_hardened_and_stripped(
    compiled: Path, tmp_path: Path, name: str
) -> None:
    readelf = shutil.which("readelf")
    assert readelf is not None, "readelf comes with the linker"
    with zipfile.ZipFile(compiled) as archive:
        module = archive.extract(f"ratectl/{name}.abi3.so", tmp_path)
    headers = run([readelf, "--wide", "--dynamic", "--segments", "--sections", module], tmp_path)
    assert "GNU_RELRO" in headers
    assert "BIND_NOW" in headers
    assert ".symtab" not in headers
    assert ".debug_info" not in headers


def test_every_link_of_the_description_is_a_file_of_the_repository(built: Built) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    home = project["urls"]["Homepage"]
    with zipfile.ZipFile(built.pure) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    assert f"Homepage, {home}" in metadata.get_all("Project-URL", [])
    text = re.sub(r"```.*?```", "", metadata.get_payload(), flags=re.DOTALL)
    targets = re.findall(r"\]\((\S+?)\)|^\[[^\]]+\]: (\S+)", text, re.MULTILINE)
    assert targets
    raw = home.replace("github.com", "raw.githubusercontent.com")
    for target in map("".join, targets):
        path = re.sub(f"^({home}/blob|{raw})/main/", "", target)
        assert path != target, f"{target} is not below the address of the repository"
        assert (ROOT / path.partition("#")[0]).is_file(), target
    assert set(re.findall(r"\]\[([^\]]+)\]", text)) <= set(
        re.findall(r"^\[([^\]]+)\]: ", text, re.MULTILINE)
    )


def test_installed_package_makes_decisions(environment: Environment, wheel: Path) -> None:
    environment.install("--force-reinstall", "--no-deps", wheel)
    policies = environment.folder / "policies.d"
    policies.mkdir(exist_ok=True)
    (policies / "all.yaml").write_text(POLICIES)
    engine = f"pure ({REASON})" if "none-any" in wheel.name else "c"
    decided = json.loads(environment.run("python", "-W", "error", "-c", DECIDE, str(policies)))
    assert decided == [[True, True, False], engine]
    assert f"engine    {engine}\n" in environment.run("ratectl", "version", COLUMNS="200")
    assert "sqlite:///" in environment.run("ratectl", "help", "stores"), "its pages are installed"
