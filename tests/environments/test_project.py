"""Reading of ratectl.yaml: what it may say, and messages with places for everything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from ratectl.environments import Project, ProjectError, Protection
from ratectl.environments.project import parse_project

FILE = Path("/srv/shop/ratectl.yaml")
HEADER = "apiVersion: ratectl/v1\nkind: Environments\n"


def parse(text: str) -> Project:
    return parse_project((HEADER + text).encode(), FILE)


def findings(text: str, header: str = HEADER) -> list[str]:
    with pytest.raises(ProjectError) as raised:
        parse_project((header + text).encode(), FILE)
    assert all(finding.source_line is None for finding in raised.value.diagnostics)
    return [str(finding) for finding in raised.value.diagnostics]


def test_paths_are_relative_to_the_file() -> None:
    project = parse(
        "policies: limits/prod/\n"
        "default: local\n"
        "environments:\n"
        "  local: {store: 'sqlite:///var/rates.db'}\n"
        "  absolute: {store: 'sqlite:////var/rates.db'}\n"
        "  production: {store: 'etcds://a:2379,b:2379/prod', confirm: true, sign: required}\n"
    )
    assert project.policies == Path("/srv/shop/limits/prod")
    assert project.default == "local"
    stores = {name: declared.store for name, declared in project.environments.items()}
    assert stores == {
        "local": "sqlite:////srv/shop/var/rates.db",
        "absolute": "sqlite:////var/rates.db",
        "production": "etcds://a:2379,b:2379/prod",
    }
    assert project.environments["production"].protection == Protection(confirm=True, sign=True)
    assert not project.environments["local"].protection


def test_everything_but_the_header_may_be_left_out() -> None:
    project = parse("")
    assert (project.policies, project.default, dict(project.environments)) == (None, None, {})
    assert parse("policies: .").policies == Path("/srv/shop")


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("polices: x", "3:1", "unknown field 'polices' (did you mean policies?"),
        ("policies: /etc", "3:11", "policies names no folder in that of this file"),
        ("policies: ../other", "3:11", "policies names no folder in"),
        ("policies: a/../../b", "3:11", "policies names no folder in"),
        ("policies: etcd://h/x", "3:11", "policies names no folder in"),
        ("policies: 7", "3:11", "policies is not text"),
        ("policies: ''", "3:11", "policies is empty"),
        ("default: prod", "3:10", "default names no environment: 'prod' (declared are: none)"),
        ("environments: []", "3:15", "environments is not a mapping of names"),
        ("environments: {a: x}", "3:16", "environment a is not a mapping"),
        ("environments: {a: {}}", "3:16", "environment a has no store"),
        (
            "environments: {'a b': {store: 'etcd://h/x'}}",
            "3:16",
            "'a b' cannot name an environment",
        ),
        ("environments: {a: {store: 'redis://h'}}", "3:27", "is not a store URL; use sqlite:///"),
        ("environments: {a: {store: 'memory://x'}}", "3:27", "a store inside one process"),
        ("environments: {a: {store: 5}}", "3:27", "store is not text"),
        ("environments: {a: {store: 'etcd://h/x', confirm: 'on'}}", "3:50", "confirm is not true"),
        ("environments: {a: {store: 'etcd://h/x', sign: always}}", "3:47", "sign is not required"),
        ("environments: {a: {store: 'etcd://h/x', conform: true}}", "3:41", "'conform' (did you"),
        ("policies: a\npolicies: b", "4:1", "the key 'policies' is written twice"),
        ("a: *x", "3:4", "no anchor &x before this alias"),
    ],
)
def test_mistakes_have_a_place_and_a_hint(text: str, place: str, message: str) -> None:
    (found,) = findings(text)
    assert found.startswith(f"{FILE}:{place}: error[RC")
    assert message in found


@pytest.mark.parametrize("name", ["user", "password", "token", "sign_key", "ca", "credentials"])
def test_credentials_are_refused_with_the_variables_to_set(name: str) -> None:
    (found,) = findings(f"environments: {{a: {{store: 'etcd://h/x', {name}: hunter2}}}}")
    assert f"unknown field '{name}'" in found
    assert "RATECTL_ETCD_PASSWORD_FILE" in found
    assert "hunter2" not in found


@pytest.mark.parametrize(
    "url",
    [
        "etcd://me:hunter2@h:2379/x",
        "etcd://h:2379/x?password=hunter2",
        "etcd://h:hunter2/x",
        "sqlite:///me:hunter2@h/x",
    ],
)
def test_credentials_in_a_url_are_refused_and_not_shown(url: str) -> None:
    (found,) = findings(f"environments: {{a: {{store: '{url}'}}}}")
    assert "store holds a user, a password or options" in found
    assert "RATECTL_ETCD_USER" in found
    assert "hunter2" not in found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file holds no settings"),
        ("# nothing\n", "the file holds no settings"),
        ("- a\n", "the settings are not a mapping"),
        (f"{HEADER}---\n{HEADER}", "the file holds several documents"),
        ("kind: Environments\n", "apiVersion is missing"),
        ("apiVersion: ratectl/v2\nkind: Environments\n", "apiVersion is not ratectl/v1"),
        ("apiVersion: ratectl/v1\nkind: Policy\n", "kind is not Environments"),
        ("a: [\n", "RC101"),
    ],
)
def test_files_of_another_kind(text: str, message: str) -> None:
    assert message in findings(text, header="")[0]


def test_all_mistakes_are_reported_at_once() -> None:
    assert len(findings("policies: 1\nx: 1\nenvironments: {a: {sign: 3}}")) == 4
