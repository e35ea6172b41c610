"""Files for pipelines, and a machine that runs their shells."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli_support import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cli_support import Cli

ROOT = Path(__file__).parents[2]
PACKAGED = ROOT / "cli" / "ratectl_cli" / "examples" / "ci"
WORKFLOW = PACKAGED / "github" / "workflow.yaml"
ENTRY = PACKAGED / "gitlab" / "pipeline.yaml"
ACTION = ROOT / ".github" / "actions" / "ratectl" / "action.yml"
JOBS = ROOT / ".gitlab" / "ratectl.yml"
HOOKS = ROOT / ".pre-commit-hooks.yaml"
DOCKERFILE = ROOT / ".docker" / "Dockerfile"
IGNORED = ROOT / ".docker" / "Dockerfile.dockerignore"
MANIFESTS = sorted((ROOT / "docs" / "examples" / "kubernetes").glob("*.yaml"))

_COMMAND = re.compile(
    r"(?:^|[;&|]|\bdo|\bthen|\))\s*ratectl ((?:\"[^\"]*\"|[^|;&>\n\"])*)", re.MULTILINE
)
_RECORDING = """\
#!/bin/sh
printf '%s\\n' "$0 $*" >> {log}
"""


def commands_in(script: str) -> list[list[str]]:
    """Return the ratectl commands of a shell script as words, without expanded variables."""
    joined = re.sub(r"\\\n\s*", " ", script)
    plain = re.sub(r"\$\{BASE:\+[^}]*\}", "--base $BASE", joined)
    return [shlex.split(found) for found in _COMMAND.findall(plain)]


def options_in(words: Iterable[str]) -> set[str]:
    """Return the options among the words of a command."""
    return {word.partition("=")[0] for word in words if word.startswith("-")}


def git(*words: str, at: Path | None = None) -> str:
    """Run git with a user name."""
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    done = subprocess.run(
        ["git", *who, *words], cwd=at, check=True, capture_output=True, text=True, timeout=30
    )
    return done.stdout.strip()


def change(place: Path, old: str, new: str) -> None:
    """Change the policies, and their tests."""
    paths = [path for path in (place / "policies").rglob("*.yaml") if old in path.read_text()]
    assert paths
    for path in paths:
        path.write_text(path.read_text().replace(old, new))


@dataclass
class Done:
    """Result of a script."""

    code: int
    out: str
    err: str


@dataclass
class Machine:
    """Bash, the real ratectl, and a pip that installs nothing."""

    place: Path
    tools: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tools.mkdir(parents=True)
        self._log = self.tools / "calls"
        self._log.touch()
        recording = _RECORDING.format(log=shlex.quote(str(self._log)))
        self.tool("ratectl", f'{recording}exec {shlex.join(PROGRAM)} "$@"\n')
        self.tool("pip", recording)
        self.tool("python", f'{recording}[ "$1 $2" = "-m pip" ]\n')

    def tool(self, name: str, text: str) -> None:
        """Add a program to this machine."""
        path = self.tools / name
        path.write_text(text)
        path.chmod(0o755)

    def bash(self, script: str, variables: Mapping[str, str], *options: str) -> Done:
        """Run a script as pipelines do: an error ends it."""
        environment = {
            "PATH": f"{self.tools}{os.pathsep}{os.environ['PATH']}",
            "HOME": os.environ["HOME"],
            "GIT_CEILING_DIRECTORIES": os.environ["GIT_CEILING_DIRECTORIES"],
            **self.environment,
            **variables,
        }
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", *options, "-c", script],
            cwd=self.place,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    @property
    def calls(self) -> list[str]:
        """The programs that were run, each as a line."""
        prefix = f"{self.tools}{os.sep}"
        return [line.removeprefix(prefix) for line in self._log.read_text().splitlines()]

    def ran(self, command: list[str]) -> bool:
        """Return True if ratectl was called with these words, and possibly others."""
        options = options_in(command)
        return any(
            called[:2] == ["ratectl", command[0]] and options <= options_in(called[2:])
            for called in map(str.split, self.calls)
        )


def missing(machine: Machine, scripts: Iterable[str]) -> list[list[str]]:
    """The commands in some scripts that were not run on a machine."""
    found = [command for script in scripts for command in commands_in(script)]
    assert found
    return [command for command in found if not machine.ran(command)]


def evaluate(python: str, look_up: Any) -> Any:
    """Return the value of a pipeline's expression; names and operators are Python's."""
    return eval(python, {"__builtins__": {}}, {"look_up": look_up})


def with_pipeline(cli: Cli, place: Path, tools: Path, kind: str) -> Machine:
    """Return a machine in a repository whose branch ``limits`` adds policies and a pipeline."""
    git("init", "-q", "-b", "main")
    git("commit", "-q", "--allow-empty", "-m", "nothing yet")
    git("switch", "-q", "-c", "limits")
    assert cli("init", "--ci", kind).code == 0
    git("add", ".")
    git("commit", "-q", "-m", "limits: a start")
    return Machine(place, tools)
