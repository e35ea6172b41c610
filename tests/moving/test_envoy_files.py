"""Strict reading of files of envoyproxy/ratelimit: every problem has its line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ratectl.moving.envoy_files import MovingError, read_files
from ratectl.moving.envoy_import import import_files
from ratectl.policy.yaml.nodes import MAX_DEPTH

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = "rate_limit: {unit: minute, requests_per_unit: 1}"


def problems(folder: Path, *texts: str) -> list[str]:
    """Return the findings of an import of files with these texts."""
    for number, text in enumerate(texts):
        (folder / f"{number}.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(MovingError) as caught:
        import_files(read_files([folder]))
    return [
        f"{each.span.file[-6:]}:{each.span.line}:{each.span.column} {each.message} ({each.hint})"
        for each in caught.value.diagnostics
    ]


def node(*fields: str) -> str:
    return "domain: d\ndescriptors:\n  - key: k\n" + "".join(f"    {field}\n" for field in fields)


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("descriptors: []\n", "1:1", "domain is missing (write domain)"),
        ("domain: ''\n", "1:9", "domain is empty"),
        ("- a\n", "1:1", "the file is no mapping of fields"),
        ("domain: d\n---\ndomain: e\n", "3:1", "reads the first one (write one file"),
        ("domain: d\ndescriptor: []\n", "2:1", "unknown field 'descriptor' (did you mean desc"),
        ("domain: d\nspec: 1\n", "2:1", "unknown field 'spec' (delete spec; known here: domain"),
        (node("rate_limits: {}"), "4:5", "unknown field 'rate_limits' (did you mean rate_limit?)"),
        (node("value: 404"), "4:12", "value must be text, not a number (quote it)"),
        (node("value: no"), "4:12", "YAML 1.1 reads no as false"),
        (node("value:"), "4:5", "'value' has no value"),
        (node("shadow_mode: 'true'"), "4:18", "shadow_mode must be true or false"),
        (node("value: a", "value: b"), "5:5", "value"),
        (node("rate_limit: {unit: minute}"), "4:5", "the limit has no requests_per_unit, which"),
        (node("rate_limit: {requests_per_unit: 1}"), "4:5", "the limit has no unit (add one"),
        (node("rate_limit: {unit: fortnight, requests_per_unit: 1}"), "4:24", "no unit 'fortni"),
        (node("rate_limit: {unit: YEAR, requests_per_unit: 1}"), "4:24", "a year is 365 days"),
        (node("rate_limit: {unit: day, requests_per_unit: -1}"), "4:48", "requests_per_unit"),
        (node("rate_limit: {unit: day, requests_per_unit: 1.5}"), "4:48", "a whole number"),
        (
            node("rate_limit: {unit: day, requests_per_unit: 4_294_967_295}"),
            "4:48",
            "requests_per_unit is more than 1,000,000,000 (write less, or unlimited: true",
        ),
        (
            node("rate_limit: {unit: day, requests_per_unit: 5, unit_multiplier: 2}"),
            "4:51",
            "unknown field 'unit_multiplier'",
        ),
        (node("rate_limit: {unit: day, unlimited: true}"), "4:24", "an unlimited limit has no un"),
        (
            node("rate_limit: {unlimited: true, name: x, replaces: [{name: x}]}"),
            "4:54",
            "the limit replaces itself (name other limits)",
        ),
        (
            node("rate_limit: {unlimited: true, replaces: [{nam: x}]}"),
            "4:47",
            "name is missing (write name)",
        ),
        (node("share_threshold: true", LIMIT), "4:22", "share_threshold is for values with *"),
        (node("quota_mode: true", LIMIT), "4:17", "quota_mode never refuses in some versions"),
        (
            "domain: d\ndescriptors:\n  - key: k*\n    " + LIMIT,
            "3:10",
            "the key k* is the beginning of keys, and a mapping names whole keys (list the keys",
        ),
        (
            "domain: d\ndescriptors:\n  - {key: a, value: b_c}\n  - {key: a_b, value: c}\n",
            "4:11",
            "the entry a_b_c is declared twice (delete or rename one)",
        ),
    ],
)
def test_a_problem_names_its_line(tmp_path: Path, text: str, place: str, message: str) -> None:
    found = problems(tmp_path, text)
    assert any(f"0.yaml:{place} " in each and message in each for each in found), found


def test_a_domain_in_two_files(tmp_path: Path) -> None:
    found = problems(tmp_path, "domain: d\n", "domain: e\n", "# again\ndomain: d\n")
    assert found == ["2.yaml:2:9 the domain d is declared twice (write it in one file)"]


def test_all_problems_of_all_files_are_reported(tmp_path: Path) -> None:
    year = "rate_limit: {unit: year, requests_per_unit: 1}"
    texts = [node(year).replace("domain: d", f"domain: d{number}") for number in range(3)]
    assert [each[:11] for each in problems(tmp_path, *texts)] == [
        "0.yaml:4:24", "1.yaml:4:24", "2.yaml:4:24",
    ]  # fmt: skip


def test_depth_and_bytes_are_bounded(tmp_path: Path) -> None:
    depth = MAX_DEPTH // 2 + 1
    deep = "{key: k, descriptors: [" * depth + "{key: k}" + "]}" * depth
    assert "nest" in problems(tmp_path, f"domain: d\ndescriptors: [{deep}]\n")[0]
    many = "".join(f"  - {{key: k, value: v{number}}}\n" for number in range(20_000))
    assert "values" in problems(tmp_path, f"domain: d\ndescriptors:\n{many}")[0]


def test_nine_keys_are_more_than_per_can_have(tmp_path: Path) -> None:
    text = LIMIT
    for number in range(9):
        text = f"descriptors: [{{key: k{number}, {text}}}]"
    assert "counts by 9 keys, and per has 8" in problems(tmp_path, f"domain: d\n{text}\n")[0]


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(MovingError, match="no such file or directory"):
        read_files([tmp_path / "nowhere"])
    with pytest.raises(MovingError, match="no policy files"):
        read_files([tmp_path])
