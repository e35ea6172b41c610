"""Options of every command, accepted before and after its name."""

import contextlib
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core
import typer.main

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "Color",
    "Options",
    "Output",
    "guess_color",
    "guess_output",
    "shared_params",
    "take",
]

_KEY = "ratectl.options"
_LONGEST = 1e9
"""Longest --timeout, in seconds: about 30 years. Timers of the system take no much longer one."""


class Output(StrEnum):
    """Formats of a result."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"


class Color(StrEnum):
    """Choices for colour."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Options:
    """Values of the shared options; None for options that were not given."""

    store: str | None = None
    env: str | None = None
    output: str = "text"
    color: str = "auto"
    quiet: bool = False
    verbose: int = 0
    no_input: bool = False
    timeout: float | None = None


def _for_a_timer(seconds: float | None) -> float | None:
    if seconds is not None and seconds > _LONGEST:
        raise typer.BadParameter(f"it is longer than {_LONGEST:.0f} seconds: leave it out")
    return seconds


def _environments(incomplete: str) -> list[str]:
    """Return the names for shell completion; none if `ratectl.yaml` cannot be used."""
    from ratectl.environments import find_project
    from ratectl.errors import RatectlError

    with contextlib.suppress(RatectlError):
        project = find_project()
        return (
            [name for name in project.environments if name.startswith(incomplete)]
            if project
            else []
        )
    return []


def _declare(
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="URL",
            help="Store to use: see `ratectl help stores`.",
        ),
    ] = None,
    env: Annotated[
        str | None,
        typer.Option(
            "-e",
            "--env",
            metavar="NAME",
            help="Environment of ratectl.yaml: `ratectl env`.",
            autocompletion=_environments,
        ),
    ] = None,
    output: Annotated[
        Output | None,
        typer.Option("-o", "--output", metavar="text|json|yaml", help="Format of the result."),
    ] = None,
    color: Annotated[
        Color | None,
        typer.Option("--color", metavar="auto|always|never", help="When to use colour."),
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print results only.")] = False,
    verbose: Annotated[
        int,
        typer.Option(
            "-v",
            "--verbose",
            count=True,
            show_default=False,
            help="Print more; -vv also prints the log.",
        ),
    ] = 0,
    no_input: Annotated[
        bool, typer.Option("--no-input", help="Never ask a question; fail instead.")
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            min=0.1,
            callback=_for_a_timer,
            help="Stop after this time (exit code 124).",
        ),
    ] = None,
) -> None:
    """Declare the shared options for Typer. Never called."""


def shared_params() -> "list[typer.core.TyperOption]":
    """Return the shared options as parameters for a command."""
    declaring = typer.Typer(add_completion=False)
    declaring.command()(_declare)
    params = typer.main.get_command(declaring).params
    return [param for param in params if isinstance(param, typer.core.TyperOption)]


def take(ctx: typer.Context, names: "Sequence[str]") -> Options:
    """Move the shared options out of the context's parameters; later ones win."""
    options: Options = ctx.meta.get(_KEY, Options())
    changes: dict[str, Any] = {}
    for name in names:
        value = ctx.params.pop(name, None)
        if value is not None and value is not False and value != 0:
            changes[name] = str(value) if isinstance(value, StrEnum) else value
    options = ctx.meta[_KEY] = replace(options, **changes)
    return options


def guess_output(arguments: "Sequence[str]") -> str:
    """Return the output format in arguments that cannot be parsed."""
    return _guess(arguments, "-o", "--output", Output, "text")


def guess_color(arguments: "Sequence[str]") -> str:
    """Return the choice of colour in arguments that cannot be parsed."""
    return _guess(arguments, None, "--color", Color, "auto")


def _guess(
    arguments: "Sequence[str]", short: str | None, long: str, values: type[StrEnum], guess: str
) -> str:
    for at, word in enumerate(arguments):
        value = ""
        if word == "--":
            break
        if word in (short, long):
            value = arguments[at + 1] if at + 1 < len(arguments) else ""
        elif word.startswith(f"{long}="):
            value = word.removeprefix(f"{long}=")
        elif short and word.startswith(short):
            value = word.removeprefix(short)
        guess = value if value in list(values) else guess
    return guess
