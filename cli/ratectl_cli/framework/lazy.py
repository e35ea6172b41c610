"""Commands that are imported only when they are used, so that `--help` stays fast."""

import importlib
import importlib.util
import inspect
import sys
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import typer
import typer.core
import typer.main

from ratectl_cli.errors import USAGE, Interrupted
from ratectl_cli.framework.logs import logged
from ratectl_cli.framework.options import shared_params, take
from ratectl_cli.framework.session import Session, begin

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Command", "CommandFailed", "Entry", "LazyGroup", "build"]

_BLOCKS = ("Examples:", "Exit codes:")


class Entry(NamedTuple):
    """Location of a command, and its line in `--help`."""

    section: str
    target: str
    """``module:function`` for a command; ``module`` for a group, with a table ``COMMANDS`` and the
    name of its default command, ``DEFAULT``."""
    summary: str
    below: "Mapping[str, Entry]" = MappingProxyType({})
    """Commands below a command; its first argument is never one of their names."""
    refuses: "tuple[str, ...]" = ()
    """Names of shared options that the command refuses: its `--help` leaves them out."""

    @property
    def exists(self) -> bool:
        """True if the module is installed."""
        try:
            return importlib.util.find_spec(self.target.partition(":")[0]) is not None
        except ModuleNotFoundError:
            return False


class CommandFailed(Exception):
    """Raised when a command failed after its options were known."""

    def __init__(self, session: Session) -> None:
        self.session = session
        super().__init__()


class Command(typer.core.TyperCommand):
    """A command that also takes the shared options, and runs in a session."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.shared = shared_params()
        self.params.extend(self.shared)
        self.below: Mapping[str, Entry] = {}

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  as of a group
        """Return the names of the commands below this one."""
        return list(self.below)

    def get_command(self, ctx: Any, name: str) -> Any:  # noqa: ARG002  as of a group
        """Import a command below this one, and return it."""
        return build(name, self.below[name]) if name in self.below else None

    def invoke(self, ctx: Any) -> Any:
        """Run the command within its time limit."""
        session = begin(ctx, take(ctx, [param.name for param in self.shared]))
        try:
            with logged(session.options):
                return session.deadline.within(partial(self._invoke, session, ctx))
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt as interrupt:
            raise CommandFailed(session) from Interrupted.by(interrupt)
        except Exception as error:
            raise CommandFailed(session) from error

    def _invoke(self, session: Session, ctx: Any) -> Any:
        if session.options.env is not None:
            _ = session.target  # a misspelt name is an error also where no store is used
        return super().invoke(ctx)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write commands below, the command's own options, then the shared ones."""
        if self.below:
            _write_commands(self.below, list(self.below), formatter)
        _write_options(self, ctx, formatter, self.shared)


class LazyGroup(typer.core.TyperGroup):
    """Commands from a table; ``default`` runs if none is named."""

    def __init__(
        self,
        *args: Any,
        table: "Mapping[str, Entry] | None" = None,
        default: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.table: Mapping[str, Entry] = table or {}
        self.default = default
        # Typer searches these names for corrections of a misspelt one.
        self.commands = dict.fromkeys(self.table)  # type: ignore[assignment]
        self.shared = shared_params()
        self.params.extend(self.shared)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  Typer's signature
        """Return the names of all installed commands."""
        return [name for name, entry in self.table.items() if entry.exists]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """Import a command and return it."""
        entry = self.table.get(cmd_name)
        return build(cmd_name, entry) if entry and entry.exists else None

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Print help if no command is named, and exit with an error code.

        A script that lost the name of its command must fail.
        """
        if self.default is not None and _is_default(args, self.table):
            args = [self.default, *args]
        if not args and not ctx.resilient_parsing:
            sys.stderr.write(ctx.get_help() + "\n")
            raise typer.Exit(USAGE)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the name, the command and the rest of a command line."""
        name, command, rest = super().resolve_command(ctx, args)
        below = command.get_command(ctx, rest[0]) if rest and isinstance(command, Command) else None
        return (name, command, rest) if below is None else (f"{name} {rest[0]}", below, rest[1:])

    def invoke(self, ctx: Any) -> Any:
        """Note the shared options before the command's name."""
        take(ctx, [param.name for param in self.shared])
        return super().invoke(ctx)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write commands first, because users look for them."""
        self.format_commands(ctx, formatter)
        _write_options(self, ctx, formatter, self.shared)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write commands by section, without importing them."""
        _write_commands(self.table, self.list_commands(ctx), formatter)


def _is_default(args: list[str], table: "Mapping[str, Entry]") -> bool:
    """Return True if the arguments name no command and do not ask for help.

    A scope, which begins with ``/``, is an argument of the default command.
    """
    return not (args and not args[0].startswith(("-", "/"))) and not any(
        word in table or word in ("-h", "--help") for word in args
    )


def build(name: str, entry: Entry) -> Any:
    """Return the command, or group of commands, of an entry."""
    module_name, _, function_name = entry.target.partition(":")
    module = importlib.import_module(module_name)
    if not function_name:
        return LazyGroup(
            name=name,
            table=module.COMMANDS,
            default=getattr(module, "DEFAULT", None),
            help=entry.summary,
            rich_markup_mode=None,
        )
    function: Callable[..., Any] = getattr(module, function_name)
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name, cls=Command, help=help_text(function.__doc__ or ""))(function)
    command: Any = typer.main.get_command(app)
    command.below = entry.below
    for param in command.shared:
        param.hidden = param.name in entry.refuses
    return command


def help_text(docstring: str) -> str:
    """Return the docstring with examples and exit codes marked as not to be wrapped."""
    lines = inspect.cleandoc(docstring).splitlines()
    return "\n".join(f"\b\n{line}" if line in _BLOCKS else line for line in lines)


def _write_commands(table: "Mapping[str, Entry]", names: list[str], formatter: Any) -> None:
    width = max(map(len, names), default=0)
    for section in dict.fromkeys(table[name].section for name in names):
        with formatter.section(section):
            formatter.write_dl(
                [
                    (name.ljust(width), table[name].summary)
                    for name in names
                    if table[name].section == section
                ]
            )


def _write_options(command: Any, ctx: Any, formatter: Any, shared: list[Any]) -> None:
    arguments: list[tuple[str, str]] = []
    own: list[tuple[str, str]] = []
    common: list[tuple[str, str]] = []
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx)
        if record is not None:
            if param.param_type_name == "argument":
                # Leave out the type: PATH <list[str]>.
                arguments.append((record[0].partition(" <")[0], record[1]))
            else:
                (common if param in shared else own).append(record)
    for title, records in (("Arguments", arguments), ("Options", own), ("Shared options", common)):
        if records:
            with formatter.section(title):
                formatter.write_dl(records)
