"""The file of a mapping: what is wrong with it is told with its place, and changes are followed."""

from __future__ import annotations

import re
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from etcd_server import wait_for
from ratectl import Agent
from ratectl.errors import UsageError
from ratectl.sidecar import Sidecar
from ratectl.sidecar.mapping import EnvoyMapping, Found
from ratectl.sidecar.mapping_file import MappingError, parse_mapping, read_mapping
from ratectl.sidecar.mapping_follower import MappingFollower

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = "apiVersion: ratectl/v1\nkind: EnvoyMapping\n"
DOCUMENTED = Path(__file__).parents[2] / "docs" / "envoy" / "mapping.yaml"
EMPTY = "apiVersion: ratectl/v1\nscope: /\nlimits: {}\n"


def findings(text: str) -> list[str]:
    with pytest.raises(MappingError) as caught:
        parse_mapping(text.encode(), "m.yaml")
    assert all(finding.hint for finding in caught.value.diagnostics)
    return [str(finding) for finding in caught.value.diagnostics]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "m.yaml: warning[RC118]: the file holds no document"),
        ("[]", "m.yaml:1:1: error[RC130]: the mapping is no mapping of fields"),
        ("domains: {}", "m.yaml:1:1: error[RC135]: apiVersion is missing (add "),
        (f"{HEAD}---\n{HEAD}", "m.yaml:4:1: error[RC142]: the file holds several documents"),
        (HEAD, "m.yaml:1:1: error[RC135]: this document has no domains"),
        (f"{HEAD}domains: 5", "m.yaml:3:10: error[RC136]: domains must be a mapping, not 5"),
        (f"{HEAD}domains: {{a: 5}}", "m.yaml:3:14: error[RC136]: a must be a mapping, not 5"),
        (f"{HEAD}domain: {{}}", "unknown field 'domain' (did you mean domains?)"),
    ],
)
def test_a_file_that_is_no_mapping(text: str, expected: str) -> None:
    found = findings(text)
    assert any(expected in finding for finding in found), found


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("scop: /a", "unknown field 'scop' (did you mean scope?)"),
        ("scope: a", "a scope starts with '/' (write /a)"),
        ("unit: 5", "unit must be text, not a number"),
        ("late_cost: yes", "m.yaml:3:26: error[RC112]: YAML 1.1 reads yes as true"),
        ("unlisted: no", "m.yaml:3:25: error[RC112]: YAML 1.1 reads no as false"),
        ("unlisted: deny", "unlisted cannot be 'deny' (write decide or pass)"),
        ("attributes: {k: ':p'}", "':p' cannot name an attribute"),
        ("descriptors: []", "descriptors is empty"),
        ("descriptors: [{value: v}]", "key is missing (write key)"),
        ("descriptors: [{key: k, value: 1}]", "value must be text, not a number (quote it)"),
        (
            "descriptors: [{key: k}, {key: k, value: '*'}, {key: k}]",
            "m.yaml:3:67: error[RC142]: the entry k is listed twice here",
        ),
        (
            "descriptors: [{key: k, descriptors: [{key: l, value: v}, {key: l, value: v}]}]",
            "m.yaml:3:78: error[RC142]: the entry l=v is listed twice here",
        ),
    ],
)
def test_wrong_fields_of_a_domain(fields: str, expected: str) -> None:
    found = findings(f"{HEAD}domains: {{a: {{{fields}}}}}")
    assert any(expected in finding for finding in found), found


def test_another_version_or_kind_is_no_mapping() -> None:
    assert findings("apiVersion: ratectl/v2\nkind: Policy\ndomains: {}\n") == [
        "m.yaml:1:13: error[RC131]: apiVersion is not ratectl/v1 (write apiVersion: ratectl/v1)",
        "m.yaml:2:7: error[RC132]: kind is not EnvoyMapping (write kind: EnvoyMapping)",
    ]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for file, problem in (
        (tmp_path / "absent", "No such file or directory"),
        (tmp_path, "Is a directory"),
    ):
        with pytest.raises(UsageError, match=f"cannot read the mapping {file}: {problem}"):
            read_mapping(file)


def test_the_documented_mapping_is_valid() -> None:
    mapping = EnvoyMapping(read_mapping(DOCUMENTED))
    assert mapping.domain("llm").find(()) == Found("/llm", "tokens", late_cost=True)
    assert mapping.domain("refunds").correlation == "x-request-id"


def test_the_mappings_of_the_page_are_valid() -> None:
    page = (DOCUMENTED.parent.parent / "envoy.md").read_text("utf-8")
    texts = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (mapping,) = [text for text in texts if "kind: EnvoyMapping" in text]
    domain = EnvoyMapping(parse_mapping(mapping.encode(), "envoy.md")[0]).domain("shop")
    entries = ("path", "/reports/2026"), ("export", "yes")
    assert domain.find(entries) == Found("/mall/reports", "rows")


# -- following


class Followed:
    """A file that is followed, without a thread."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.used: list[str] = []
        self.problems: list[str | None] = []
        self.write("/a")
        self.follower = MappingFollower(file, self._use, self.problems.append)

    def _use(self, mapping: EnvoyMapping) -> None:
        self.used.append(mapping.domain("d").root.found.scope)

    def write(self, scope: str) -> None:
        """Replace the file, as an editor or Kubernetes does."""
        new = self.file.with_name("new")
        new.write_text(f"{HEAD}domains: {{d: {{scope: {scope}}}}}\n")
        new.replace(self.file)


@pytest.fixture
def followed(tmp_path: Path) -> Iterator[Followed]:
    followed = Followed(tmp_path / "m.yaml")
    yield followed
    followed.follower.close()


def test_a_new_file_is_used(followed: Followed) -> None:
    followed.follower.look()
    followed.write("/b")
    for _ in range(2):
        followed.follower.look()
    assert followed.used == ["/a", "/b"]
    assert followed.problems == [None]


def test_a_wrong_file_changes_nothing_and_is_told(followed: Followed) -> None:
    followed.write("b")
    followed.follower.look()
    (problem,) = followed.problems
    assert problem is not None
    assert "m.yaml:3:22: error[RC141]: a scope starts with '/' (write /b)" in problem
    assert problem.endswith("; the mapping before it stays in use")
    followed.file.unlink()
    followed.follower.look()
    assert "No such file or directory" in str(followed.problems[1])
    assert followed.used == ["/a"]
    followed.write("/c")
    followed.follower.look()
    assert (followed.used, followed.problems[2:]) == (["/a", "/c"], [None])


def test_links_of_kubernetes_are_followed(tmp_path: Path) -> None:
    """A ConfigMap's file is a link to ``..data/FILE``, and ``..data`` a link that is replaced."""
    for name, scope in (("1", "/a"), ("2", "/b")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "m.yaml").write_text(f"{HEAD}domains: {{d: {{scope: {scope}}}}}\n")
    (tmp_path / "..data").symlink_to("1")
    (tmp_path / "m.yaml").symlink_to("..data/m.yaml")
    used: list[str] = []
    follower = MappingFollower(
        tmp_path / "m.yaml",
        lambda new: used.append(new.domain("d").root.found.scope),
        lambda _: None,
    )
    (tmp_path / "..new").symlink_to("2")
    (tmp_path / "..new").replace(tmp_path / "..data")
    wait_for(lambda: used == ["/a", "/b"], "the new mapping", 10)
    follower.close()
    shutil.rmtree(tmp_path / "2")
    follower.look()
    assert used == ["/a", "/b"]


def test_a_wrong_mapping_is_a_problem_of_the_agent(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(f"{HEAD}domains: {{}}\n")
    with Agent.from_policies(EMPTY) as agent, Sidecar(agent, "127.0.0.1:0", rls_mapping=file):
        file.write_text("nothing")
        wait_for(lambda: "mapping" in agent.status.problems, "the problem", 10)
        file.write_text(f"{HEAD}domains: {{d: {{scope: /b}}}}\n")
        wait_for(lambda: "mapping" not in agent.status.problems, "its end", 10)


def test_a_file_is_followed_as_long_as_the_sidecar_runs(tmp_path: Path) -> None:
    def followers() -> list[threading.Thread]:
        return [each for each in threading.enumerate() if each.name == "ratectl-mapping"]

    file = tmp_path / "m.yaml"
    file.write_text(f"{HEAD}domains: {{}}\n")
    with Agent.from_policies(EMPTY) as agent:
        with Sidecar(agent, "127.0.0.1:0", rls_mapping=file):
            assert len(followers()) == 1
        assert not followers()
        with pytest.raises(UsageError, match="it has no port"):
            Sidecar(agent, "here", rls_mapping=file)
        assert not followers()


def test_a_sidecar_with_a_wrong_mapping_does_not_start(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    file.write_text("nothing")
    with Agent.from_policies(EMPTY) as agent, pytest.raises(MappingError, match="is not valid"):
        Sidecar(agent, "127.0.0.1:0", rls_mapping=file)
