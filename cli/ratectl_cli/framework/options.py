"""Options of every command, accepted before and after its name."""

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
"""Seconds: some thirty years. What is much longer no timer of the system takes."""


class Output(StrEnum):
    """Forms of a result."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"


class Color(StrEnum):
    """When to use colour."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Options:
    """What the shared options say; None where nothing was said."""

    store: str | None = None
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


def _declare(
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="URL",
            help="Store: sqlite:///PATH or etcd://HOST:PORT/ENVIRONMENT.  [env: RATECTL_STORE; "
            "default: an SQLite file in the state directory]",
        ),
    ] = None,
    output: Annotated[
        Output | None,
        typer.Option("-o", "--output", metavar="text|json|yaml", help="Form of the result."),
    ] = None,
    color: Annotated[
        Color | None,
        typer.Option("--color", metavar="auto|always|never", help="When to use colour."),
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print results only.")] = False,
    verbose: Annotated[
        int,
        typer.Option(
            "-v", "--verbose", count=True, show_default=False, help="Say more; -vv: log everything."
        ),
    ] = 0,
    no_input: Annotated[bool, typer.Option("--no-input", help="Never ask; fail instead.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            min=0.1,
            callback=_for_a_timer,
            help="Give up (exit 124) when the command takes longer.",
        ),
    ] = None,
) -> None:
    """Never called: Typer reads the parameters."""


def shared_params() -> "list[typer.core.TyperOption]":
    """The shared options, as parameters for a command."""
    declaring = typer.Typer(add_completion=False)
    declaring.command()(_declare)
    found = typer.main.get_command(declaring).params
    return [param for param in found if isinstance(param, typer.core.TyperOption)]


def take(ctx: typer.Context, names: "Sequence[str]") -> Options:
    """Move the shared options out of the context's parameters; later ones win."""
    said: Options = ctx.meta.get(_KEY, Options())
    changes: dict[str, Any] = {}
    for name in names:
        value = ctx.params.pop(name, None)
        if value is not None and value is not False and value != 0:
            changes[name] = str(value) if isinstance(value, StrEnum) else value
    said = ctx.meta[_KEY] = replace(said, **changes)
    return said


def guess_output(arguments: "Sequence[str]") -> str:
    """The output that was asked for, in arguments that do not parse."""
    return _guess(arguments, "-o", "--output", Output, "text")


def guess_color(arguments: "Sequence[str]") -> str:
    """When colour was asked for, in arguments that do not parse."""
    return _guess(arguments, None, "--color", Color, "auto")


def _guess(
    arguments: "Sequence[str]", short: str | None, long: str, values: type[StrEnum], found: str
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
        found = value if value in list(values) else found
    return found
