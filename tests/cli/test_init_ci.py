"""`ratectl init --ci`: files that it writes and keeps, and its warnings."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ci_support import ACTION, ENTRY, HOOKS, JOBS, ROOT, WORKFLOW, git

if TYPE_CHECKING:
    from pathlib import Path

    from cli_support import Cli

PLACES = {
    "github": {
        ".github/workflows/ratectl.yaml": WORKFLOW,
        ".github/actions/ratectl/action.yml": ACTION,
    },
    "gitlab": {".gitlab-ci.yml": ENTRY, ".gitlab/ratectl.yml": JOBS},
}
PAGE = (ROOT / "docs" / "pipelines.md").read_text(encoding="utf-8")
SNIPPETS = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]


@pytest.mark.parametrize("platform", PLACES)
def test_a_pipeline_beside_the_policies(cli: Cli, clean_place: Path, platform: str) -> None:
    document = cli("init", "new", "--ci", platform, "-o", "json").document
    assert document["kept"] == []
    for place, source in PLACES[platform].items():
        assert (clean_place / "new" / place).read_bytes() == source.read_bytes()
        assert f"new/{place}" in document["files"]
    for command in document["next"][:3]:
        assert cli(*command.split()[1:]).code == 0, command


@pytest.mark.parametrize("platform", PLACES)
def test_existing_policies_are_kept(cli: Cli, tree: Path, platform: str) -> None:
    before = (tree / "all.yaml").read_bytes()
    document = cli("init", "--ci", platform, "-o", "json").document
    assert document["kept"] == ["policies"]
    assert document["files"] == list(PLACES[platform])
    assert [path.name for path in tree.iterdir()] == ["all.yaml"]
    assert (tree / "all.yaml").read_bytes() == before
    assert document["next"][-1] == "ratectl plan policies/"


@pytest.mark.parametrize("platform", PLACES)
def test_an_existing_pipeline_is_kept(cli: Cli, clean_place: Path, platform: str) -> None:
    first, second = PLACES[platform]
    (clean_place / first).parent.mkdir(parents=True, exist_ok=True)
    (clean_place / first).write_text("mine: {script: [make]}\n")
    document = cli("init", "--ci", platform, "-o", "json").document
    assert document["kept"] == [first]
    assert document["files"][-1] == second
    assert (clean_place / first).read_text() == "mine: {script: [make]}\n"


@pytest.mark.parametrize("platform", PLACES)
def test_the_second_time_there_is_nothing_to_write(cli: Cli, platform: str) -> None:
    assert cli("init", "--ci", platform).code == 0
    run = cli("init", "--ci", platform)
    assert run.code == 77
    assert ", ".join(["policies", *PLACES[platform]]) in run.err


def test_a_dangling_link_is_not_followed(cli: Cli, clean_place: Path) -> None:
    (clean_place / ".gitlab-ci.yml").symlink_to("elsewhere.yml")
    assert cli("init", "--ci", "gitlab").code == 0
    assert not (clean_place / "elsewhere.yml").exists()


@pytest.mark.parametrize("obstacle", [".github", "policies", "schemas", ".github/workflows"])
def test_a_file_in_the_way_prevents_all_writes(cli: Cli, clean_place: Path, obstacle: str) -> None:
    (clean_place / obstacle).parent.mkdir(exist_ok=True)
    (clean_place / obstacle).write_text("")
    run = cli("init", "--ci", "github")
    assert run.code == 77
    assert f"{obstacle} is in the way: it is not a folder" in run.err
    assert [path for path in clean_place.rglob("*") if path.is_file()] == [clean_place / obstacle]


def test_a_gitlab_pipeline_without_the_include_gets_a_hint(cli: Cli, clean_place: Path) -> None:
    entry = clean_place / ".gitlab-ci.yml"
    entry.write_text("build: {script: [make]}\n")
    warning = cli("init", "--ci", "gitlab").err
    assert "add `include: [{local: .gitlab/ratectl.yml}]` to it" in warning
    (clean_place / ".gitlab" / "ratectl.yml").unlink()
    entry.write_text("include: [{local: .gitlab/ratectl.yml}]\n")
    assert cli("init", "--ci", "gitlab").err == ""


def test_a_foreign_github_workflow_gets_a_hint(cli: Cli, clean_place: Path) -> None:
    place = ".github/workflows/ratectl.yaml"
    workflow = clean_place / place
    workflow.parent.mkdir(parents=True)
    workflow.write_text("on: push\njobs: {mine: {runs-on: x, steps: [{run: make}]}}\n")
    run = cli("init", "--ci", "github")
    assert run.code == 0
    assert run.err == (
        f"warning: {place} existed and was kept: no job in it uses ./.github/actions/ratectl. "
        "Rename it and run this command again\n"
    )
    assert "before the first pipeline" not in run.out
    workflow.unlink()
    run = cli("init", "--ci", "github")
    assert run.err == ""
    assert f"before the first pipeline: fill in the settings at the top of {place}" in run.out
    workflow.with_name("ratectl.yaml").write_bytes(WORKFLOW.read_bytes())
    (clean_place / ".github" / "actions" / "ratectl" / "action.yml").unlink()
    assert cli("init", "--ci", "github").err == ""


def test_a_pipeline_below_the_top_of_a_repository_gets_a_warning(
    cli: Cli, clean_place: Path
) -> None:
    git("init", "-q")
    run = cli("init", "limits", "--ci", "github")
    assert run.code == 0
    assert f"top of a repository, which is {clean_place}:" in run.err
    assert cli("init", "--ci", "github").err == ""


def test_another_platform(cli: Cli, clean_place: Path) -> None:
    run = cli("init", "--ci", "jenkins")
    assert run.code == 64
    assert "'github', 'gitlab'" in run.err
    assert list(clean_place.iterdir()) == []


# docs/pipelines.md -------------------------------------------------------------------------------


def snippet(key: str) -> Any:
    (found,) = [each for each in SNIPPETS if key in each]
    return found[key]


def test_names_on_the_page_exist() -> None:
    """The snippets name files, inputs and hooks of this repository."""
    step = snippet("jobs")["plan"]["steps"][-1]
    owner, _, inside = step["uses"].partition("/ratectl/")
    assert owner == "OWNER"
    assert ROOT / inside.partition("@")[0] == ACTION.parent
    assert step["with"].keys() <= yaml.safe_load(ACTION.read_text())["inputs"].keys()

    (include,) = snippet("include")
    assert ROOT / include["file"] == JOBS
    head = JOBS.read_text().partition("\n---\n")[0]
    assert include["inputs"].keys() <= yaml.safe_load(head)["spec"]["inputs"].keys()

    (repository,) = snippet("repos")
    hooks = [each["id"] for each in yaml.safe_load(HOOKS.read_text())]
    assert [each["id"] for each in repository["hooks"]] == hooks

    (maps,) = snippet("configMapGenerator")
    for path in (ROOT / "docs" / "examples" / "kubernetes").glob("*.yaml"):
        pod = yaml.safe_load(path.read_text())["spec"]["template"]["spec"]
        assert pod["volumes"][0]["configMap"]["name"] == maps["name"]


def test_its_dispatch_has_the_inputs_of_the_workflow() -> None:
    given = re.findall(r"-f (\w+)=", PAGE)
    assert given == list(yaml.safe_load(WORKFLOW.read_text())[True]["workflow_dispatch"]["inputs"])
