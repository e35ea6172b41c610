"""Import of files of envoyproxy/ratelimit: what is written, feature by feature."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from moving.both import Both, imported, serving, written
from moving.envoy_random import configuration, descriptor, pause
from moving.envoy_reference import Asked, Reference
from ratectl import FakeClock
from ratectl.moving.envoy_files import read_files
from ratectl.moving.envoy_import import MAPPING, import_files
from ratectl.policy.format import format_text
from ratectl.policy.language.field_types import check_scope
from ratectl.policy.read import load_valid_text
from ratectl.sidecar.mapping_file import parse_mapping
from soak import scaled

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
FEATURES = HERE / "features.yaml"
DOMAIN = "shop/edge"


@pytest.fixture
def features(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(HERE)
    return import_files(read_files([FEATURES.name]), quota_mode="shadow", across="redis")


def test_every_feature_as_text(features: Any) -> None:
    whole = "".join(f"##### {name}\n{text}" for name, text in sorted(features.files.items()))
    whole += "##### notes\n" + "".join(f"{note}\n" for note in features.notes)
    golden = HERE / "features.txt"
    if os.environ.get("RATECTL_UPDATE_GOLDEN"):
        golden.write_text(whole, encoding="utf-8")
    assert whole == golden.read_text(encoding="utf-8")


@pytest.fixture
def services() -> Iterator[Both]:
    config = yaml.safe_load(FEATURES.read_text("utf-8"))
    model = next(node for node in config["descriptors"] if node["key"] == "model")
    model["shadow_mode"] = True  # the meaning of quota_mode that is imported
    for level in (config, config["descriptors"][0]):
        for node in level["descriptors"]:
            limit = node.get("rate_limit", {})
            limit.update({"unit": limit["unit"].lower()} if "unit" in limit else {})
    clock = FakeClock("2026-11-29T23:59:58Z")  # a Sunday, and the middle of their week
    files = import_files(read_files([FEATURES]), quota_mode="shadow").files
    with serving(files, clock) as ours:
        yield Both(ours, Reference({DOMAIN: config}), clock)


def test_requests_by_chance_for_every_feature(services: Both) -> None:
    """With hits of their own, too: costs that come at the end of a request."""
    chance = Random(1)
    config = services._theirs.domains[DOMAIN]
    refused = 0
    for number in range(scaled(2_000, 100_000)):
        services._clock.advance(pause(chance))
        asked = descriptor(chance, config, chance.choice((1, 1, 1, 2, 4)))
        ours, theirs = services.decide(DOMAIN, asked)
        assert ours == theirs, (number, asked)
        refused += not ours
    assert refused > 100


def decided(services: Both, *entries: tuple[str, str], times: int = 4) -> str:
    """Return ``+`` for each request that is admitted in both meanings, ``-`` for refused ones."""
    shown = ""
    for _ in range(times):
        ours, theirs = services.decide(DOMAIN, Asked(entries))
        assert ours == theirs
        shown += "+" if ours else "-"
    return shown


CHECKOUT = ("generic_key", "checkout")


@pytest.mark.parametrize(
    ("entries", "shown"),
    [
        ((CHECKOUT,), "+++-"),
        ((CHECKOUT, ("remote_address", "10.0.0.1")), "++--"),
        ((CHECKOUT, ("remote_address", "10.0.0.9")), "++++"),
        ((CHECKOUT, ("remote_address", "10.0.0.66")), "----"),
        ((CHECKOUT, ("remote_address", "10.0.0.1"), ("user", "a")), "++++"),
        ((CHECKOUT, ("generic_key", "deep")), "++++"),
        ((("generic_key", "other"),), "++++"),
        (((":path", "/files/private/a"),), "+++-"),
        (((":path", "/files/private/a"), ("user", "a")), "+---"),
        (((":path", "/files/a"),), "++--"),
        (((":path", "/files/*"),), "++--"),
        (((":path", "/"),), "++++"),
        ((("user", "a"),), "+---"),
        ((("user", "vip"),), "++++"),
        ((("probe", "a"),), "++++"),
        ((("model", "a"),), "++++"),
        ((("unknown", "a"),), "++++"),
        ((), "++++"),
    ],
)
def test_decisions_of_each_feature(
    services: Both, entries: tuple[tuple[str, str], ...], shown: str
) -> None:
    assert decided(services, *entries) == shown


def test_values_are_counted_together_or_each_by_itself(services: Both) -> None:
    assert decided(services, (":path", "/files/private/a"), times=2) == "++"
    assert decided(services, (":path", "/files/private/b"), times=2) == "+-"
    assert decided(services, (":path", "/files/a"), times=3) == "++-"
    assert decided(services, (":path", "/files/b"), times=3) == "++-"


def test_another_limit_replaces_one_and_leaves_its_counter(services: Both) -> None:
    user, plan = Asked((("user", "a"),)), Asked((("plan", "gold"),))
    both = [services.decide(DOMAIN, user, plan) for _ in range(4)]
    assert both == [(True, True)] * 3 + [(False, False)]
    assert decided(services, ("user", "a"), times=2) == "+-"


def test_an_unlimited_descriptor_replaces_a_limit(services: Both) -> None:
    client = Asked((CHECKOUT, ("remote_address", "10.0.0.1")))
    vip = Asked((("user", "vip"),))
    assert [services.decide(DOMAIN, client, vip) for _ in range(5)] == [(True, True)] * 5


def test_every_feature_by_chance(services: Both) -> None:
    chance = Random(5)
    config = services._theirs.domains[DOMAIN]
    for _ in range(scaled(1_000, 100_000)):
        services._clock.advance(pause(chance))
        ours, theirs = services.decide(DOMAIN, descriptor(chance, config))
        assert ours == theirs


def test_an_unknown_domain_passes_in_both(services: Both) -> None:
    assert services.decide("unknown", Asked((("user", "a"),))) == (True, True)


@pytest.mark.parametrize(("meaning", "mode"), [("shadow", "mode: shadow"), ("enforce", "")])
def test_meanings_of_quota_mode(meaning: Any, mode: str) -> None:
    text = import_files(read_files([FEATURES]), quota_mode=meaning).files["policies/shop-edge.yaml"]
    line = next(line for line in text.partition("/model\n")[2].splitlines() if "requests:" in line)
    assert line.strip() == "requests: {algorithm: quota, rate: 1/min, per: model" + (
        f", {mode}}}" if mode else "}"
    )


def test_names_are_valid_and_differ(tmp_path: Path) -> None:
    odd = ("a b", "a-b", "a/b", "A-b", "..", "日本", "x" * 200, "x" * 201, "no", "1", "a_*b")
    limit = {"unit": "day", "requests_per_unit": 1, "name": "é!"}
    nodes = [{"key": key, "value": "v", "rate_limit": limit} for key in odd]
    nodes += [
        {"key": "k", "value": value, "rate_limit": limit} for value in (*odd, "\n", "*", "1*")
    ]
    below = [{"key": key, "rate_limit": limit} for key in odd[:6]]
    configs = [
        {"domain": name, "descriptors": [{**node, "descriptors": below} for node in nodes]}
        for name in odd
    ]
    files = import_files(read_files([written(tmp_path / "in", *configs)])).files
    policies = {name: text for name, text in files.items() if name != MAPPING}
    assert len({name.lower() for name in policies}) == len(odd)
    tree = load_valid_text("\n---\n".join(policies.values())).tree
    assert len(tree.policies) == len(odd) * len(nodes) * 7
    for scope, policy in tree.policies.items():
        assert check_scope(scope) == scope
        assert len(policy.limits) == 1
    mapping, _ = parse_mapping(files[MAPPING].encode(), MAPPING)
    assert set(mapping.domains) == set(odd)
    for domain in mapping.domains.values():
        renamed = domain.attributes
        assert len(set(renamed.values())) == len(renamed)
        assert not set(renamed.values()) & ({"k", *odd} - set(renamed))


@pytest.mark.parametrize("seed", range(5))
def test_written_policies_are_formatted(seed: int, tmp_path: Path) -> None:
    config = configuration(Random(seed), "d")
    inner = {"key": "e" * 90, "rate_limit": {"unit": "week", "requests_per_unit": 12_345}}
    for number in range(7):
        inner = {"key": f"{number}" + "k" * 60, "descriptors": [inner], "shadow_mode": True}
    config["descriptors"].append(inner)
    for text in imported(written(tmp_path / "in", config), across="redis").values():
        if "EnvoyMapping" not in text:
            assert format_text(text).text == text


def test_every_feature_is_formatted(features: Any) -> None:
    text = features.files["policies/shop-edge.yaml"]
    assert format_text(text).text == text


def test_a_domain_without_limits_passes(tmp_path: Path) -> None:
    config = {"domain": "d", "descriptors": [{"key": "k", "shadow_mode": True}]}
    found = import_files(read_files([written(tmp_path / "in", config)]))
    assert set(found.files) == {MAPPING}
    with serving(found.files, FakeClock()) as ours:
        services = Both(ours, Reference({"d": config}), FakeClock())
        assert services.decide("d", Asked((("k", "v"),))) == (True, True)
    note = "shadow_mode changes nothing, as there is no rate_limit beside it"
    assert found.notes == [f"{tmp_path}/in/0.yaml:4:16: {note}"]
