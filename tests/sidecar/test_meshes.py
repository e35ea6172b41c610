"""Files of docs/envoy for meshes: a real Envoy runs what the mesh makes of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from mesh_configurations import FILES, configured
from test_envoy import POLICIES

from etcd_server import wait_for
from ratectl import Agent
from ratectl.sidecar import Sidecar
from sidecar.meshes import DOCS, mesh
from support import once

if TYPE_CHECKING:
    from pathlib import Path

each_file = pytest.mark.parametrize("name", FILES)


def sidecar_port(config: dict[str, Any]) -> int:
    """Return the port of the first cluster, which is the sidecar's."""
    cluster = config["static_resources"]["clusters"][0]
    assert cluster["name"] == "ratectl"
    endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    port: int = endpoint["address"]["socket_address"]["port_value"]
    return port


def patient(name: str, config: dict[str, Any]) -> dict[str, Any]:
    """Return what a mesh makes of its file, with the sidecar's port and a long timeout."""
    text = yaml.safe_dump(configured(name, config))
    assert text.count("timeout: 0.1s") == 1, "the timeout of all our files"
    text = text.replace("timeout: 0.1s", "timeout: 10s")
    changed: dict[str, Any] = yaml.safe_load(
        text.replace("port_value: 8081", f"port_value: {sidecar_port(config)}")
    )
    return changed


def test_every_file_has_its_case() -> None:
    others = {"envoy", "envoy-gateway", "llm", "mapping", "refunds"}
    assert {path.stem for path in DOCS.glob("*.yaml")} - others == set(FILES)


@once
@pytest.mark.envoy
@pytest.mark.xdist_group("envoy")
@each_file
def test_requests_pass_until_the_limit_is_used_up(name: str, tmp_path: Path) -> None:
    with (
        mesh(tmp_path, partial(patient, name)) as run,
        Agent.from_policies(POLICIES) as agent,
    ):
        assert run.get("a").status_code == 200, "requests pass without a sidecar"
        with Sidecar(agent, f"127.0.0.1:{run.rls}"):
            wait_for(lambda: "ratelimit" in run.get("b").headers, "Envoy to connect", 60)
            assert [run.get("c").status_code for _ in range(4)] == [200, 200, 200, 429]
