"""Rules for the files of pipelines, checked without running them; findings are messages."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
from functools import cache
from typing import TYPE_CHECKING, Any

import jsonschema
import kubernetes_validate
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema
from ci_gitlab import jobs_of, script_of
from ci_support import ROOT, commands_in, options_in
from pre_commit.clientlib import InvalidManifestError, load_manifest

from ratectl_cli.app import COMMANDS, run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

_KUBERNETES = "1.31"
_PINNED = re.compile(r"\./\S+|[\w.-]+/[\w./-]+@(v\d+(\.\d+)*|[0-9a-f]{40})")
_SECRET_NAME = re.compile(r"STORE|PASSWORD|TOKEN|SECRET|_USER$")
_SECRET_VALUE = re.compile(r"\$\{\{ (secrets\.[A-Z_]+|github\.token) \}\}")


# All ---------------------------------------------------------------------------------------------


def schema_findings(name: str, document: Any) -> Iterator[str]:
    """Return findings of the official JSON schema."""
    for error in _validator(name).iter_errors(document):
        yield f"schema: {error.json_path}: {error.message}"


def script_findings(script: str) -> Iterator[str]:
    """Return findings of bash about syntax, and of ratectl about commands."""
    done = subprocess.run(
        ["bash", "-n"], input=script, capture_output=True, text=True, timeout=10, check=False
    )
    if done.returncode:
        yield f"bash: {done.stderr}"
        return
    for words in commands_in(script):
        yield from command_findings(words)


def command_findings(words: Sequence[str]) -> Iterator[str]:
    """Return unknown commands, and unknown options of commands."""
    if words[0] not in COMMANDS:
        yield f"ratectl has no command {words[0]}"
        return
    for option in sorted(options_in(words[1:]) - _options(words[0])):
        if option != "--allow-$guard":
            yield f"ratectl {words[0]} has no option {option}"


def image_findings(image: str) -> Iterator[str]:
    """Return images without a fixed tag."""
    tag = image.rpartition("/")[2].partition(":")[2]
    if tag in ("", "latest"):
        yield f"image {image} is not pinned"


@cache
def _validator(name: str) -> jsonschema.protocols.Validator:
    schema = get_builtin_schema(name)
    return jsonschema.validators.validator_for(schema)(schema)


@cache
def _options(command: str) -> frozenset[str]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert run([command, "--help"]) == 0
    declared = out.getvalue().partition("\nOptions:\n")[2]
    assert declared
    listed = re.findall(r"^  (-.*?)(?:  |$)", declared, re.MULTILINE)
    return frozenset(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", " ".join(listed)))


# GitHub ------------------------------------------------------------------------------------------


def workflow_findings(text: str) -> Iterator[str]:
    """Return findings about a GitHub workflow."""
    document = yaml.safe_load(text)
    yield from schema_findings("github-workflows", _as_github_reads(document))
    yield from schema_findings("github-workflows-require-timeout", _as_github_reads(document))
    triggers = document.get(True, {})
    if "pull_request_target" in triggers:
        yield "pull_request_target gives secrets to forks"
    if document.get("permissions") != {"contents": "read"}:
        yield "permissions are more than reading"
    for name, job in document["jobs"].items():
        yield from _secret_findings(job.get("env", {}))
        for step in job["steps"]:
            yield from _step_findings(step)
            if step.get("with", {}).get("command") == "apply" and job.get("concurrency") != {
                "group": "ratectl-apply",
                "cancel-in-progress": False,
            }:
                yield f"{name} may run twice at a time, or be cut off"


def action_findings(text: str) -> Iterator[str]:
    """Return findings about a composite action."""
    document = yaml.safe_load(text)
    yield from schema_findings("github-actions", document)
    for name, declared in document["inputs"].items():
        used = re.search(rf"inputs\.{name}\b", str(document["runs"]))
        if not used:
            yield f"input {name} is not used"
        if not declared.get("required") and "default" not in declared:
            yield f"input {name} has no default"
    for step in document["runs"]["steps"]:
        yield from _step_findings(step)
        for name in re.findall(r"inputs\.([\w-]+)", str(step)):
            if name not in document["inputs"]:
                yield f"there is no input {name}"


def _step_findings(step: dict[str, Any]) -> Iterator[str]:
    if "uses" in step and not _PINNED.fullmatch(step["uses"]):
        yield f"{step['uses']} is not pinned"
    yield from _secret_findings(step.get("env", {}))
    script = step.get("run", "")
    if "${{" in script:
        yield "an expression in a script is code from outside: pass it by env"
    yield from script_findings(script)
    for name in re.findall(r"\$\{?([A-Z]+)\b", script):
        if name not in step.get("env", {}):
            yield f"the script uses {name}, which is not in its env"


def _secret_findings(environment: dict[str, str]) -> Iterator[str]:
    for name, value in environment.items():
        if _SECRET_NAME.search(name) and not _SECRET_VALUE.fullmatch(value):
            yield f"{name} is not from a secret"


def _as_github_reads(document: dict[Any, Any]) -> dict[str, Any]:
    """YAML 1.2 knows no `on` for true."""
    return {"on" if key is True else key: value for key, value in document.items()}


# GitLab ------------------------------------------------------------------------------------------


def gitlab_entry_findings(text: str) -> Iterator[str]:
    """Return findings about the file that GitLab reads first."""
    document = yaml.safe_load(text)
    found = list(schema_findings("gitlab-ci", document))
    if found:
        yield from found
        return
    if "workflow" not in document:
        yield "branches and merge requests run the same jobs twice"
    for included in document["include"]:
        head = (ROOT / included["local"]).read_text().partition("\n---\n")[0]
        for name in included["inputs"].keys() - yaml.safe_load(head)["spec"]["inputs"].keys():
            yield f"there is no input {name} in {included['local']}"


def gitlab_findings(text: str) -> Iterator[str]:
    """Return findings about a file of jobs with inputs."""
    head, _, body = text.partition("\n---\n")
    declared = yaml.safe_load(head)["spec"]["inputs"]
    found = [
        *schema_findings("gitlab-ci", yaml.safe_load(head)),
        *schema_findings("gitlab-ci", yaml.safe_load(body)),
    ]
    for name in set(re.findall(r"\$\[\[ inputs\.([\w-]+) \]\]", body)) ^ declared.keys():
        found.append(f"input {name} is not declared, or not used")
    if found:
        yield from found
        return
    for name, job in jobs_of(text, {}).items():
        yield from image_findings(job["image"])
        yield from script_findings(script_of(job))
        for variable, value in job["variables"].items():
            if _SECRET_NAME.search(variable):
                yield f"{variable} is in the file: {value}"
        if name == "ratectl:apply":
            if "resource_group" not in job or job.get("interruptible") is not False:
                yield f"{name} may run twice at a time, or be cut off"
            if 75 not in job.get("retry", {}).get("exit_codes", ()):
                yield f"{name} gives up where it lost a race"


# pre-commit --------------------------------------------------------------------------------------


def hooks_findings(path: Path) -> Iterator[str]:
    """Return findings about pre-commit's hooks."""
    try:
        hooks = load_manifest(str(path))
    except InvalidManifestError as error:
        yield f"schema: {error}"
        return
    for hook in hooks:
        program, *words = hook["entry"].split()
        if program != "ratectl" or hook["language"] != "python":
            yield f"{hook['id']} is not what this repository installs"
        yield from command_findings([*words, *hook["args"]])
        if hook["pass_filenames"] == bool(hook["args"]):
            yield f"{hook['id']} is to read its folder, or the files that it is given"


# Kubernetes --------------------------------------------------------------------------------------


def manifest_findings(text: str) -> Iterator[str]:
    """Return findings about a Kubernetes Job: API schema, and restricted pod security standard."""
    job = yaml.safe_load(text)
    try:
        kubernetes_validate.validate(job, _KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"schema: {error.json_path}: {error.message}"
        return
    pod = job["spec"]["template"]["spec"]
    if pod["restartPolicy"] != "Never":
        yield "podFailurePolicy wants restartPolicy: Never"
    final = job["spec"]["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"]
    if set(final) & {69, 75, 124}:
        yield "what may go better the next time is tried again"
    context = pod["securityContext"]
    if not (context.get("runAsNonRoot") and context.get("runAsUser", 0) > 0):
        yield "it runs as root"
    if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "any system call is allowed"
    volumes = {volume["name"] for volume in pod["volumes"]}
    for container in (*pod["initContainers"], *pod["containers"]):
        yield from _container_findings(container, volumes)


def _container_findings(container: dict[str, Any], volumes: set[str]) -> Iterator[str]:
    name = container["name"]
    yield from image_findings(container["image"])
    yield from command_findings(container["args"])
    context = container["securityContext"]
    if context.get("allowPrivilegeEscalation") is not False:
        yield f"{name} may gain privileges"
    if not context.get("readOnlyRootFilesystem"):
        yield f"{name} may write to its image"
    if context.get("capabilities") != {"drop": ["ALL"]}:
        yield f"{name} has capabilities"
    if "memory" not in container["resources"]["limits"]:
        yield f"{name} may take all memory"
    for mount in container["volumeMounts"]:
        if mount["name"] not in volumes or not mount.get("readOnly"):
            yield f"{name} mounts {mount['name']}, which is not there or not for reading only"
    for variable in container.get("env", ()):
        if _SECRET_NAME.search(variable["name"]) and "secretKeyRef" not in variable.get(
            "valueFrom", {}
        ):
            yield f"{variable['name']} is not from a secret"


def all_of(*found: Iterable[str]) -> list[str]:
    """Return the findings of several checks in one list."""
    return [each for findings in found for each in findings]
