"""Subset of GitLab CI that runs the shells of jobs: inputs, extends, rules, variables."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml
from ci_support import Done, Machine, evaluate

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_INPUT = re.compile(r"\$\[\[ inputs\.([\w-]+) \]\]")
_VARIABLE = re.compile(r"\$(\w+)")


def jobs_of(text: str, given: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the complete jobs of an included file."""
    head, _, body = text.partition("\n---\n")
    declared = yaml.safe_load(head)["spec"]["inputs"]
    assert given.keys() <= declared.keys()
    values = {name: given.get(name, each["default"]) for name, each in declared.items()}
    written = yaml.safe_load(_INPUT.sub(lambda found: values[found[1]], body))
    return {name: _extended(job, written) for name, job in written.items() if name[0] != "."}


def _extended(job: dict[str, Any], jobs: dict[str, Any]) -> dict[str, Any]:
    if "extends" not in job:
        return job
    below = _extended(jobs[job["extends"]], jobs)
    merged = {**below, **{name: value for name, value in job.items() if name != "extends"}}
    merged["variables"] = {**below.get("variables", {}), **job.get("variables", {})}
    return merged


def script_of(job: Mapping[str, Any]) -> str:
    """Return the shell script of a job."""
    return "\n".join([*job.get("before_script", ()), *job["script"]])


def holds(rules: list[dict[str, str]], variables: Mapping[str, str]) -> bool:
    """Return True if one of the rules is true."""

    def look_up(name: str) -> str | None:
        return variables.get(name)

    for rule in rules:
        python = _VARIABLE.sub(lambda found: f"look_up({found[1]!r})", rule["if"])
        if evaluate(python.replace("&&", " and ").replace("||", " or "), look_up):
            return True
    return False


class Runner:
    """Runs the files that init wrote into a repository."""

    def __init__(self, machine: Machine, settings: Mapping[str, str]) -> None:
        self.machine = machine
        self.settings = settings
        place: Path = machine.place
        self.entry = yaml.safe_load((place / ".gitlab-ci.yml").read_text())
        (included,) = self.entry["include"]
        text = (place / included["local"]).read_text()
        self.jobs = jobs_of(text, included["inputs"])

    def run(self, **variables: str) -> dict[str, Done]:
        """Run the jobs of a pipeline with these variables, until one fails."""
        known = {"CI_DEFAULT_BRANCH": "main", "CI_PROJECT_PATH": "acme/limits", **variables}
        if not holds(self.entry["workflow"]["rules"], known):
            return {}
        results: dict[str, Done] = {}
        for name, job in self.jobs.items():
            if not holds(job["rules"], known) or any(done.code for done in results.values()):
                continue
            own = {
                key: _VARIABLE.sub(lambda found: known.get(found[1], ""), value)
                for key, value in job["variables"].items()
            }
            # What a pipeline is given wins over what its file says.
            results[name] = self.machine.bash(script_of(job), {**own, **self.settings, **known})
        return results
