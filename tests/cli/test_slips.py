"""Mistakes on the command line: empty names, damaged keys, one argument too many."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from cli_support import Cli


@pytest.mark.parametrize("command", ["history", "doctor", "demo"])
def test_an_empty_store_is_not_the_default_one(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """A pipeline whose secret is not set would publish to a file that nobody reads."""
    run = cli(command, "--store", "")
    assert (run.code, run.out) == (64, "")
    assert "--store is empty: name a store, like etcd://host:2379/prod, or leave it out" in run.err
    monkeypatch.setenv("RATECTL_STORE", " ")
    run = cli(command, "--store", "")
    assert "--store is empty" in run.err
    if command == "demo":  # which has a store of its own
        return
    run = cli(command)
    assert (run.code, run.out) == (64, "")
    assert "RATECTL_STORE is empty: name a store, like etcd://host:2379/prod, or unset" in run.err
    assert not (tmp_path / "state").exists()
    assert cli(command, "--store", f"sqlite:///{tmp_path}/other.db").code in (0, 1)


@pytest.mark.parametrize(
    "words",
    [("history",), ("apply", "policies", "--yes"), ("doctor",), ("agent", "run"), ("demo",)],
)
def test_a_store_in_memory_is_refused(
    cli: Cli, tree: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """The store would end with the command."""
    run = cli(*words, "--store", "memory://x")
    assert (run.code, run.out) == (64, "")
    assert "--store: memory:// is a store inside one process" in run.err
    assert "Name a file, like sqlite:///rates.db, or a server" in run.err
    if words != ("demo",):
        monkeypatch.setenv("RATECTL_STORE", "memory://x")
        run = cli(*words)
        assert (run.code, run.out) == (64, "")
        assert "RATECTL_STORE: memory:// is a store inside one process" in run.err


def test_apply_of_an_empty_directory_hints_at_allow_empty(
    cli: Cli, clean_place: Path, published: str
) -> None:
    (clean_place / "empty").mkdir()
    run = cli("apply", "empty", "--yes")
    assert run.err.endswith("\n  hint: if this is intended, add --allow-empty REASON\n")
    assert "--allow-empty" not in cli("plan", "empty").err, "which has no such option"
    run = cli("apply", "empty", "--yes", "--allow-empty", "x", "--allow-removals", "x")
    assert run.code == 0


def test_two_sources_to_compare_with_are_refused(cli: Cli, published: str) -> None:
    assert "--to replaces PATH: leave one of them out" in (cli("diff", "policies", "--to", "1").err)


def test_an_empty_path_is_reported(cli: Cli, clean_place: Path) -> None:
    for words in (("plan", ""), ("fmt", ""), ("test", ""), ("explain", "/", "--policies", "")):
        run = cli(*words)
        assert (run.code, run.out) == (64, "")
        assert "a path to read policies from is empty" in run.err


@pytest.mark.parametrize("given", ["", " "])
def test_an_empty_option_or_argument_is_not_the_working_directory(
    cli: Cli, clean_place: Path, published: str, given: str
) -> None:
    before = sorted(clean_place.rglob("*"))
    for words in (
        ("pull", given),
        ("init", given),
        ("agent", "run", "--state-dir", given),
        ("agent", "run", "--id", given),
        ("agent", "run", "--public-key", given),
        ("panic", "on", "--scope", "/", "--reason", "x", "--local", "--state-dir", given),
        ("panic", "off", "--local", "--state-dir", given),
        ("panic", "status", "--local", "--state-dir", given),
        ("plan", "policies", "--out", given),
        ("validate", given),
        ("check", "/", "--policies", given),
        ("key", "generate", given),
    ):
        run = cli(*words)
        assert (run.code, run.out) == (64, ""), words
    assert sorted(clean_place.rglob("*")) == before


def test_an_empty_key_variable_is_refused(
    cli: Cli, published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATECTL_SIGN_KEY", "")
    run = cli("apply", "policies", "--yes")
    assert run.code == 64
    assert "RATECTL_SIGN_KEY is empty: name a private key's file, or unset it" in run.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("MC4CAQAwBQYDK2VwBCIEIOF", "my.key holds no key in PEM"),
        ("MC4CAQAwBQYDK2VwBCIEIOF\n-----BEGIN PRIVATE KEY-----\n", "is not an environment"),
        ("-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIOF\n", "my.key is not a private key"),
    ],
)
def test_a_damaged_key_is_named_and_never_quoted(
    cli: Cli, clean_place: Path, published: str, text: str, said: str
) -> None:
    (clean_place / "my.key").write_text(text)
    run = cli("apply", "policies", "--yes", "--sign", "my.key")
    assert run.code == 64
    assert "my.key" in run.err
    assert said in run.err
    assert "MC4C" not in run.err
    run = cli("apply", "policies", "--yes", "--sign", "")
    assert run.code == 64
    assert "the name of a key file is empty" in run.err
