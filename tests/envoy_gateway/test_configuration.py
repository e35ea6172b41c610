"""A configuration means the same, whether a management server sends it or a file has it."""

from __future__ import annotations

import re
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryResponse

from envoy_gateway.management_server import TYPE, packed
from moving.both import imported, written
from moving.envoy_random import configuration
from ratectl.xds.configuration import ConfigurationRefused, configuration_of
from ratectl.xds.messages import decode_response

if TYPE_CHECKING:
    from pathlib import Path


def sent(*configs: dict[str, Any], **options: Any) -> dict[str, str]:
    """Return the files that a response becomes, without the comments that name a place."""
    resources = [packed(_on_the_wire(each, name=each["domain"])) for each in configs]
    response = DiscoveryResponse(type_url=TYPE, resources=resources)
    found = configuration_of(decode_response(response.SerializeToString()), **options)
    return without_places(found.files)


def without_places(files: dict[str, str]) -> dict[str, str]:
    return {
        name: "\n".join(line for line in text.splitlines() if not line.startswith("#"))
        for name, text in files.items()
    }


def _on_the_wire(node: dict[str, Any], **more: str) -> dict[str, Any]:
    """Return a configuration in the words of protobuf: its units are in capitals."""
    found = {**node, **more}
    if "rate_limit" in found:
        found["rate_limit"] = {**found["rate_limit"]}
        if "unit" in found["rate_limit"]:
            found["rate_limit"]["unit"] = found["rate_limit"]["unit"].upper()
    if "descriptors" in found:
        found["descriptors"] = [_on_the_wire(each) for each in found["descriptors"]]
    return found


def only_on_the_wire(level: list[dict[str, Any]]) -> None:
    """Take away what protobuf cannot say."""
    for node in level:
        node.pop("share_threshold", None)
        only_on_the_wire(node.get("descriptors", []))


@pytest.mark.parametrize("seed", range(60))
def test_it_becomes_the_same_policies_and_mapping(seed: int, tmp_path: Path) -> None:
    chance = Random(seed)
    configs = [configuration(chance, f"domain-{seed}-{number}") for number in range(2)]
    for each in configs:
        only_on_the_wire(each["descriptors"])
    files = without_places(imported(written(tmp_path / "files", *configs), stable=True))
    assert sent(*configs) == files


def test_options() -> None:
    quota = {"key": "a", "quota_mode": True, "rate_limit": {"unit": "day", "requests_per_unit": 1}}
    config = {"domain": "http", "descriptors": [quota]}
    with pytest.raises(ConfigurationRefused, match="quota_mode never refuses in some versions"):
        sent(config)
    (policies, _) = sent(config, quota_mode="enforce", across="redis").values()
    assert "across: redis" in policies
    assert "shadow" not in policies
    (policies, _) = sent(config, quota_mode="shadow").values()
    assert "mode: shadow" in policies


def test_nothing_at_all() -> None:
    assert sent() == {
        "envoy-mapping.yaml": "apiVersion: ratectl/v1\nkind: EnvoyMapping\ndomains: {}"
    }


def test_names_of_scopes_depend_on_nothing_else_that_is_sent() -> None:
    """Counters go on by scope: what is sent beside a limit, or in which order, changes no name."""
    long = "httproute/default/backend/rule/0/match/0/*-key-rule-{}-match-0"
    keys = ["a", "A", "a/b", "a-b", "a_b", "é", "=", *(long.format(number) for number in range(3))]
    limit = {"unit": "day", "requests_per_unit": 1}
    configs = [
        {"domain": name, "descriptors": [{"key": key, "rate_limit": limit} for key in keys]}
        for name in ("x/y", "x-y", "X-y", "x.y")
    ]
    whole = sent(*configs)
    assert sent(*reversed(configs)) == whole
    scopes = scopes_in(whole)
    assert len(scopes) == len(set(map(str.lower, scopes))) == len(configs) * len(keys)
    for number, config in enumerate(configs):
        assert scopes_in(sent(config)) <= scopes
        alone = {**config, "descriptors": config["descriptors"][number : number + 5 : 2]}
        assert scopes_in(sent(alone)) <= scopes
        assert attributes_in(sent(alone)).items() <= attributes_in(whole, config["domain"]).items()


def attributes_in(files: dict[str, str], domain: str | None = None) -> dict[str, str]:
    """Return the names of attributes of a domain, by default of the only one."""
    domains = yaml.safe_load(files["envoy-mapping.yaml"])["domains"]
    found: dict[str, str] = domains[domain or next(iter(domains))].get("attributes", {})
    return found


def scopes_in(files: dict[str, str]) -> set[str]:
    text = "".join(text + "\n" for text in files.values())
    return set(re.findall(r"^scope: (.*)$", text, re.MULTILINE))
