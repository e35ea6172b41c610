"""Decide which store a command uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ratectl.environments.target import Target
from ratectl.errors import UsageError
from ratectl.runtime.closest import closest
from ratectl.stores.registry import in_one_process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ratectl.environments.project import Declared, Project

__all__ = ["Choice", "Target", "choose"]


@dataclass(frozen=True, slots=True)
class Choice:
    """Options and variables of the process's environment that name the store."""

    environment: str | None = None
    """Value of ``-e``."""
    store: str | None = None
    """Value of ``--store``."""
    environment_variable: str | None = None
    store_variable: str | None = None

    @classmethod
    def of(cls, environment: str | None, store: str | None, environ: Mapping[str, str]) -> Choice:
        """Return the choice of two options and the process's environment."""
        return cls(environment, store, environ.get("RATECTL_ENV"), environ.get("RATECTL_STORE"))

    @property
    def named_store(self) -> str | None:
        """URL of the store that ``--store`` names; None without the option.

        :raises UsageError: it is empty, or the store lives in one process only.
        """
        return _store("--store", self.store, "leave it out")

    @property
    def named_environment(self) -> tuple[str, str] | None:
        """Option or variable that chooses an environment, and the name; None if none does.

        :raises UsageError: an option or variable is empty, or two of them contradict each other.
        """
        _one("-e", self.environment, "--store", self.store)
        if self.environment is None and self.store is None:
            _one("RATECTL_ENV", self.environment_variable, "RATECTL_STORE", self.store_variable)
        if self.environment is not None:
            return "-e", _name("-e", self.environment, "leave it out")
        if self.store is None and self.environment_variable is not None:
            return "RATECTL_ENV", _name("RATECTL_ENV", self.environment_variable, "unset it")
        return None


def choose(
    choice: Choice, project: Callable[[], Project | None], default: Callable[[], Path]
) -> Target:
    """Return the store to use.

    An option counts more than a variable, and a variable more than the file. ``project`` is called
    if the store depends on `ratectl.yaml`; ``default`` returns the SQLite file to use if nothing
    names a store.

    :raises UsageError: options or variables are wrong, or no environment is chosen.
    """
    named = choice.named_environment
    if named is not None:
        source, name = named
        return _target(_declared(project(), source, name), source)
    if choice.store is not None:
        return Target(choice.named_store or "", chosen_by="--store")
    url = _store("RATECTL_STORE", choice.store_variable, "unset it")
    if url is not None:
        return Target(url, chosen_by="RATECTL_STORE")
    settings = project()
    if settings is None or not settings.environments:
        return Target.file(default())
    return _by_file(settings)


def _by_file(project: Project) -> Target:
    names = list(project.environments)
    if project.default is not None:
        return _target(project.environments[project.default], f"default of {project.file}")
    if len(names) == 1:
        return _target(project.environments[names[0]], f"the only environment of {project.file}")
    raise UsageError(
        f"{project.file} declares {len(names)} environments ({', '.join(names)}), and none is "
        "chosen: add -e NAME, set RATECTL_ENV, or add default: NAME to the file"
    )


def _target(declared: Declared, source: str) -> Target:
    return Target(declared.store, declared.name, declared.protection, source)


def _declared(project: Project | None, source: str, name: str) -> Declared:
    variable = "" if source == "-e" else f"{source}: "
    if project is None:
        raise UsageError(
            f"{variable}there is no ratectl.yaml here that declares an environment {name!r}: "
            "change to the repository, or name the store with --store"
        )
    known = list(project.environments)
    if name in known:
        return project.environments[name]
    meant = closest(name, known)
    first = f"; did you mean {meant}?" if meant else ""
    raise UsageError(
        f"{variable}{project.file} declares no environment {name!r}, but "
        f"{', '.join(known) or 'none'}{first}"
    )


def _one(option: str, value: str | None, other: str, second: str | None) -> None:
    if value is not None and second is not None:
        raise UsageError(f"{option} and {other} both name a store: give one of them")


def _name(source: str, value: str, otherwise: str) -> str:
    if value.strip():
        return value
    raise UsageError(f"{source} is empty: name an environment, like production, or {otherwise}")


def _store(source: str, value: str | None, otherwise: str) -> str | None:
    """Return the URL; None if there is none.

    :raises UsageError: it is empty, because a pipeline whose secret is not set would publish to a
        file that nobody reads; or the store would end with this command.
    """
    if value is None:
        return None
    if not value.strip():
        raise UsageError(
            f"{source} is empty: name a store, like etcd://host:2379/prod, or {otherwise}"
        )
    if in_one_process(value):
        raise UsageError(
            f"{source}: {value.partition('://')[0]}:// is a store inside one process, for tests: "
            "it would end with this command, and no other process sees it. Name a file, like "
            "sqlite:///rates.db, or a server, like etcd://host:2379/prod"
        )
    return value
