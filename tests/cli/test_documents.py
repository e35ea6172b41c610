"""``-o json`` and ``-o yaml`` print one document for each run; shared options."""

from __future__ import annotations

import importlib
import json
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml
from cli_support import AUTHOR, EXAMPLES, Cli, limit_report, report_agent

from ratectl_cli.app import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ratectl_cli.framework.lazy import Entry

CASES = [
    (("validate", "policies"), "Validation"),
    (("validate", "nowhere"), "Validation"),
    (("explain", "/shop/cart", "-a", "client=x"), "Explanation"),
    (("explain", "/shop", "--live"), "Explanation"),
    (("explain", "shop"), "Error"),
    (("plan", "policies"), "Plan"),
    (("plan", "nowhere"), "Error"),
    (("plan", "policies", "--map", "web.map.yaml"), "Error"),
    (("plan", "policies", "--replay", "policies/all.yaml", "--map", "nowhere"), "Error"),
    (("diff", "policies"), "Difference"),
    (("diff", "--to", "9"), "Error"),
    (("pull", "there"), "Pull"),
    (("pull", "-"), "Pull"),
    (("pull",), "Error"),
    (("blame", "/shop"), "Blame"),
    (("blame", "shop"), "Error"),
    (("apply", "policies", "--yes"), "Publication"),
    (("apply", "nowhere", "--yes"), "Error"),
    (("apply", "policies", "--yes", "--shadow"), "Rollout"),
    (("rollout", "status"), "Error"),
    (("key", "generate", "platform"), "Key"),
    (("history",), "History"),
    (("history", "--nope"), "Error"),
    (("show",), "Generation"),
    (("show", "9"), "Error"),
    (("rollback", "--yes"), "Error"),
    (("panic",), "Panic"),
    (("panic", "--local"), "Panic"),
    (("panic", "on", "--scope", "/shop", "--reason", "INC-1"), "PanicTurned"),
    (("panic", "on", "--scope", "/shop", "--reason", "INC-1", "--local"), "PanicTurned"),
    (("panic", "off"), "PanicTurned"),
    (("panic", "on", "--scope", "/shop"), "Error"),
    (("usage",), "Usage"),
    (("usage", "/shop"), "Usage"),
    (("usage", "--near", "90", "--top", "3"), "Error"),
    (("usage", "--watch"), "Error"),
    (("top",), "Top"),
    (("top", "shop"), "Error"),
    (("usage", "reset", "/shop", "--limit", "spike", "--key", "x", "--reason", "y", "-y"), "Reset"),
    (("usage", "reset", "/shop", "--limit", "spike", "--key", "x", "--reason", "y"), "Error"),
    (("usage", "reset"), "Error"),
    (("help", "usage", "reset"), "CommandHelp"),
    (("agents",), "Agents"),
    (("cluster",), "Cluster"),
    (("cluster", "forget", "nobody", "--yes"), "Error"),
    (("cluster", "size", "--rate", "5/s", "--members", "2"), "ClusterSize"),
    (("cluster", "size"), "Error"),
    (("check", "/shop"), "Check"),
    (("check", "/shop", "-n", "500"), "Check"),
    (("doctor",), "Doctor"),
    (("env",), "Environments"),
    (("env", "protect", "production"), "Error"),
    (("doctor", "--store", "etcd://127.0.0.1:1/x"), "Doctor"),
    (("history", "--store", "etcd://127.0.0.1:1/x"), "Error"),
    (("version",), "Version"),
    (("help",), "Topics"),
    (("help", "stores"), "Topic"),
    (("help", "rollout", "run"), "CommandHelp"),
    (("help", "nonsense"), "Error"),
    (("init", "new"), "Init"),
    (("rule",), "Rules"),
    (("rule", "RC201"), "Rule"),
    (("rule", "RC999"), "Error"),
    (("schema",), "Schema"),
    (("schema", "--kind", "Nope"), "Error"),
    (("fmt", "policies"), "Format"),
    (("fmt", "nowhere"), "Error"),
    (("init",), "Error"),
    (("nonsense",), "Error"),
]


@pytest.mark.parametrize(("words", "kind"), CASES, ids=[" ".join(words) for words, _ in CASES])
def test_one_document(
    cli: Cli, tree: Path, published: str, words: tuple[str, ...], kind: str
) -> None:
    report_agent(published, limits=[limit_report("/shop", "spike")])
    (tree / "more.yaml").write_text("{apiVersion: ratectl/v1, scope: /more}\n")
    run = cli(*words, "-o", "json")
    assert run.out.isascii()
    document = run.document
    assert list(document)[:2] == ["apiVersion", "kind"]
    assert (document["apiVersion"], document["kind"]) == ("ratectl/v1", kind)
    if kind == "Error":
        assert document["exit_code"] == run.code >= 64
        assert document["code"]
        assert document["message"]
        assert run.err == ""
    assert "revision" not in {key for key in document if key != "detail"}


def test_yaml_holds_the_same(cli: Cli, published: str) -> None:
    for words in (("show",), ("history",), ("explain", "/shop"), ("nonsense",)):
        as_yaml = yaml.safe_load(cli(*words, "--output=yaml").out)
        assert as_yaml == cli(*words, "--output=json").document


def test_publication_documents(cli: Cli, tree: Path, published: str) -> None:
    unchanged = cli("apply", "policies", "-o", "json").document
    assert (unchanged["published"], unchanged["generation"]) == (False, 1)
    (tree / "more.yaml").write_text("{apiVersion: ratectl/v1, scope: /more}\n")
    document = cli("apply", "policies", "--yes", "-m", "why\nso", "-o", "json").document
    assert document["published"] is True
    assert (document["base"], document["generation"]) == (1, 2)
    assert document["undo"] == "ratectl rollback --to 1"
    assert (document["author"], document["message"]) == (AUTHOR, "why\nso")
    assert (document["commit"], document["dirty"]) == (None, None)
    entry = cli("history", "-o", "json").document["generations"][0]
    assert (entry["generation"], entry["live"], entry["message"]) == (2, True, "why\nso")
    assert entry["time"] == "2026-11-23T11:58:00.000Z"
    back = cli("rollback", "--yes", "-o", "json").document
    assert (back["action"], back["generation"], back["undo"]) == (
        "rollback", 3, "ratectl rollback --to 2"
    )  # fmt: skip
    again = cli("rollback", "--to", "1", "--yes", "-o", "json").document
    assert (again["published"], again["generation"]) == (False, 3)


def test_diagnostics_have_places(cli: Cli, tree: Path, store_url: str) -> None:
    (tree / "bad.yaml").write_text("apiVersion: ratectl/v1\nscope: /bad\nlimts: {}\n")
    for words in (("validate", "policies"), ("apply", "policies")):
        (found,) = cli(*words, "-o", "json").document["diagnostics"]
        assert (found["file"], found["line"], found["column"]) == ("policies/bad.yaml", 3, 1)
        assert (found["code"], found["severity"]) == ("RC134", "error")
        assert found["source_line"] == "limts: {}"


def test_a_publication_contains_warnings(cli: Cli, tree: Path, store_url: str) -> None:
    (tree / "warn.yaml").write_text("apiVersion: ratectl/v1\nscope: /warn\nunset: [nothing]\n")
    run = cli("apply", "policies", "--yes", "-o", "json")
    assert [found["code"] for found in run.document["diagnostics"]] == ["RC301"]
    assert run.err == ""
    (tree / "warn.yaml").write_text("apiVersion: ratectl/v1\nscope: /warn\nunset: [other]\n")
    assert "warning[RC301]" in cli("apply", "policies", "--yes").err


def test_the_commit_and_uncommitted_changes_are_recorded(
    cli: Cli, tree: Path, store_url: str, clean_place: Path
) -> None:
    def git(*words: str) -> str:
        who = ("-c", "user.name=A", "-c", "user.email=a@example.org")
        done = subprocess.run(["git", *who, *words], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "start")
    commit = git("rev-parse", "HEAD")
    assert f"policies at {commit[:10]} against" in cli("apply", "policies", "--yes").out
    (tree / "more.yaml").write_text("{apiVersion: ratectl/v1, scope: /more}\n")
    assert "with uncommitted changes" in cli("apply", "policies", "--yes").out
    newest, oldest = cli("history", "-o", "json").document["generations"]
    assert (newest["commit"], newest["dirty"]) == (commit, True)
    assert (oldest["commit"], oldest["dirty"]) == (commit, False)
    assert f"{commit[:10]}+ " in cli("history").out


def test_explanation_documents(cli: Cli, tree: Path) -> None:
    document = cli("explain", "/small/x", "-a", "client=acme", "-o", "json").document
    assert document["declared_scope"] == "/small"
    (limit,) = document["limits"]
    assert limit["bucket"] == {"scope": "/small", "limit": "spike", "overrides": []}
    assert limit["key"] == {"client": "acme"}
    rate = limit["fields"]["rate"]
    assert (rate["value"], rate["asked"]["value"], rate["cap"]["value"]) == (
        "10/s", "50/s", "10/s"
    )  # fmt: skip
    assert rate["cap"]["origin"]["scope"] == "/small"


def test_check_documents(cli: Cli, tree: Path) -> None:
    words = ("check", "/small", "--policies", "policies", "-o", "json")
    document = cli(*words, "-n", "7").document
    assert (document["allowed"], document["refused"], document["first_refused"]) == (5, 2, 6)
    assert [decision["reason"] for decision in document["decisions"]] == ["ok"] * 5 + [
        "limited"
    ] * 2
    assert document["generation"] is None
    assert cli(*words, "-n", "100").document["decisions"] == []


def test_check_writes_nothing_to_the_store(cli: Cli, published: str) -> None:
    assert cli("check", "/shop", "-n", "3").code == 0
    assert cli("agents", "-o", "json").document["agents"] == []


def test_unknown_usage_is_null(cli: Cli, published: str) -> None:
    document = cli("usage", "/small", "-o", "json").document
    (limit,) = document["limits"]
    assert limit["used"] is limit["allowed"] is limit["rate_per_second"] is None
    assert (document["agents"], document["reporting"], document["oldest"]) == (0, 0, None)


def test_shared_options_before_and_after_the_command(
    cli: Cli, store_url: str, tmp_path: Path
) -> None:
    other = f"sqlite:///{tmp_path}/other.db"
    assert cli("-o", "json", "version").document["kind"] == "Version"
    assert cli("-o", "yaml", "version", "-o", "json").document["kind"] == "Version"
    assert cli("--store", "nonsense://x", "history", "--store", other).code == 0
    assert cli("--store", other, "history").code == 0
    assert cli("--timeout", "0.05", "version").code == 64


def test_quiet_and_verbose(cli: Cli, tree: Path, store_url: str) -> None:
    quiet = cli("-q", "apply", "policies", "--yes")
    assert quiet.err == ""
    assert "undo" not in quiet.out
    assert "follow" not in quiet.out
    assert "generation 1 is live" in quiet.out
    assert f"store {store_url}" in cli("history", "-v").err
    assert cli("history", "-q").err == ""


def test_colour(cli: Cli, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def coloured(*words: str, tty: bool = False) -> bool:
        return "\x1b[" in cli("validate", "policies", *words, tty=tty).out

    assert not coloured()
    assert coloured(tty=True)
    assert coloured("--color", "always")
    assert not coloured("--color", "never", tty=True)
    monkeypatch.setenv("CLICOLOR_FORCE", "1")
    assert coloured()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not coloured()
    assert not coloured(tty=True)
    assert coloured("--color", "always"), "asked for in so many words"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.delenv("CLICOLOR_FORCE")
    monkeypatch.setenv("TERM", "dumb")
    assert not coloured(tty=True)


def test_errors_are_coloured_if_standard_error_is_a_terminal(cli: Cli) -> None:
    assert "\x1b[" in cli("nonsense", tty=True).err
    assert "\x1b[" not in cli("nonsense", "--color=never", tty=True).err
    assert "\x1b[" in cli("nonsense", "--color", "always").err


def test_tables_are_drawn_on_terminals_only(cli: Cli, published: str) -> None:
    assert "─" in cli("history", tty=True).out
    plain = cli("history").out
    assert plain.isascii()
    plain = cli("history", "--color", "always").out
    assert "─" not in plain
    assert "\x1b[1m" in plain


def test_encodings_without_our_symbols(cli: Cli, tree: Path) -> None:
    run = cli("explain", "/small", encoding="ascii")
    assert "10/s clipped by cap" in run.out
    assert "/small - policies" in run.out


def test_untrusted_text_is_escaped(
    cli: Cli, tree: Path, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = "a\x1b]0;owned\x07\r\nfake line\u202e\x9b1m"
    monkeypatch.setenv("RATECTL_AUTHOR", evil)
    assert cli("apply", "policies", "--yes", "-m", evil).code == 0
    report_agent(
        store_url,
        host=evil,
        error=evil,
        limits=[limit_report("/shop", "spike", top_refused=[(evil, 3)])],
    )
    runs = [
        cli(*words, tty=tty, stdin="n\n")
        for tty in (False, True)
        for words in (
            ("history",),
            ("show",),
            ("agents",),
            ("usage",),
            ("doctor",),
            ("explain", "/shop", "-a", f"client={evil}"),
            ("explain", evil),
            ("validate", evil),
            (evil,),
            ("history", "--store", f"sqlite:///{evil}/x.db"),
        )
    ]
    for run in runs:
        for text in (run.out, run.err):
            for bad in ("\x1b]", "\x07", "\r", "\u202e", "\x9b", "\nfake"):
                assert bad not in text
    assert "\\x1b]0;owned" in cli("history").out


def every_command(
    table: Mapping[str, Entry], before: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Entry]]:
    """Yield all commands, also those of groups, as words."""
    for name, entry in table.items():
        if entry.exists:
            words = (*before, name)
            if ":" in entry.target:
                yield words, entry
                yield from every_command(entry.below, words)
            else:
                yield from every_command(importlib.import_module(entry.target).COMMANDS, words)


@pytest.mark.parametrize(
    ("words", "entry"),
    list(every_command(COMMANDS)),
    ids=[" ".join(words) for words, _ in every_command(COMMANDS)],
)
def test_help_is_complete(cli: Cli, words: tuple[str, ...], entry: Entry) -> None:
    assert f"  {words[-1]}" in cli(*words[:-1], "--help").out
    for option in ("--help", "-h"):
        run = cli(*words, option)
        assert run.code == 0
        assert "Examples:" in run.out
        assert "Exit codes:" in run.out
        assert "Shared options:" in run.out
    first = run.out.splitlines()[2].strip()
    assert first == entry.summary, "the list and the command agree"


def test_without_a_command_help_goes_to_standard_error(cli: Cli) -> None:
    run = cli()
    assert (run.code, run.out) == (64, "")
    assert "Publish policies as the next generation." in run.err


def test_version_option(cli: Cli) -> None:
    assert cli("--version").out.startswith("ratectl ")
    assert cli("version", "-o", "json").document["engine"]


def test_init_writes_the_example_tree_of_the_repository(cli: Cli, clean_place: Path) -> None:
    assert cli("init", "here", "--full").code == 0
    written = {}
    for path in (clean_place / "here" / "policies").rglob("*.yaml"):
        modeline, _, rest = path.read_bytes().partition(b"\n")
        prefix, _, schema = modeline.decode().partition("=")
        assert prefix == "# yaml-language-server: $schema"
        assert json.loads((path.parent / schema).read_text())["$schema"]
        written[path.relative_to(clean_place / "here" / "policies")] = rest
    shown = {path.relative_to(EXAMPLES): path.read_bytes() for path in EXAMPLES.rglob("*.yaml")}
    assert written == shown
    assert written


@pytest.mark.parametrize("options", [(), ("--full",)])
def test_policies_of_init_are_valid_and_their_tests_pass(
    cli: Cli, options: tuple[str, ...]
) -> None:
    """The commands that init suggests work."""
    document = cli("init", "here", *options, "-o", "json").document
    run = cli("validate", "here/policies", "-o", "json")
    assert (run.code, run.document["warnings"]) == (0, 0)
    for command in document["next"][:3]:
        assert cli(*command.split()[1:]).code == 0, command
    whole = cli("test", "here/policies", "--coverage-threshold", "90")
    assert whole.code == 0, whole.out


def test_init_keeps_an_existing_schema(cli: Cli, clean_place: Path) -> None:
    schema = clean_place / "schemas" / "policy.v1.schema.json"
    schema.parent.mkdir()
    schema.write_text("{}")
    document = cli("init", "-o", "json").document
    assert schema.read_text() == "{}"
    assert not any("schema" in name for name in document["files"])


def test_standard_input(cli: Cli, tree: Path, store_url: str) -> None:
    text = (tree / "all.yaml").read_text()
    assert cli("validate", "-", stdin=text).code == 0
    run = cli("apply", "-", "--yes", "-o", "json", stdin=text)
    assert (run.code, run.document["commit"]) == (0, None)
    assert cli("validate", "-", stdin=b"\xff\xfe\x00").code == 1
    assert json.loads(cli("validate", "-", "-o", "json", stdin="").out)["valid"] is False
