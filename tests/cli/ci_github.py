"""Subset of GitHub Actions that runs the shells of a workflow in order."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml
from ci_support import Done, Machine, evaluate

if TYPE_CHECKING:
    from pathlib import Path

_STRINGS = re.compile(r"('[^']*')")
_NAME = re.compile(r"\b[a-z_]+(?:\.[\w-]+)+\b")
_FIELD = re.compile(r"\$\{\{(.*?)\}\}")

GH = """\
#!{python}
# The part of GitHub's command line that comments: a list of comments in a file, real jq.
import json, pathlib, sys
import jq
here = pathlib.Path({store!r})
comments = json.loads(here.read_text()) if here.exists() else []
match sys.argv[1:]:
    case ["api", "--paginate", path, "--jq", program]:
        for found in jq.compile(program).input_value(comments).all():
            print(found)
    case ["api", "--silent", "--method", "POST", path, "--field", body] if "/comments/" not in path:
        comments.append({{"id": len(comments) + 1, "user": {{"login": "github-actions[bot]"}}}})
        comments[-1]["body"] = pathlib.Path(body.removeprefix("body=@")).read_text()
    case ["api", "--silent", "--method", "PATCH", path, "--field", body]:
        (found,) = [each for each in comments if path.endswith(f"/issues/comments/{{each['id']}}")]
        found["body"] = pathlib.Path(body.removeprefix("body=@")).read_text()
    case other:
        sys.exit(f"gh: {{other}}?")
here.write_text(json.dumps(comments))
"""


@dataclass
class Job:
    """Outcome of a job; ``code`` is that of the step that failed, or 0."""

    code: int = 0
    steps: list[tuple[str, Done]] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)

    @property
    def out(self) -> str:
        return "".join(done.out + done.err for _, done in self.steps)


class Runner:
    """Runs the files that init wrote into ``machine.place``."""

    def __init__(self, machine: Machine, secrets: dict[str, str]) -> None:
        self.machine = machine
        self.secrets = secrets
        self.comments = machine.tools / "comments.json"
        machine.tool("gh", GH.format(python=sys.executable, store=str(self.comments)))
        folder = machine.place / ".github"
        self.workflow = yaml.safe_load((folder / "workflows" / "ratectl.yaml").read_text())
        self.action = yaml.safe_load((folder / "actions/ratectl/action.yml").read_text())

    def run(self, github: dict[str, Any], **inputs: str) -> dict[str, Job]:
        """Run the jobs for an event; return their outcomes."""
        jobs: dict[str, Job] = {}
        github = {"repository": "acme/limits", "actor": "ada", "token": "t0ken", **github}
        for name, job in self.workflow["jobs"].items():
            context = {"github": github, "inputs": inputs, "secrets": self.secrets}
            needed = job.get("needs")
            ready = needed is None or (needed in jobs and jobs[needed].code == 0)
            if ready and _holds(job.get("if", "true"), context):
                jobs[name] = self._job(job, context)
        return jobs

    def _job(self, job: dict[str, Any], context: dict[str, Any]) -> Job:
        result = Job()
        environment = _filled(job.get("env", {}), context)
        for step in job["steps"]:
            if step["uses"].startswith("./"):
                self.use(_filled(step["with"], context), context, environment, result)
        return result

    def use(
        self,
        given: dict[str, str],
        context: dict[str, Any],
        environment: dict[str, str],
        result: Job,
    ) -> None:
        """The action, with the inputs given."""
        defaults = {
            name: _text(declared.get("default", ""), context)
            for name, declared in self.action["inputs"].items()
        }
        assert given.keys() <= defaults.keys()
        inside: dict[str, Any] = {**context, "inputs": {**defaults, **given}, "steps": {}}
        for number, step in enumerate(self.action["runs"]["steps"]):
            if result.code or "run" not in step or not _holds(step.get("if", "true"), inside):
                continue
            output = self.machine.tools / f"output-{number}"
            output.write_text("")
            variables = {
                **environment,
                **_filled(step.get("env", {}), inside),
                "GITHUB_OUTPUT": str(output),
                "GITHUB_STEP_SUMMARY": str(self.machine.tools / "summary.md"),
                "GITHUB_REPOSITORY": context["github"]["repository"],
            }
            done = self.machine.bash(step["run"], variables)
            result.steps.append((step["name"], done))
            result.code = done.code
            pairs = [line.partition("=")[::2] for line in output.read_text().splitlines()]
            inside["steps"][step.get("id", number)] = {"outputs": dict(pairs)}
        result.outputs = {
            name: _text(declared["value"], inside)
            for name, declared in self.action["outputs"].items()
        }

    @property
    def summary(self) -> Path:
        return self.machine.tools / "summary.md"


def _filled(values: dict[str, str], context: dict[str, Any]) -> dict[str, str]:
    return {name: _text(value, context) for name, value in values.items()}


def _text(value: str, context: dict[str, Any]) -> str:
    def fill(found: re.Match[str]) -> str:
        inner = _value(found[1], context)
        return "" if inner is None else str(inner)

    return _FIELD.sub(fill, value)


def _holds(condition: str, context: dict[str, Any]) -> bool:
    return bool(_value(condition.removeprefix("${{").removesuffix("}}"), context))


def _value(expression: str, context: dict[str, Any]) -> Any:
    pieces = _STRINGS.split(expression.strip())
    for at in range(0, len(pieces), 2):
        python = pieces[at].replace("&&", " and ").replace("||", " or ").replace("true", "True")
        python = re.sub(r"!(?!=)", " not ", python).replace("cancelled()", "False")
        pieces[at] = _NAME.sub(lambda found: f"look_up({found[0]!r})", python)

    def look_up(path: str) -> Any:
        value: Any = context
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    return evaluate("".join(pieces), look_up)
