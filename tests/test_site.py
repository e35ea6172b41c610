"""The documentation's site: built strictly, and complete."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ratectl.policy.codes import CODES
from ratectl.policy.language.kinds import KINDS
from ratectl.policy.language.schema import policy_schema
from ratectl_cli.app import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.xdist_group("site")

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the pages. Building also writes ``docs/reference``, which Git ignores."""
    place = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    ran = subprocess.run(
        [*command, str(DOCS), "-d", str(place / "trees"), str(place / "html")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, ""), "a warning is an error: mend the page"
    return place / "html"


def test_one_worker_runs_the_tests_of_a_group(request: pytest.FixtureRequest) -> None:
    """If not, each worker builds the site, and processes that need a machine of their own meet."""
    if getattr(request.config.option, "loadgroup", False):
        assert request.node.nodeid.endswith("@site")


class Page(HTMLParser):
    """The links and the ids of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        if found.get("id"):
            self.ids.add(found["id"] or "")
        if tag == "a" and found.get("href"):
            self.links.append(found["href"] or "")


def test_every_link_leads_somewhere(site: Path) -> None:
    pages = {path.relative_to(site).as_posix(): Page(path) for path in site.rglob("*.html")}
    assert len(pages) > 30
    wrong = [
        f"{name}: {link}"
        for name, page in pages.items()
        for link in page.links
        if not re.match(r"[a-z]+:|#$", link) and not leads(site, name, link, pages)
    ]
    assert wrong == []


def leads(html: Path, name: str, link: str, pages: dict[str, Page]) -> bool:
    path, _, anchor = link.partition("#")
    target = (html / name).parent.joinpath(path).resolve() if path else html / name
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return False
    page = pages.get(target.relative_to(html.resolve()).as_posix())
    return not anchor or page is None or anchor in page.ids


def test_every_page_is_reached_from_the_first(site: Path) -> None:
    names = {path.relative_to(DOCS).with_suffix(".html").as_posix() for path in DOCS.rglob("*.md")}
    listed = set(Page(site / "index.html").links)
    missing = {name for name in names if name not in listed and "examples" not in name}
    assert missing - {"index.html"} == set()


def fields(schema: dict[str, Any]) -> Iterator[str]:
    yield from schema.get("properties", {})
    for model in schema.get("definitions", {}).values():
        yield from fields(model)


def test_every_field_rule_command_and_option_has_its_place(site: Path) -> None:
    assert site
    reference = DOCS / "reference"
    table = (reference / "fields.md").read_text("utf-8")
    for kind in KINDS:
        assert [name for name in fields(policy_schema(kind)) if f"| `{name}` |" not in table] == []
    rules = (reference / "rules.md").read_text("utf-8")
    assert [code for code in CODES if f"\n## {code}\n" not in rules] == []
    commands = (reference / "commands.md").read_text("utf-8")
    assert [name for name in COMMANDS if f"\n## ratectl {name}\n" not in commands] == []
    for inner in ("rollout run", "panic on", "env protect", "key generate"):
        assert f"\n## ratectl {inner}\n" in commands
    for option in ("--allow-first REASON", "--canary", "--watch", "--cost [UNIT=]N", "-e, --env"):
        assert option in commands
