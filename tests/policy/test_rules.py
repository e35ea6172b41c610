"""Every code has a page, and every example on a page is correct."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ratectl.policy.codes import CODES
from ratectl.policy.read import load_checked
from ratectl.policy.rules import family, page, page_codes
from ratectl.policy.yaml.text import MAX_BYTES, MAX_PROBLEMS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HEADER = "apiVersion: ratectl/v1\nscope: /shop\n"


def encoding(folder: Path) -> None:
    (folder / "a.yaml").write_text(HEADER, encoding="utf-16")


def too_large(folder: Path) -> None:
    (folder / "a.yaml").write_text(HEADER + "#" * MAX_BYTES)


def alias_size(folder: Path) -> None:
    lists = [f"  - &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" for n in range(1, 6)]
    (folder / "a.yaml").write_text(f"- &l0 [x]\n{''.join(lists)}".replace("  - ", "- "))


def empty_file(folder: Path) -> None:
    (folder / "a.yaml").write_text(HEADER)
    (folder / "b.yaml").write_text("# nothing\n")


def too_many(folder: Path) -> None:
    limits = "".join(f"  l{n}: {{rate: x}}\n" for n in range(MAX_PROBLEMS + 1))
    (folder / "a.yaml").write_text(f"{HEADER}limits:\n{limits}")


def unreadable(folder: Path) -> None:
    (folder / "a.yaml").symlink_to(folder / "nowhere")


def link_out(folder: Path) -> None:
    (folder / "a.yaml").symlink_to("/etc/hostname")


def no_policies(folder: Path) -> None:
    (folder / "a.yaml").write_text("# nothing\n")


BUILT: dict[str, tuple[Callable[[Path], None], set[str]]] = {
    "RC102": (encoding, {"RC102"}),
    "RC103": (too_large, {"RC103"}),
    "RC110": (alias_size, {"RC110", "RC130"}),
    "RC118": (empty_file, {"RC118"}),
    "RC119": (too_many, {"RC119", "RC140"}),
    "RC121": (unreadable, {"RC121"}),
    "RC122": (lambda folder: None, {"RC122"}),
    "RC123": (no_policies, {"RC123"}),
    "RC124": (link_out, {"RC124"}),
}
"""Findings without an example: files that have them, and the other findings of these files."""


def found_codes(text: str) -> list[str]:
    return [found.code for found in load_checked(["-"], stdin=text.encode()).diagnostics]


def test_every_code_has_a_page_and_every_page_a_code() -> None:
    missing = sorted(set(CODES) - set(page_codes()))
    assert not missing, f"write core/ratectl/policy/rules/<code>.md for {', '.join(missing)}"
    stray = sorted(set(page_codes()) - set(CODES))
    assert not stray, f"these pages explain no code of codes.CODES: {', '.join(stray)}"


@pytest.mark.parametrize("code", page_codes())
def test_a_page_has_meaning_reason_and_examples(code: str) -> None:
    read = page(code)
    assert read is not None, f"{code} is not in codes.CODES"
    for name in ("meaning", "why", "wrong", "right"):
        assert getattr(read, name), f"{code}.md has no {name!r}"
    assert read.bad or code in {*BUILT, "RC120", "RC501", "RC601"}, (
        f"{code}.md has no example that can be run"
    )
    assert "```" not in read.text
    assert all(len(line) <= 100 for line in read.markdown.splitlines())


@pytest.mark.parametrize("code", [code for code in page_codes() if (p := page(code)) and p.bad])
def test_the_bad_example_has_exactly_this_finding(code: str) -> None:
    read = page(code)
    assert read is not None
    assert read.bad is not None
    assert set(found_codes(read.bad)) == {code}


@pytest.mark.parametrize("code", [code for code in page_codes() if (p := page(code)) and p.good])
def test_the_good_example_is_clean(code: str) -> None:
    read = page(code)
    assert read is not None
    assert read.good is not None
    assert found_codes(read.good) == []


@pytest.mark.parametrize("code", BUILT)
def test_findings_without_an_example_on_a_page(code: str, tmp_path: Path) -> None:
    build, expected = BUILT[code]
    build(tmp_path)
    assert {found.code for found in load_checked([tmp_path]).diagnostics} == expected


def test_a_path_that_does_not_exist(tmp_path: Path) -> None:
    found = load_checked([tmp_path / "nowhere"]).diagnostics
    assert [each.code for each in found] == ["RC120"]


def test_families() -> None:
    assert [family(code) for code in ("RC101", "RC201", "RC301", "RC401", "RC501", "RC601")] == [
        "syntax", "semantics", "lint", "tests", "sets", "moving",
    ]  # fmt: skip
    assert {family(code) for code in CODES} <= {
        "syntax", "semantics", "lint", "tests", "sets", "moving",
    }  # fmt: skip


def test_an_unknown_code_has_no_page() -> None:
    assert page("RC999") is None
