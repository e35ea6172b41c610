"""Which store a command uses."""

from __future__ import annotations

from pathlib import Path

import pytest

from ratectl.environments import Choice, Declared, Project, Protection, Target, choose
from ratectl.errors import UsageError

PROTECTED = Protection(confirm=True)
DEFAULT = Path("/state/ratectl.db")


def project(*names: str, default: str | None = None) -> Project:
    environments = {
        name: Declared(
            name, f"etcd://h/{name}", PROTECTED if name == "production" else Protection()
        )
        for name in names
    }
    return Project(Path("/repo/ratectl.yaml"), None, default, environments)


def chosen(settings: Project | None, **choice: str) -> Target:
    return choose(Choice(**choice), lambda: settings, lambda: DEFAULT)


def refused(settings: Project | None, **choice: str) -> str:
    with pytest.raises(UsageError) as raised:
        chosen(settings, **choice)
    return str(raised.value)


BOTH = project("staging", "production")


def test_without_a_file_it_is_the_store_of_the_variable_or_the_default() -> None:
    assert chosen(None) == Target(
        "sqlite:////state/ratectl.db", chosen_by="default", makes_folder=True
    )
    assert chosen(None, store_variable="etcd://h/x").chosen_by == "RATECTL_STORE"


def test_an_environment_is_chosen_by_option_or_variable() -> None:
    target = chosen(BOTH, environment="production")
    assert target == Target("etcd://h/production", "production", PROTECTED, "-e")
    assert str(target) == "production (etcd://h/production)"
    assert chosen(BOTH, environment_variable="staging").environment == "staging"


def test_an_option_counts_more_than_a_variable() -> None:
    variables = {"environment_variable": "staging", "store_variable": "etcd://h/x"}
    assert chosen(BOTH, environment="production", **variables).environment == "production"
    assert chosen(BOTH, store="etcd://h/y", **variables).url == "etcd://h/y"


def test_two_options_or_two_variables_are_an_error() -> None:
    message = "-e and --store both name a store: give one of them"
    assert refused(BOTH, environment="staging", store="etcd://h/x") == message
    variables = {"environment_variable": "staging", "store_variable": "etcd://h/x"}
    assert refused(BOTH, **variables).startswith("RATECTL_ENV and RATECTL_STORE both name")


def test_a_named_store_does_not_read_the_file() -> None:
    def unreadable() -> Project:
        raise AssertionError("the file was read")

    for choice in (Choice(store="etcd://h/x"), Choice(store_variable="etcd://h/x")):
        target = choose(choice, unreadable, lambda: DEFAULT)
        assert (target.url, target.environment) == ("etcd://h/x", None)


def test_the_default_of_the_file_or_its_only_environment() -> None:
    assert chosen(project("staging", "production", default="staging")).environment == "staging"
    assert chosen(project("production")).environment == "production"
    assert chosen(project()).chosen_by == "default"


def test_several_environments_without_a_default_need_a_choice() -> None:
    message = refused(BOTH)
    assert "declares 2 environments (staging, production), and none is chosen" in message
    assert "-e NAME" in message


def test_an_unknown_environment_is_an_error_that_lists_the_known_ones() -> None:
    message = refused(BOTH, environment="prodution")
    assert (
        "no environment 'prodution', but staging, production; did you mean production?" in message
    )
    assert "there is no ratectl.yaml here" in refused(None, environment="production")


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("environment", "-e"),
        ("environment_variable", "RATECTL_ENV"),
        ("store", "--store"),
        ("store_variable", "RATECTL_STORE"),
    ],
)
def test_an_empty_name_is_an_error(name: str, source: str) -> None:
    for empty in ("", "  "):
        assert refused(BOTH, **{name: empty}).startswith(f"{source} is empty")


def test_a_store_of_one_process_is_an_error() -> None:
    assert "would end with this command" in refused(None, store="memory://x")
    assert "RATECTL_STORE: memory://" in refused(None, store_variable="memory://x")
