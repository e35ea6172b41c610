"""The command line's entry: wiring, and the one place where exceptions become exit codes."""

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
import typer.main

from ratectl.runtime.urls import scrubbed
from ratectl_cli.errors import BUG, explain_error
from ratectl_cli.framework.lazy import CommandFailed, Entry, LazyGroup
from ratectl_cli.framework.options import Options, guess_color, guess_output
from ratectl_cli.framework.session import Session
from ratectl_cli.framework.terminal import safe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl_cli.errors import Failure

__all__ = ["COMMANDS", "main", "run"]

_HERE: Final = "ratectl_cli.commands"

COMMANDS: Final[dict[str, Entry]] = {
    "init": Entry(
        "Write policies", f"{_HERE}.init:init", "Write a small tree of policies to start from."
    ),
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
    "fmt": Entry(
        "Write policies", f"{_HERE}.fmt:fmt", "Write policy files in their canonical form."
    ),
    "schema": Entry(
        "Write policies",
        f"{_HERE}.schema:schema",
        "Print the JSON Schema of policy files, for editors.",
    ),
    "test": Entry(
        "Write policies", f"{_HERE}.test:test", "Run the tests that stand beside the policies."
    ),
    "explain": Entry(
        "Write policies",
        f"{_HERE}.explain:explain",
        "Show which limits hold at a scope, and who said so.",
    ),
    "check": Entry(
        "Write policies", f"{_HERE}.check:check", "Decide requests as an agent would, from here."
    ),
    "simulate": Entry(
        "Write policies",
        f"{_HERE}.simulate:simulate",
        "Replay recorded traffic through policies.",
    ),
    "plan": Entry("Publish", f"{_HERE}.plan:plan", "Show what publishing policies would change."),
    "apply": Entry("Publish", f"{_HERE}.apply:apply", "Publish policies as the next generation."),
    "rollout": Entry(
        "Publish", f"{_HERE}.rollout", "Try a candidate in some agents first, then in more."
    ),
    "diff": Entry(
        "Publish",
        f"{_HERE}.diff:diff",
        "Compare policies with the live generation, or two generations.",
    ),
    "pull": Entry("Publish", f"{_HERE}.pull:pull", "Write what is live as files of policies."),
    "rollback": Entry(
        "Publish", f"{_HERE}.rollback:rollback", "Publish an earlier generation again."
    ),
    "panic": Entry(
        "Publish", f"{_HERE}.panic", "Turn limits off at once, and on again: the kill switch."
    ),
    "history": Entry("Publish", f"{_HERE}.history:history", "List who published what, and when."),
    "blame": Entry(
        "Publish",
        f"{_HERE}.blame:blame",
        "Show which generation last changed each value at a scope.",
    ),
    "show": Entry("Publish", f"{_HERE}.show:show", "Print the policies of a generation as YAML."),
    "agents": Entry("Watch", f"{_HERE}.agents:agents", "List agents and what they enforce."),
    "usage": Entry("Watch", f"{_HERE}.usage:usage", "Show how much of each limit is used."),
    "doctor": Entry("Watch", f"{_HERE}.doctor:doctor", "Look for what is wrong, and say so."),
    "key": Entry("Run", f"{_HERE}.key", "Make keys that generations are signed with."),
    "agent": Entry("Run", f"{_HERE}.agent", "Run an agent process."),
    "demo": Entry(
        "Run", "ratectl_cli.demo.command:demo", "Watch policies, agents and traffic at work."
    ),
    "version": Entry("Run", f"{_HERE}.version:version", "Print the version and the engine."),
}


class _Root(LazyGroup):
    """All commands."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, table=COMMANDS, **kwargs)


def _print_version(wanted: bool) -> None:
    if wanted:
        from ratectl.version import __version__

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
    """The command line as a Typer command."""
    app = typer.Typer(
        cls=_Root,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    return typer.main.get_command(app)


def run(arguments: "Sequence[str]") -> int:
    """Run a command line; returns the exit code. Never raises."""
    try:
        code = command().main(list(arguments), prog_name="ratectl", standalone_mode=False)
        sys.stdout.flush()
    except SystemExit as exit_:  # shell completion ends so
        return exit_.code if isinstance(exit_.code, int) else 0
    except BaseException as error:  # noqa: BLE001  a traceback is no message
        return _fail(error, arguments)
    return code if isinstance(code, int) else 0


def _fail(error: BaseException, arguments: "Sequence[str]") -> int:
    if isinstance(error, CommandFailed):
        session, error = error.session, error.__cause__ or error
    else:
        output, color = guess_output(arguments), guess_color(arguments)
        session = Session(Options(output=output, color=color, verbose=1))
    failure = explain_error(error, arguments)
    if failure.exit_code == BUG and session.options.verbose:
        import traceback

        sys.stderr.write(scrubbed("".join(traceback.format_exception(error)), arguments))
    try:
        _report(session, failure)
    except Exception:  # noqa: BLE001  an exit code without a word helps nobody
        _say_plainly(failure)
    return failure.exit_code


def _say_plainly(failure: "Failure") -> None:
    """Say it on standard error all the same: standard output is full, or a module unreadable."""
    with contextlib.suppress(OSError):  # nowhere is left to say it
        os.write(2, f"error: {safe(failure.message)}\n".encode(errors="backslashreplace"))


def _report(session: Session, failure: "Failure") -> None:
    from ratectl_cli.render.failures import failure_blocks, failure_data

    if session.text or session.answered:  # one document, whatever happens after it
        unfold = bool(session.options.verbose)
        session.complain(failure_blocks(failure, session.err, unfold=unfold))
    else:
        session.answer("Error", failure_data(failure), list)


def _fill_streams() -> None:
    """Have three standard streams, where some were closed (``>&-``): they lead nowhere then.

    A file that is opened later must not get the number of one, and be written over by messages.
    """
    streams = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))
    for number, _ in enumerate(streams):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the first that is free
    for number, (name, mode) in enumerate(streams):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def main() -> None:
    """Entry point of the ``ratectl`` script."""
    _fill_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))
