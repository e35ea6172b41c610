"""Environments on the command line: defaults, choice, protection, and what every change names."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli_support import EXAMPLES
from environments_support import PROJECT, apply
from terminal_support import Terminal
from test_docs_example import assert_shown, run

if TYPE_CHECKING:
    from cli_support import Cli

    from conftest import Golden


class TestDefaults:
    @pytest.mark.parametrize(
        "words",
        [
            ("validate",), ("fmt", "--check"), ("explain", "/shop"), ("check", "/shop"), ("plan",),
            ("apply", "--yes"),
        ],
        ids=" ".join,
    )  # fmt: skip
    def test_every_command_reads_the_folder_of_the_file(
        self, cli: Cli, project: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (project / "below").mkdir()
        for folder in (project, project / "below"):
            monkeypatch.chdir(folder)
            run = cli(*words)
            assert run.code in (0, 1), run.err
            assert "no such file" not in run.err + run.out

    def test_commands_that_need_more(self, cli: Cli, project: Path) -> None:
        assert "no test found in limits" in cli("test").err
        apply(cli)
        assert cli("diff").code == 0
        assert cli("pull").code == 0
        assert not (project / "policies").exists(), "pull writes to the folder of the file"

    def test_without_a_file_the_folder_is_policies(self, cli: Cli, tree: Path) -> None:
        assert cli("validate").out == cli("validate", "policies").out
        assert cli("check", "/shop").out.endswith("· policies\n")

    def test_check_and_explain_are_live_on_request(self, cli: Cli, published: str) -> None:
        for command in ("check", "explain"):
            assert "generation 1" in cli(command, "/shop", "--live").out
            assert cli(command, "/shop", "--live", "--policies", "policies").code == 64

    def test_settings_among_policies_are_skipped(self, cli: Cli, project: Path) -> None:
        file = project / "ratectl.yaml"
        file.write_text(PROJECT.replace("policies: limits", "policies: ."))
        for words in ((), (".",)):
            assert cli("validate", *words).out == "valid: 5 scopes and 5 limits in 1 file\n"
        assert cli("validate", "ratectl.yaml").code == 1, "a named file is read as policies"
        file.write_text("apiVersion: ratectl/v1\nscope: /more\n")
        assert "6 scopes" in cli("validate", ".").out, "policies of that name are not skipped"

    def test_a_file_that_is_not_used_is_reported(self, cli: Cli, project: Path) -> None:
        (project / "ratectl.yaml").chmod(0o666)
        run = cli("validate")
        assert run.code == 77
        assert "every user may write it" in run.err
        assert "hint: chmod o-w" in run.err
        named = ("validate", "limits"), ("history", "--store", "sqlite:///local.db")
        assert [cli(*words).code for words in named] == [0, 0], "the file is not needed"

    def test_an_invalid_file_is_reported_with_places(self, cli: Cli, project: Path) -> None:
        (project / "ratectl.yaml").write_text(PROJECT.replace("default: local", "defualt: local"))
        run = cli("validate")
        assert run.code == 64
        assert "ratectl.yaml:4:1" in run.err
        assert "did you mean default?" in run.err


class TestChoice:
    def test_the_option_and_the_variable(
        self, cli: Cli, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert apply(cli)["environment"] == "local"
        assert apply(cli, "-e", "staging")["environment"] == "staging"
        monkeypatch.setenv("RATECTL_ENV", "staging")
        document = cli("history", "-o", "json").document
        assert (document["environment"], document["live"]) == ("staging", 1)
        assert document["store"] == f"sqlite:///{project}/staging.db"

    def test_two_choices_are_an_error(
        self, cli: Cli, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert cli("history", "-e", "local", "--store", "sqlite:///x.db").code == 64
        monkeypatch.setenv("RATECTL_ENV", "staging")
        monkeypatch.setenv("RATECTL_STORE", "sqlite:///x.db")
        assert cli("history").code == 64
        assert cli("history", "-e", "local").code == 0

    def test_none_chosen_lists_them(self, cli: Cli, project: Path) -> None:
        (project / "ratectl.yaml").write_text(PROJECT.replace("default: local\n", ""))
        run = cli("apply", "--yes")
        assert run.code == 64
        assert "local, staging, production" in run.err
        assert "add -e NAME" in run.err
        assert cli("validate").code == 0, "which needs no store"
        listing = cli("env")
        assert (listing.code, "none is chosen" in listing.out) == (0, True)

    def test_recommended_commands_name_the_same_environment(self, cli: Cli, project: Path) -> None:
        apply(cli, "-e", "staging")
        file = project / "limits" / "all.yaml"
        file.write_text(file.read_text().replace("50/s", "51/s"))
        run = cli("apply", "--yes", "-e", "staging")
        assert "ratectl rollback -e staging --to 1" in run.out
        assert "ratectl agents -e staging" in run.out
        run = cli("panic", "on", "--scope", "/", "--reason", "INC-1", "-e", "staging")
        assert "ratectl panic off --scope / -e staging" in run.out
        assert "ratectl panic off --scope / -e staging" in cli("plan", "-e", "staging").err
        file.write_text(file.read_text().replace("51/s", "52/s"))
        run = cli("apply", "--shadow", "--yes", "-e", "staging")
        assert "ratectl rollout promote -e staging" in run.out

    def test_a_plan_is_for_its_environment_also_if_nothing_was_published(
        self, cli: Cli, project: Path
    ) -> None:
        run = cli("plan", "-e", "staging", "--out", "plan.json")
        assert run.out.endswith("apply: ratectl apply plan.json -e staging\n")
        for words in ((), ("-e", "production", "--confirm", "production")):
            run = cli("apply", "plan.json", "--yes", *words)
            assert run.code == 75
            assert f"the plan is for staging (sqlite:///{project}/staging.db), not for" in run.err
            assert "hint: add -e staging, or plan again" in run.err
        assert cli("apply", "plan.json", "--yes", "--store", "sqlite:///./staging.db").code == 0
        assert cli("apply", "plan.json", "--yes", "-e", "staging").code == 0, "it is live"
        assert cli("apply", "plan.json", "--yes").code == 75, "which is still another place"

    def test_a_plan_may_be_applied_after_protection(self, cli: Cli, project: Path) -> None:
        assert cli("plan", "--out", "plan.json").code == 0
        assert cli("env", "protect", "local", "--confirm").code == 0
        assert cli("apply", "plan.json", "--confirm", "local").code == 0

    def test_completion_of_names(self, project: Path) -> None:
        from ratectl_cli.framework.options import _environments

        assert _environments("st") == ["staging"]
        (project / "ratectl.yaml").write_text("broken: [")
        assert _environments("") == []


class TestWhere:
    def test_changes_name_the_environment_and_the_store(
        self, cli: Cli, project: Path, golden: Golden, still: None
    ) -> None:
        seen = []
        for words in (
            ("apply", "--yes", "-q"),
            ("apply", "--yes"),
            ("panic", "on", "--scope", "/", "--reason", "INC-1"),
            ("panic", "off"),
            ("apply", "--yes", "-e", "production", "--confirm", "production", "--dry-run"),
            ("env", "protect", "staging", "--confirm"),
            ("env", "unprotect", "staging", "--confirm", "staging"),
        ):
            run = cli(*words)
            assert run.code == 0, run.err
            last = "\n".join(run.out.splitlines()[-6:])
            seen.append(f"$ ratectl {' '.join(words)}\n{last}\n")
        golden("environments-where", "".join(seen))

    @pytest.mark.parametrize(
        ("words", "code"),
        [
            (("apply", "--yes", "-e", "staging"), 0),
            (("plan", "-e", "staging"), 0),
            (("rollback", "-e", "staging", "--yes"), 65),
            (("history", "-e", "staging"), 0),
            (("panic", "on", "--scope", "/", "--reason", "x", "-e", "staging"), 0),
            (("rollout", "abort", "-e", "staging"), 65),
            (("env", "protect", "staging", "--confirm"), 0),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
    )
    def test_documents_name_them(
        self, cli: Cli, project: Path, words: tuple[str, ...], code: int
    ) -> None:
        run = cli(*words, "-o", "json")
        assert run.code == code
        place = run.document["environment"], run.document["store"]
        assert place == ("staging", f"sqlite:///{project}/staging.db")

    def test_documents_of_commands_without_a_store_name_none(self, cli: Cli, project: Path) -> None:
        assert "store" not in cli("validate", "-o", "json").document

    def test_the_doctor_says_where_it_looked_and_what_was_published(
        self, cli: Cli, project: Path, golden: Golden, still: None
    ) -> None:
        seen = [cli("doctor").out]
        apply(cli)
        assert cli("env", "protect", "local", "--sign-required").code == 0
        seen.append(cli("doctor").out)
        apply(cli, "-e", "production", "--confirm", "production")
        seen.append(cli("doctor", "-e", "production").out)
        checks = [text.splitlines()[0] for text in seen]
        golden("environments-doctor", "\n".join(checks) + "\n")
        finding = cli("doctor", "-o", "json").document["findings"][0]
        assert (finding["check"], finding["published"]) == ("environment", True)
        assert finding["protection"] == {"confirm": False, "sign_required": True}


class TestList:
    def test_list(self, cli: Cli, project: Path, golden: Golden) -> None:
        apply(cli)
        text = (project / "ratectl.yaml").read_text()
        gone = '  gone: {store: "sqlite:///missing/rates.db"}\n'
        (project / "ratectl.yaml").write_text(text + gone)
        run = cli("env")
        assert run.code == 1
        golden("environments-list", narrow(run.out))
        golden("environments-list-json", cli("env", "-o", "json", "-e", "production").out)
        assert not (project / "staging.db").exists(), "to look creates nothing"

    def test_a_store_that_is_named_by_its_url_is_listed_too(self, cli: Cli, project: Path) -> None:
        document = cli("env", "--store", "sqlite:///x.db", "-o", "json").document
        chosen = [each for each in document["environments"] if each["chosen"]]
        assert [(each["name"], each["store"]) for each in chosen] == [(None, "sqlite:///x.db")]
        assert document["chosen_by"] == "--store"

    def test_without_a_file(self, cli: Cli, store_url: str) -> None:
        document = cli("env", "-o", "json").document
        assert (document["file"], document["policies"]) == (None, "policies")
        assert [each["store"] for each in document["environments"]] == [store_url]


@pytest.mark.etcd
class TestEtcd:
    def test_the_first_publication_needs_a_reason(
        self, cli: Cli, tree: Path, etcd_url: str
    ) -> None:
        assert "nothing was ever published" in cli("plan").out
        run = cli("apply", "--yes")
        assert (run.code, run.document if run.out.startswith("{") else None) == (77, None)
        assert "add --allow-first REASON" in run.err
        document = apply(cli, "--allow-first", "CHG-1: a new environment")
        assert document["passed"] == {"first": "CHG-1: a new environment"}
        assert document["store"] == etcd_url
        (tree / "all.yaml").write_text((tree / "all.yaml").read_text().replace("50/s", "51/s"))
        assert apply(cli)["passed"] == {}

    def test_or_an_answer_at_the_prompt(self, cli: Cli, tree: Path, etcd_url: str) -> None:
        terminal = Terminal("apply")
        terminal.read_until("Publish the first generation there? [y/N] ")
        terminal.type("n\n")
        assert terminal.finish() == 1
        terminal = Terminal("apply")
        terminal.read_until("Publish the first generation there? [y/N] ")
        terminal.type("y\n")
        assert terminal.finish() == 0
        entry = cli("history", "-o", "json").document["generations"][0]
        assert entry["passed"] == {"first": "yes at the prompt"}

    def test_a_first_plan_is_for_its_environment(
        self, cli: Cli, project: Path, etcd_url: str
    ) -> None:
        text = PROJECT.replace("sqlite:///production.db", etcd_url)
        text = text.replace("sqlite:///staging.db", f"{etcd_url}-staging")
        (project / "ratectl.yaml").write_text(text)
        assert cli("plan", "-e", "staging", "--out", "plan.json").code == 0
        words = ("apply", "plan.json", "--allow-first", "new")
        run = cli(*words, "-e", "production", "--confirm", "production")
        assert (run.code, "the plan is for staging" in run.err) == (75, True)
        assert cli(*words, "-e", "staging", "--yes").code == 0

    def test_protection_on_etcd(self, cli: Cli, tree: Path, etcd_url: str, project: Path) -> None:
        text = PROJECT.replace("sqlite:///production.db", etcd_url)
        (project / "ratectl.yaml").write_text(text)
        assert cli("env", "protect", "production").code == 0
        listed = json.loads(cli("env", "-o", "json").out)["environments"]
        production = next(each for each in listed if each["name"] == "production")
        assert production["stored_protection"] == {"confirm": True, "sign_required": False}
        words = ("--store", etcd_url, "--allow-first", "x")
        assert cli("apply", "--yes", *words).code == 64
        assert apply(cli, *words, "--confirm", "production")["environment"] == "production"


def test_init_writes_settings_that_are_valid(cli: Cli, clean_place: Path) -> None:
    assert cli("init").code == 0
    text = (clean_place / "ratectl.yaml").read_text()
    document = cli("env", "-o", "json").document
    assert document["file"] == str(clean_place / "ratectl.yaml")
    assert document["environments"][0]["name"] is None
    uncommented = text.replace("# environments:", "environments:").replace("#   ", "  ")
    (clean_place / "ratectl.yaml").write_text(uncommented)
    run = cli("env", "-o", "json", "--timeout", "3")
    (production,) = run.document["environments"]
    assert production["name"] == "production"
    assert production["protection"] == {"confirm": True, "sign_required": True}


def test_init_keeps_settings(cli: Cli, clean_place: Path) -> None:
    (clean_place / "ratectl.yaml").write_text(PROJECT)
    document = cli("init", "-o", "json").document
    assert "ratectl.yaml" in document["kept"]
    assert (clean_place / "ratectl.yaml").read_text() == PROJECT


def test_a_missing_folder_of_a_store_is_an_error(cli: Cli, tree: Path) -> None:
    run = cli("apply", "--yes", "--store", "sqlite:///misspelt/rates.db")
    assert run.code == 69
    assert "misspelt does not exist: create it, or correct the URL" in run.err
    assert not Path("misspelt").exists()


def test_the_folder_of_the_default_store_is_created(cli: Cli, tree: Path, tmp_path: Path) -> None:
    assert cli("history").code == 0
    assert not (tmp_path / "state").exists()
    assert cli("apply", "--yes").code == 0
    assert (tmp_path / "state" / "ratectl" / "ratectl.db").is_file()


def test_the_page_shows_the_real_output(
    cli: Cli, clean_place: Path, still: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Path(__file__).parents[2] / "docs" / "environments.md"
    text = page.read_text()
    settings = re.search(r"```yaml ratectl.yaml\n(.*?)```", text, re.DOTALL)
    assert settings is not None
    (clean_place / "ratectl.yaml").write_text(settings[1])
    shutil.copytree(EXAMPLES, clean_place / "policies")
    blocks = re.findall(r"```console environments\n(.*?)```", text, re.DOTALL)
    assert blocks
    steps = re.findall(r"^\$ (.*)\n((?:[^$].*\n|\n)*)", "".join(blocks), re.MULTILINE)
    for command, shown in steps:
        out = run(command, cli, clean_place).replace(str(clean_place), "/srv/shop")
        assert_shown(narrow(shown), narrow(out), command)


def narrow(text: str) -> str:
    """Return a table without the padding, which depends on the length of paths."""
    return re.sub(r"(?<=\S) {2,}", "  ", text)
