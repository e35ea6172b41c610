"""All files for pipelines, checked by official schemas and by our rules."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ci_rules import (
    action_findings,
    all_of,
    gitlab_entry_findings,
    gitlab_findings,
    hooks_findings,
    manifest_findings,
    workflow_findings,
)
from ci_support import (
    ACTION,
    DOCKERFILE,
    ENTRY,
    HOOKS,
    IGNORED,
    JOBS,
    MANIFESTS,
    PACKAGED,
    ROOT,
    WORKFLOW,
)
from dockerfile_rules import copied, dockerfile_findings

from ratectl.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

RULES: dict[Path, Callable[[str], Iterable[str]]] = {
    WORKFLOW: workflow_findings,
    ACTION: action_findings,
    ENTRY: gitlab_entry_findings,
    JOBS: gitlab_findings,
    DOCKERFILE: dockerfile_findings,
    **dict.fromkeys(MANIFESTS, manifest_findings),
}
ARGO = MANIFESTS[0]

MUTANTS = [
    (WORKFLOW, "runs-on: ubuntu-latest", "run-on: ubuntu-latest", "schema: "),
    (WORKFLOW, "    timeout-minutes: 10\n", "", "schema: "),
    (WORKFLOW, "  pull_request:\n", "  pull_request_target:\n", "gives secrets to forks"),
    (WORKFLOW, "  contents: read\n\n", "  contents: write\n\n", "more than reading"),
    (WORKFLOW, "checkout@v4", "checkout@main", "actions/checkout@main is not pinned"),
    (WORKFLOW, "checkout@v4", "checkout", "actions/checkout is not pinned"),
    (WORKFLOW, "${{ secrets.RATECTL_STORE }}", "etcd://etcd/prod", "RATECTL_STORE is not from"),
    (WORKFLOW, "cancel-in-progress: false", "cancel-in-progress: true", "or be cut off"),
    (WORKFLOW, "group: ratectl-apply", "group: ${{ github.sha }}", "twice at a time"),
    (ACTION, "using: composite", "using: composit", "schema: "),
    (ACTION, "      shell: bash\n", "", "schema: "),
    (ACTION, "setup-python@v5", "setup-python@latest", "is not pinned"),
    (ACTION, 'diff "$POLICIES"', 'diff "${{ inputs.policies }}"', "code from outside"),
    (ACTION, 'diff "$POLICIES"', 'diff "$POLICIE"', "uses POLICIE, which is not in its env"),
    (ACTION, "ratectl diff", "ratectl drift", "no command drift"),
    (ACTION, "--junit", "--junit-xml", "ratectl test has no option --junit-xml"),
    (ACTION, "; done", "", "bash: "),
    (ACTION, "inputs.timeout", "inputs.seconds", "there is no input seconds"),
    (ACTION, "inputs.timeout", "inputs.reason", "input timeout is not used"),
    (ACTION, '    default: ""\n', "", "has no default"),
    (ENTRY, "- local:", "- locale:", "schema: "),
    (ENTRY, "workflow:", "workflows:", "branches and merge requests"),
    (ENTRY, "policies: policies", "policy: policies", "no input policy"),
    (JOBS, "script:", "scripts:", "schema: "),
    (JOBS, "max: 2", "max: 3", "schema: "),
    (JOBS, "default: python:3.13", "default: python", "python is not pinned"),
    (JOBS, "default: python:3.13", "default: python:latest", "python:latest is not pinned"),
    (JOBS, "    policies:\n", "    polices:\n", "is not declared, or not used"),
    (JOBS, "  interruptible: false\n", "", "or be cut off"),
    (JOBS, "exit_codes: [69, 75]", "exit_codes: [69]", "gives up where it lost a race"),
    (JOBS, "RATECTL_AUTHOR:", "RATECTL_STORE: x\n    RATECTL_AUTHOR:", "RATECTL_STORE is in the"),
    (JOBS, "      fi\n", "", "bash: "),
    (JOBS, "--detailed-exitcode", "--exitcode", "ratectl plan has no option --exitcode"),
    (DOCKERFILE, "python:3.13-trixie AS", "python AS", "DL3006"),
    (DOCKERFILE, "python:3.13-slim-trixie", "python:latest", "DL3007"),
    (DOCKERFILE, "python:3.13-slim-trixie", "python:3.13-trixie", "not slim"),
    (DOCKERFILE, "USER 10001:10001\n", "", "DL3002"),
    (DOCKERFILE, "USER 10001:10001", "USER root", "DL3002"),
    (DOCKERFILE, "USER 10001:10001", "USER 0:0", "DL3002"),
    (DOCKERFILE, "USER 10001:10001", "USER ratectl", "only of a number"),
    (DOCKERFILE, "COPY core core", "ADD https://example.org/core.tar.gz core", "DL3020"),
    (DOCKERFILE, "--no-cache-dir ", "", "DL3042"),
    (DOCKERFILE, "--no-install-recommends ", "", "DL3015"),
    (DOCKERFILE, "install -y", "install", "DL3014"),
    (DOCKERFILE, "git=1:2.47.*", "git", "DL3008"),
    (DOCKERFILE, "    && rm -rf /var/lib/apt/lists/* \\\n", "", "DL3009"),
    (DOCKERFILE, "RUN apt-get update \\\n    && ", "RUN ", "lists of packages may be old"),
    (DOCKERFILE, "--chown=root:root ", "", "--chown says"),
    (DOCKERFILE, "ENV PATH", "ENV ETCD_PASSWORD=hunter2 PATH", "a secret stays in the image"),
    (DOCKERFILE, 'ENTRYPOINT ["ratectl"]', "ENTRYPOINT ratectl", "DL3025"),
    (DOCKERFILE, 'ENTRYPOINT ["ratectl"]', 'ENTRYPOINT ["sh"]', "does not run ratectl"),
    (DOCKERFILE, "WORKDIR /home/ratectl", "WORKDIR ratectl", "DL3000"),
    (DOCKERFILE, "WORKDIR /home/ratectl", "COPY --chown=10001 cli .", "belongs to who runs"),
    (DOCKERFILE, "FROM python:3.13-slim-trixie", "# slim", "one stage"),
    (DOCKERFILE, "useradd", "sudo useradd", "DL3004"),
    (ARGO, "restartPolicy: Never", "restartPolicy: OnFailure", "podFailurePolicy wants"),
    (ARGO, "backoffLimit: 3", "backoffLimit: three", "schema: "),
    (ARGO, "backoffLimit", "backofLimit", "schema: "),
    (ARGO, "apiVersion: batch/v1", "apiVersion: batch/v1\nstatuses: {}", "schema: "),
    (ARGO, "runAsNonRoot: true", "runAsNonRoot: false", "runs as root"),
    (ARGO, "runAsUser: 10001", "runAsUser: 0", "runs as root"),
    (ARGO, "type: RuntimeDefault", "type: Unconfined", "any system call"),
    (ARGO, "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "write to its image"),
    (ARGO, "drop: [ALL]", "drop: [NET_RAW]", "has capabilities"),
    (ARGO, "allowPrivilegeEscalation: false", "privileged: true", "may gain privileges"),
    (ARGO, "ratectl:0.1.0.dev0", "ratectl", "is not pinned"),
    (ARGO, "name: policies, mountPath", "name: policy, mountPath", "which is not there"),
    (ARGO, "values: [1, 64, 65, 77]", "values: [1, 64, 65, 75, 77]", "tried again"),
    (ARGO, "[test, /policies]", "[tests, /policies]", "no command tests"),
    (ARGO, "--yes, --wait", "--yes, --wait-all", "ratectl apply has no option --wait-all"),
    (ARGO, "limits: {memory: 512Mi}", "limits: {cpu: 1}", "may take all memory"),
    (
        ARGO,
        "valueFrom:\n                secretKeyRef: {name: ratectl-store, key: url}",
        "value: etcd://etcd/prod",
        "RATECTL_STORE is not from a secret",
    ),
]


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_the_files_have_no_findings(path: Path) -> None:
    assert list(RULES[path](path.read_text())) == []


@pytest.mark.parametrize(
    ("path", "old", "new", "found"), MUTANTS, ids=[f"{m[0].name}-{m[2][:30]}" for m in MUTANTS]
)
def test_each_kind_of_damage_is_found(path: Path, old: str, new: str, found: str) -> None:
    text = path.read_text()
    assert old in text
    findings = list(RULES[path](text.replace(old, new)))
    assert any(found in each for each in findings), findings


HOOK_MUTANTS = [
    ("language: python", "language: pithon", "schema: "),
    ("entry: ratectl validate", "entry: ratectl check-policies", "no command check-policies"),
    ("entry: ratectl fmt", "entry: ratectl fmt --write", "ratectl fmt has no option --write"),
    ("entry: ratectl test", "entry: make test", "is not what this repository installs"),
    ("  pass_filenames: false\n", "", "is to read its folder, or the files"),
    (r"\.ya?ml$", r"\.(ya?ml$", "schema: "),
]


def test_the_hooks_have_no_findings() -> None:
    assert all_of(hooks_findings(HOOKS)) == []
    assert [each["id"] for each in yaml.safe_load(HOOKS.read_text())] == [
        "ratectl-validate",
        "ratectl-fmt",
        "ratectl-test",
    ]


@pytest.mark.parametrize(("old", "new", "found"), HOOK_MUTANTS)
def test_each_kind_of_damage_in_the_hooks_is_found(
    tmp_path: Path, old: str, new: str, found: str
) -> None:
    text = HOOKS.read_text()
    assert old in text
    (tmp_path / "hooks.yaml").write_text(text.replace(old, new))
    findings = all_of(hooks_findings(tmp_path / "hooks.yaml"))
    assert any(found in each for each in findings), findings


def test_init_writes_the_same_files_that_others_include() -> None:
    """The copies in the package are equal."""
    assert (PACKAGED / "github" / "action.yaml").read_bytes() == ACTION.read_bytes()
    assert (PACKAGED / "gitlab" / "jobs.yaml").read_bytes() == JOBS.read_bytes()


def test_all_files_install_this_version() -> None:
    for path in (ACTION, JOBS, *MANIFESTS, ROOT / "docs" / "pipelines.md"):
        named = re.findall(r"ratectl(?:==|:)(\d\S*)", path.read_text())
        assert set(named) == {__version__}, path


def test_both_kubernetes_jobs_run_the_same_commands(tmp_path: Path) -> None:
    """Argo CD's and Flux's jobs differ in annotations, and in the author for the history."""
    argo, flux = (yaml.safe_load(path.read_text()) for path in MANIFESTS)
    assert argo["metadata"].pop("annotations") == {
        "argocd.argoproj.io/hook": "PostSync",
        "argocd.argoproj.io/hook-delete-policy": "BeforeHookCreation",
    }
    assert flux["metadata"].pop("annotations") == {"kustomize.toolkit.fluxcd.io/force": "enabled"}
    for job, name in ((argo, "argo-cd"), (flux, "flux")):
        environment: list[Any] = job["spec"]["template"]["spec"]["containers"][0]["env"]
        assert environment.pop() == {"name": "RATECTL_AUTHOR", "value": name}
    assert argo == flux


def test_the_build_context_holds_only_what_the_image_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {"pyproject.toml", "setup.py", project["project"]["readme"]}
    needed |= set(project["project"]["license-files"])
    needed |= set(project["tool"]["setuptools"]["packages"]["find"]["where"])
    assert set(copied(DOCKERFILE.read_text())) == needed
    first, *rest = IGNORED.read_text().splitlines()
    assert first == "*"
    assert {line[1:] for line in rest if line.startswith("!")} == needed
