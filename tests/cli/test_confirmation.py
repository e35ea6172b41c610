"""Protection of environments on the command line: names as confirmation, and signatures."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from environments_support import PROJECT, apply
from terminal_support import Terminal

if TYPE_CHECKING:
    from pathlib import Path

    from cli_support import Cli


class TestConfirmation:
    def test_without_a_terminal_the_name_is_an_option(self, cli: Cli, project: Path) -> None:
        run = cli("apply", "--yes", "-e", "production")
        assert run.code == 64
        assert "add --confirm production" in run.err
        run = cli("apply", "--yes", "-e", "production", "--confirm", "staging")
        assert run.code == 64
        assert "--confirm 'staging' is not the name of production" in run.err
        assert cli("history", "-e", "production", "-o", "json").document["live"] is None
        assert apply(cli, "-e", "production", "--confirm", "production")["generation"] == 1

    def test_protection_in_the_store_applies_to_its_url(self, cli: Cli, project: Path) -> None:
        assert cli("env", "protect", "production").code == 0
        by_url = ("--store", f"sqlite:///{project}/production.db")
        run = cli("apply", "--yes", *by_url)
        assert (run.code, "add --confirm production" in run.err) == (64, True)
        assert apply(cli, *by_url, "--confirm", "production")["environment"] == "production"

    def test_a_file_that_says_less_does_not_loosen(self, cli: Cli, project: Path) -> None:
        assert cli("env", "protect", "production").code == 0
        file = project / "ratectl.yaml"
        file.write_text(PROJECT.replace(", confirm: true", ""))
        assert cli("apply", "--yes", "-e", "production").code == 64

    def test_a_file_that_names_the_store_wrongly_is_refused(self, cli: Cli, project: Path) -> None:
        assert cli("env", "protect", "production").code == 0
        file = project / "ratectl.yaml"
        text = PROJECT.replace("production.db", "other.db")
        file.write_text(text.replace("staging.db", "production.db"))
        run = cli("apply", "--yes", "-e", "staging")
        assert run.code == 77
        assert "that store is environment production" in run.err
        assert cli("doctor", "-e", "staging").code == 1

    def test_a_wrong_name_in_the_store_stops_no_way_out_and_can_be_corrected(
        self, cli: Cli, project: Path
    ) -> None:
        other = ("--store", f"sqlite:///{project}/production.db")
        apply(cli, "-e", "production", "--confirm", "production")
        ratectl = project / "ratectl.yaml"
        text = ratectl.read_text()
        ratectl.unlink()
        assert cli("env", "protect", "prodution", "--confirm", *other).code == 0
        ratectl.write_text(text)
        run = cli("apply", "--yes", "-e", "production")
        assert run.code == 77
        assert "another name" in cli("env").out
        correction = f"env unprotect prodution --store sqlite:///{project}/production.db"
        assert f"if the store's name is wrong, `ratectl {correction}` removes it" in run.err
        switch = ("--scope", "/", "-e", "production")
        run = cli("panic", "on", "--reason", "INC-1", *switch)
        assert run.code == 0
        assert "warning: environment production is to be in" in run.err
        assert cli("panic", "off", *switch).code == 0
        run = cli(*correction.split(), "--confirm", "prodution")
        assert "removed: confirm: true and the name prodution" in run.out
        assert cli("env", "protect", "production").code == 0

    def test_a_store_of_the_file_keeps_its_name(self, cli: Cli, project: Path) -> None:
        run = cli("env", "protect", "prodution", "--confirm", "--store", "sqlite:///production.db")
        assert run.code == 64
        assert "ratectl.yaml calls it production" in run.err
        assert not (project / "production.db").exists()

    def test_ending_a_rollout_is_not_stopped_by_a_name(self, cli: Cli, project: Path) -> None:
        file = project / "limits" / "all.yaml"
        for words in ((), ("--shadow",)):
            apply(cli, "-e", "staging", *words)
            file.write_text(file.read_text().replace("50/s", "51/s"))
        store = ("--store", f"sqlite:///{project}/staging.db")
        (project / "ratectl.yaml").write_text(PROJECT.replace("staging.db", "other.db"))
        assert cli("env", "protect", "stagin", "--confirm", *store).code == 0
        (project / "ratectl.yaml").write_text(PROJECT)
        assert cli("rollout", "promote", "--yes", "-e", "staging").code == 77
        assert cli("rollout", "abort", "-e", "staging").code == 0

    def test_the_right_name_is_an_answer_and_a_wrong_one_an_error(
        self, cli: Cli, project: Path
    ) -> None:
        words = ("apply", "-e", "staging")
        assert cli(*words, "--confirm", "staging").code == 0
        assert cli(*words, "--confirm", "staging").code == 0, "nothing to do"
        run = cli(*words, "--confirm", "production")
        assert run.code == 64
        assert "--confirm 'production' is not the name of staging" in run.err
        run = cli("rollback", "-e", "staging", "--to", "1", "--confirm", "production")
        assert run.code == 64

    def test_rollback_and_promote(self, cli: Cli, project: Path) -> None:
        words = ("-e", "production", "--confirm", "production")
        file = project / "limits" / "all.yaml"
        for rate in ("50/s", "51/s"):
            file.write_text(file.read_text().replace("50/s", rate))
            apply(cli, *words)
        assert cli("rollback", "--yes", "-e", "production").code == 64
        assert cli("rollback", *words).code == 0, "the name replaces --yes"
        shadow = ("apply", "--shadow", "-e", "production")
        assert cli(*shadow, "--yes").code == 64
        assert cli(*shadow, "--confirm", "production").code == 0
        assert cli("rollout", "promote", "--yes", "-e", "production").code == 64
        assert cli("rollout", "promote", *words).code == 0

    def test_signatures_that_the_file_requires(self, cli: Cli, project: Path) -> None:
        file = project / "ratectl.yaml"
        file.write_text(PROJECT.replace("confirm: true", "sign: required"))
        run = cli("apply", "--yes", "-e", "production", "--allow-unsigned", "please")
        assert (run.code, "needs signatures" in run.err) == (77, True)
        switch = ("panic", "on", "--scope", "/", "--reason", "x", "-e", "production")
        run = cli(*switch)
        assert (run.code, "--allow-unsigned" in run.err) == (77, False)
        assert cli("key", "generate", "me").code == 0
        run = cli(*switch, "--sign", "me.key")
        assert run.code == 0
        assert "undo:   ratectl panic off --scope / -e production --sign me.key" in run.out
        assert "follow: ratectl panic -e production\n" in run.out
        assert apply(cli, "-e", "production", "--sign", "me.key")["generation"] == 1

    def test_protect_and_unprotect(self, cli: Cli, project: Path) -> None:
        assert "declares no protection" in cli("env", "protect", "staging").err
        assert cli("env", "protect", "nowhere", "--confirm").code == 64
        assert cli("env", "protect", "local", "-e", "staging", "--confirm").code == 64
        document = cli("env", "protect", "staging", "--confirm", "-o", "json").document
        assert (document["confirm"], document["sign_required"]) == (True, False)
        assert cli("env", "unprotect", "staging").code == 64
        assert cli("env", "unprotect", "staging", "--confirm", "local").code == 64
        assert cli("env", "unprotect", "staging", "--confirm", "staging").code == 0
        assert cli("env", "unprotect", "staging", "--confirm", "staging").code == 77
        assert apply(cli, "-e", "staging")["generation"] == 1

    def test_a_store_is_named_by_its_url(self, cli: Cli, store_url: str, tree: Path) -> None:
        words = ("env", "protect", "edge", "--confirm", "--store", store_url)
        assert cli(*words).code == 0
        assert cli("apply", "--yes").code == 64
        assert apply(cli, "--confirm", "edge")["environment"] == "edge"


class TestTerminal:
    """Prompts on a pseudo-terminal."""

    def test_the_name_is_asked_for(self, cli: Cli, project: Path) -> None:
        terminal = Terminal("apply", "-e", "production", "--yes")
        terminal.read_until(f"production (sqlite:///{project}/production.db)? Write production")
        terminal.type("staging\n")
        assert terminal.finish() == 1
        assert "declined: 'staging' is not 'production'" in terminal.seen
        terminal = Terminal("apply", "-e", "production")
        terminal.read_until("to confirm: ")
        terminal.type("production\n")
        assert terminal.finish() == 0
        assert "generation 1 is live" in terminal.seen
        assert "[y/N]" not in terminal.seen, "the name is the answer"

    def test_other_changes_name_the_environment_before_they_ask(
        self, cli: Cli, project: Path
    ) -> None:
        terminal = Terminal("apply", "-e", "staging", "-q")
        before = re.sub(r"\x1b\[[0-9;]*m", "", terminal.read_until("[y/N] "))
        assert f" to staging (sqlite:///{project}/staging.db)?" in before
        terminal.type("y\n")
        assert terminal.finish() == 0

    def test_unprotecting_asks_for_the_name(self, cli: Cli, project: Path) -> None:
        assert cli("env", "protect", "production").code == 0
        terminal = Terminal("env", "unprotect", "production")
        terminal.read_until("to confirm: ")
        terminal.type("y\n")
        assert terminal.finish() == 1
