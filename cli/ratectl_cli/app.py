"""Entry point of the command line: table of commands, and exceptions to exit codes."""

import contextlib
import os
import sys
import traceback
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
import typer.main

from ratectl.runtime.urls import scrubbed
from ratectl.runtime.wording import printable
from ratectl.version import __version__
from ratectl_cli.errors import BUG, explain_error
from ratectl_cli.framework.lazy import CommandFailed, Entry, LazyGroup
from ratectl_cli.framework.options import Options, guess_color, guess_output
from ratectl_cli.framework.session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl_cli.errors import Failure

__all__ = ["COMMANDS", "main", "run"]

_HERE: Final = "ratectl_cli.commands"

COMMANDS: Final[dict[str, Entry]] = {
    "init": Entry("Write policies", f"{_HERE}.init:init", "Write example policies to start from."),
    "validate": Entry(
        "Write policies",
        f"{_HERE}.validate:validate",
        "Check policy files and report every problem at once.",
    ),
    "rule": Entry(
        "Write policies",
        f"{_HERE}.rule:rule",
        "Explain a code that `ratectl validate` reports.",
    ),
    "fmt": Entry("Write policies", f"{_HERE}.fmt:fmt", "Format policy files."),
    "schema": Entry(
        "Write policies",
        f"{_HERE}.schema:schema",
        "Print the JSON Schema of policy files, for editors.",
    ),
    "test": Entry("Write policies", f"{_HERE}.test:test", "Run the tests of policies."),
    "explain": Entry(
        "Write policies",
        f"{_HERE}.explain:explain",
        "Show which limits apply at a scope, and where they come from.",
    ),
    "check": Entry(
        "Write policies",
        f"{_HERE}.check:check",
        "Decide requests on this machine, as an agent would.",
    ),
    "simulate": Entry(
        "Write policies",
        f"{_HERE}.simulate:simulate",
        "Replay recorded traffic through policies.",
    ),
    "import": Entry(
        "Write policies", f"{_HERE}.import_", "Turn limits of other rate limiters into policies."
    ),
    "export": Entry(
        "Write policies", f"{_HERE}.export", "Turn policies into files of other rate limiters."
    ),
    "plan": Entry("Publish", f"{_HERE}.plan:plan", "Show what publishing policies would change."),
    "apply": Entry("Publish", f"{_HERE}.apply:apply", "Publish policies as the next generation."),
    "rollout": Entry(
        "Publish", f"{_HERE}.rollout", "Try a new generation in some agents first, then in more."
    ),
    "diff": Entry(
        "Publish",
        f"{_HERE}.diff:diff",
        "Compare policies with the live generation, or two generations.",
    ),
    "pull": Entry("Publish", f"{_HERE}.pull:pull", "Write the live policies to files."),
    "rollback": Entry(
        "Publish", f"{_HERE}.rollback:rollback", "Publish an earlier generation again."
    ),
    "panic": Entry(
        "Publish", f"{_HERE}.panic", "Turn limits off at once, and on again (kill switch)."
    ),
    "history": Entry(
        "Publish", f"{_HERE}.history:history", "List generations: who published what, and when."
    ),
    "blame": Entry(
        "Publish",
        f"{_HERE}.blame:blame",
        "Show which generation last changed each value at a scope.",
    ),
    "show": Entry("Publish", f"{_HERE}.show:show", "Print the policies of a generation as YAML."),
    "env": Entry("Publish", f"{_HERE}.env", "List environments, and protect them."),
    "agents": Entry(
        "Watch", f"{_HERE}.agents:agents", "List agents and the generation that each enforces."
    ),
    "cluster": Entry(
        "Watch", f"{_HERE}.cluster", "Show members that share limits, and run their owner."
    ),
    "usage": Entry(
        "Watch",
        f"{_HERE}.usage:usage",
        "Show how much of each limit is used.",
        {
            "reset": Entry(
                "Commands", f"{_HERE}.usage_reset:reset", "Make the buckets of one key full."
            )
        },
    ),
    "top": Entry("Watch", f"{_HERE}.top:top", "Show the keys with the most requests."),
    "doctor": Entry(
        "Watch",
        f"{_HERE}.doctor:doctor",
        "Check the store, the agents and this machine for problems.",
    ),
    "key": Entry("Run", f"{_HERE}.key", "Make keys to sign generations with."),
    "agent": Entry("Run", f"{_HERE}.agent", "Run an agent process."),
    "demo": Entry(
        "Run", "ratectl_cli.demo.command:demo", "Run a demonstration with real agents and traffic."
    ),
    "help": Entry("Run", f"{_HERE}.help:help_", "Explain a topic, or show the help of a command."),
    "version": Entry("Run", f"{_HERE}.version:version", "Print the version and the engine."),
}


class _Root(LazyGroup):
    """Group of all commands."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, table=COMMANDS, **kwargs)


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"ratectl {__version__}\n")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Rate limits as policies: written in YAML, published as generations, enforced by agents."""


def command() -> Any:
    """Return the command line as a Typer command."""
    app = typer.Typer(
        cls=_Root,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    return typer.main.get_command(app)


def run(arguments: "Sequence[str]") -> int:
    """Run a command line; return the exit code. Never raises."""
    try:
        code = command().main(list(arguments), prog_name="ratectl", standalone_mode=False, obj=run)
        sys.stdout.flush()
    except SystemExit as exit_:  # shell completion
        return exit_.code if isinstance(exit_.code, int) else 0
    except BaseException as error:  # noqa: BLE001  users get a message, no traceback
        return _fail(error, arguments)
    return code if isinstance(code, int) else 0


def _fail(error: BaseException, arguments: "Sequence[str]") -> int:
    if isinstance(error, CommandFailed):
        session, error = error.session, error.__cause__ or error
    else:
        output, color = guess_output(arguments), guess_color(arguments)
        session = Session(Options(output=output, color=color, verbose=1))
    failure = explain_error(_in_our_words(error, arguments), arguments)
    failure = failure.reworded(session.selector.repeated)
    if failure.exit_code == BUG and session.options.verbose:
        sys.stderr.write(scrubbed("".join(traceback.format_exception(error)), arguments))
    try:
        _report(session, failure)
    except Exception:  # noqa: BLE001  print at least the message
        _report_plainly(failure)
    return failure.exit_code


def _in_our_words(error: BaseException, arguments: "Sequence[str]") -> BaseException:
    """Return a clearer error for a wrong command line, and other errors as they are."""
    from ratectl_cli.framework.usage_errors import clearer

    return clearer(error, arguments)


def _report_plainly(failure: "Failure") -> None:
    """Print an error where reporting failed: standard output is full, or a module is unreadable."""
    with contextlib.suppress(OSError):  # standard error is closed too
        os.write(2, f"error: {printable(failure.message)}\n".encode(errors="backslashreplace"))


def _report(session: Session, failure: "Failure") -> None:
    from ratectl_cli.render.failures import failure_blocks, failure_data

    if session.text or session.answered:  # the one document is printed already
        unfold = bool(session.options.verbose)
        session.complain(failure_blocks(failure, session.err, unfold=unfold))
    else:
        session.answer("Error", failure_data(failure), list)


def _fill_streams() -> None:
    """Open standard streams that are closed (``>&-``), so that they lead nowhere.

    Otherwise a file that is opened later could get the number of a standard stream, and messages
    would be written into it.
    """
    streams = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))
    for number, _ in enumerate(streams):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest free number
    for number, (name, mode) in enumerate(streams):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def _end_streams() -> None:
    """Write what is buffered; let it go nowhere if it cannot be written.

    Otherwise the interpreter would try once more at its end, and exit with a code of its own.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # no space, no reader, or closed
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)


def main() -> None:
    """Entry point of the ``ratectl`` script."""
    _fill_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    code = run(sys.argv[1:])
    _end_streams()
    sys.exit(code)
