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
        ("default: prod", "3:10", "default names no environment: 'prod'; declared: none (write"),
        ("environments: []", "3:15", "environments is not a mapping of names"),
        ("environments: {a: x}", "3:16", "environment a is not a mapping"),
        ("environments: {a: {}}", "3:16", "environment a has no store"),
        (
            "environments: {'a b': {store: 'etcd://h/x'}}",
            "3:16",
            "this cannot name an environment (use letters",
        ),
        ("environments: {a: {store: 'redis://h'}}", "3:27", "is not a store URL; use sqlite:///"),
        ("environments: {a: {store: 'memory://x'}}", "3:27", "a store inside one process"),
        ("environments: {a: {store: 5}}", "3:27", "store is not text"),
        ("environments: {a: {store: 'etcd://h/x', confirm: 'on'}}", "3:50", "confirm is not true"),
        ("environments: {a: {store: 'etcd://h/x', sign: always}}", "3:47", "sign is not required"),
        ("environments: {a: {store: 'etcd://h/x', conform: true}}", "3:41", "'conform' (did you"),
        ("policies: a\npolicies: b", "4:1", "a key is written twice (delete or rename one"),
        ("a: *x", "3:4", "an alias has no anchor"),
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
    ("url", "message", "mends"),
    [
        ("etcd://me:hunter2@h:2379/x", "must not hold a user or password", True),
        ("etcd://h:2379/x?password=hunter2", "takes no options", True),
        ("etcd://h:hunter2/x", "a port is not a number", False),
        ("sqlite:///me:hunter2@h/x", "a file has no user or password", True),
        ("sqlite:///a.db?mode=hunter2", "options are not known", False),
        ("etcd://h o:1/p", "an address is not host:port", False),
        (" sqlite:///a.db", "has blanks or line ends around it", False),
    ],
)
def test_a_wrong_url_is_explained_and_hides_secrets(url: str, message: str, mends: bool) -> None:
    (found,) = findings(f"environments: {{a: {{store: '{url}'}}}}")
    assert message in found
    assert ("credentials do not belong in this file" in found) == mends
    assert "hunter2" not in found


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://a.db", "sqlite:////", "etcd://", "etcd://127.0.0.1:1", "etcd://127.0.0.1:99999/p",
        "etcd:///p", "etcd://127.0.0.1:1/p/", "rates.db",
    ],
)  # fmt: skip
def test_a_url_of_another_form_is_an_error_with_a_place(url: str) -> None:
    (found,) = findings(f"environments: {{a: {{store: '{url}'}}}}")
    assert found.startswith(f"{FILE}:3:27: error[RC137]: store")


@pytest.mark.parametrize(
    "store",
    ["etcd://${HOST}/x", "'etcd://{{ host }}/x'", "sqlite:///${HOME}/a.db", "{{ store }}"],
)
def test_a_template_is_one_finding(store: str) -> None:
    (found,) = findings(f"environments:\n  a:\n    store: {store}\n")
    assert found.startswith(f"{FILE}:5:")
    assert "error[RC125]: the file is a template that has not been rendered" in found
    assert "RATECTL_STORE" in found


PASSWORDS = ("etcd://u:hunter2@h/p", "012345", "a hunter2", "*hunter2", "{{ hunter2 }}")


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize(
    "text",
    [
        "default: {}", "policies: {} : x", "environments: {}", "{}: x", "x: {}", "- {}", "{}",
        "environments: {{a: {}}}", "environments: {{{}: {{store: 'etcd://h/x'}}}}",
        "environments:\n  {}: {{}}", "environments: {{a: {{store: {}}}}}",
        "environments: {{a: {{store: 'etcd://h/x', confirm: {}, sign: {}}}}}",
        "environments: {{a: {{store: 'etcd://h/x', password: {}}}}}",
        "environments:\n  a: &x\n    store: {}\n  b:\n    <<: *x\n", "x: &y {}\n<<: *y",
        "default: [{}", "default: '{}", "default: {}\ndefault: {}", "a: !x {}", "%{}", "\t{}: x",
    ],
)  # fmt: skip
def test_no_finding_shows_a_password(text: str, password: str) -> None:
    for found in findings(text.format(password, password)):
        assert "hunter2" not in found
        assert "012345" not in found


@pytest.mark.parametrize(
    "stores",
    [
        ("sqlite:///a.db", "sqlite:///./a.db"),
        ("sqlite:///a.db", "sqlite:////srv/shop/a.db"),
        ("etcd://A,b/x", "etcds://a:2379/x"),
    ],
)
def test_two_environments_with_one_store_are_an_error(stores: tuple[str, str]) -> None:
    one, other = stores
    (found,) = findings(f"environments:\n  a: {{store: '{one}'}}\n  b: {{store: '{other}'}}\n")
    assert found.startswith(f"{FILE}:5:3: error[RC142]: environments a and b have the same store")
    with pytest.raises(ProjectError) as raised:
        parse(f"environments:\n  a: &x {{store: '{one}'}}\n  b: *x\n")
    assert raised.value.diagnostics[0].notes == (f"the first one is at {FILE}:4:3",)


def test_environments_of_one_cluster_are_different_stores() -> None:
    parse("environments: {a: {store: 'etcd://h/x'}, b: {store: 'etcd://h/y'}}")


def test_policies_are_a_folder(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").touch()
    with pytest.raises(ProjectError) as raised:
        parse_project(f"{HEADER}policies: shop.yaml".encode(), tmp_path / "ratectl.yaml")
    assert "policies names a file" in str(raised.value.diagnostics[0])


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
