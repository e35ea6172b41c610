"""Export to envoyproxy/ratelimit: equal decisions, or the line of what cannot be said."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from moving.both import Both, imported, serving, written
from moving.envoy_random import configuration, descriptor, pause
from moving.envoy_reference import Reference
from ratectl import FakeClock
from ratectl.moving.envoy_export import Exported, export_policies
from ratectl.moving.envoy_files import MovingError
from ratectl.policy.read import load_valid
from soak import scaled

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def exported(folder: Path, files: Mapping[str, str]) -> Exported:
    """Export the files of an import."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return export_policies(load_valid([folder / "policies"]), folder / "envoy-mapping.yaml")


@pytest.mark.parametrize("seed", range(40))
def test_what_was_imported_is_exported_with_equal_decisions(seed: int, tmp_path: Path) -> None:
    chance = Random(seed)
    config = configuration(chance, f"domain/{seed}")
    config["descriptors"].append(
        {"key": "always", "rate_limit": {"unit": "hour", "requests_per_unit": 3}}
    )
    first = imported(written(tmp_path / "in", config))
    back = exported(tmp_path / "ours", first).files
    folder = tmp_path / "back"
    folder.mkdir()
    for name, text in back.items():
        (folder / name).write_text(text, encoding="utf-8")
    (text,) = back.values()
    theirs = yaml.safe_load(text)
    clock = FakeClock("2026-11-28T23:59:40Z")
    with serving(first, clock) as ours, serving(imported(folder), clock) as again:
        one = Both(ours, Reference({config["domain"]: config}), clock)
        two = Both(again, Reference({config["domain"]: theirs}), clock)
        for _ in range(scaled(150, 100_000)):
            clock.advance(pause(chance))
            asked = descriptor(chance, config)
            before, meant = one.decide(config["domain"], asked)
            after, read = two.decide(config["domain"], asked)
            assert before == meant == after == read, (asked, config, theirs)


MAPPING = """\
apiVersion: ratectl/v1
kind: EnvoyMapping
domains:
  shop:
    unlisted: pass
    descriptors:
      - key: client
        scope: /shop
"""
POLICY = """\
apiVersion: ratectl/v1
scope: /shop
limits:
  each: {algorithm: quota, rate: 5/min, per: client}
"""
EXCEPTION = """\
---
apiVersion: ratectl/v1
kind: Exception
scope: /shop
reason: r
until: 2126-01-01T00:00Z
limits: {each: {rate: 1/min}}
"""


def moved(folder: Path, policies: str = POLICY, mapping: str = MAPPING) -> dict[str, Any]:
    """Return the one exported file, as data."""
    files = exported(folder, {"policies/shop.yaml": policies, "envoy-mapping.yaml": mapping}).files
    assert list(files) == ["shop.yaml"]
    found = yaml.safe_load(files["shop.yaml"])
    assert isinstance(found, dict)
    return found


def problems(folder: Path, policies: str = POLICY, mapping: str = MAPPING) -> list[str]:
    with pytest.raises(MovingError) as caught:
        moved(folder, policies, mapping)
    return [
        f"{each.span.file.rpartition('/')[2]}:{each.span.line}:{each.span.column} {each.message}"
        for each in caught.value.diagnostics
    ]


def test_a_quota_is_a_limit(tmp_path: Path) -> None:
    assert moved(tmp_path) == {
        "domain": "shop",
        "descriptors": [
            {"key": "client", "rate_limit": {"unit": "minute", "requests_per_unit": 5}}
        ],
    }


@pytest.mark.parametrize("fields", ["mode: off", "rate: unlimited"])
def test_what_limits_nothing_is_unlimited(tmp_path: Path, fields: str) -> None:
    policies = POLICY.replace("rate: 5/min, per: client", f"rate: 5/min, {fields}")
    policies = policies.replace("rate: 5/min, rate", "rate")
    (found,) = moved(tmp_path, policies)["descriptors"]
    assert found == {"key": "client", "rate_limit": {"unlimited": True}}


def test_limits_are_inherited_and_capped(tmp_path: Path) -> None:
    policies = (
        "apiVersion: ratectl/v1\nscope: /\nlimits:\n"
        "  each: {algorithm: quota, rate: 5/min, per: client, mode: shadow}\n"
        "---\napiVersion: ratectl/v1\nscope: /shop\nlimits:\n  each: {rate: 3/min}\n"
    )
    (found,) = moved(tmp_path, policies)["descriptors"]
    assert found == {
        "key": "client",
        "rate_limit": {"unit": "minute", "requests_per_unit": 3},
        "shadow_mode": True,
    }


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("quota, rate", "sliding-window, rate", "4:21 envoyproxy/ratelimit has fixed windows only"),
        ("algorithm: quota, ", "", "4:16 envoyproxy/ratelimit has fixed windows only, and this is"),
        ("per: client", "per: client, unit: tokens", "4:60 envoyproxy/ratelimit counts requests"),
        (", per: client", "", "4:34 envoyproxy/ratelimit counts each client by itself, and this"),
        ("per: client", "per: [client, route]", "4:46 the limit counts per route, which is no e"),
        ("5/min", '5/week, resets: "Mon 00:00 UTC"', "4:50 a week of envoyproxy/ratelimit begins"),
        ("5/min", '5/day, resets: "06:00 UTC"', "4:49 a day of envoyproxy/ratelimit begins at 0"),
        (
            "per: client}",
            "per: client}\n  all: {algorithm: quota, rate: 9/min}",
            "5:33 two limits, each and all, hold for /shop; a descriptor has one",
        ),
        (
            "limits:",
            "budgets:\n  all: {rate: 5/s}\nlimits:",
            "4:3 the budget all counts several scopes together",
        ),
        (
            "limits:",
            "overrides:\n  - {name: a, match: {client: b}, limits: {each: {rate: 1/min}}}\nlimits:",
            "4:3 envoyproxy/ratelimit has no overrides",
        ),
        (
            "per: client}\n",
            f"per: client}}\n{EXCEPTION}",
            "6:1 envoyproxy/ratelimit has no exceptions",
        ),
    ],
)
def test_what_policies_say_and_theirs_cannot(
    tmp_path: Path, old: str, new: str, problem: str
) -> None:
    assert old in POLICY
    (found,) = problems(tmp_path, POLICY.replace(old, new))
    assert found.startswith(f"shop.yaml:{problem}")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("unlisted: pass", "unlisted: decide", "5:15 descriptors that are not listed are decided"),
        ("    unlisted: pass\n", "", "5:5 descriptors that are not listed are decided, and"),
        ("unlisted", "correlation: id\n    unlisted", "5:18 envoyproxy/ratelimit has nothing like"),
        (
            "unlisted",
            "override: top\n    unlisted",
            "5:15 envoyproxy/ratelimit has nothing like o",
        ),
        ("unlisted", "late_cost: true\n    unlisted", "5:16 envoyproxy/ratelimit has nothing like"),
        ("scope: /shop", "scope: /shop\n        unit: tokens", "9:15 envoyproxy/ratelimit has not"),
        (
            "scope: /shop",
            "scope: /shop\n        descriptors: [{key: b, scope: /shop/b}]",
            "9:39 another descriptor is counted by the limit of /shop, too",
        ),
        ("key: client", "key: client*", "7:14 envoyproxy/ratelimit takes client* for the beginn"),
        (
            "      - key: client\n",
            "      - {key: a, value: b_c}\n      - {key: a_b, value: c}\n      - key: client\n",
            "8:15 envoyproxy/ratelimit takes two entries here for one: a_b_c",
        ),
    ],
)
def test_what_a_mapping_says_and_theirs_cannot(
    tmp_path: Path, old: str, new: str, problem: str
) -> None:
    assert old in MAPPING
    found = problems(tmp_path, mapping=MAPPING.replace(old, new))
    assert any(each.startswith(f"envoy-mapping.yaml:{problem}") for each in found), found


def test_limits_below_a_wildcard_must_agree_whether_its_values_share(tmp_path: Path) -> None:
    mapping = MAPPING.replace(
        "        scope: /shop\n",
        "        value: a*\n        descriptors:\n"
        "          - {key: b, scope: /shop}\n          - {key: c, scope: /other}\n",
    )
    policies = (
        POLICY.replace("per: client", "per: [client, b]")
        + "---\n"
        + POLICY.replace("/shop", "/other").replace("per: client", "per: c")
    )
    (found,) = problems(tmp_path, policies, mapping)
    assert found.endswith("limits below client=a* count its values in two ways")
    agreed = policies.replace("per: c}", "per: [client, c]}")
    assert "share_threshold" not in moved(tmp_path, agreed, mapping)["descriptors"][0]
    shared = policies.replace("per: [client, b]", "per: b")
    assert moved(tmp_path, shared, mapping)["descriptors"][0]["share_threshold"] is True


def test_months_have_a_note(tmp_path: Path) -> None:
    files = {
        "policies/shop.yaml": POLICY.replace("5/min", "5/month"),
        "envoy-mapping.yaml": MAPPING,
    }
    (note,) = exported(tmp_path, files).notes
    assert note.startswith("a month is 30 days since 1970 in envoyproxy/ratelimit")
