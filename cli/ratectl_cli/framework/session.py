"""Session of a command: its options, the store, and functions to print and to ask."""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import sys
import threading
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from ratectl.errors import UsageError
from ratectl.runtime.urls import shown
from ratectl.runtime.wording import printable
from ratectl_cli.errors import Declined
from ratectl_cli.framework.deadline import Deadline
from ratectl_cli.framework.output import document, encode
from ratectl_cli.framework.recommended import Selector
from ratectl_cli.framework.terminal import Stream
from ratectl_cli.framework.text import Styled, bold, dim, show

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from typing import TextIO

    import typer
    from rich.status import Status

    from ratectl.environments import Choice, Place, Project, Target
    from ratectl.stores.base import Store
    from ratectl_cli.framework.options import Options
    from ratectl_cli.framework.text import Block, Line

__all__ = ["Session", "session_of"]

_KEY: Final = "ratectl.session"
_STORE_SECONDS: Final = 4.0
"""Seconds for one call of a store: an unreachable one is reported within five seconds."""

_TURN: Final = 0.2
"""Seconds of one wait for an answer."""

_YES: Final = ("y", "yes")
_NO: Final = ("", "n", "no")

_PATIENCE: Final = 1.0
"""Seconds before progress is shown."""


class Session:
    """One run of one command."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.out = Stream.of(sys.stdout, options.color)
        self.err = Stream.of(sys.stderr, options.color)
        self.deadline = Deadline(options.timeout)
        self.answered = False
        """True once the result has been printed."""
        self.key: str | None = None
        """File of the key to sign with."""
        self._place: Place | None = None

    @property
    def text(self) -> bool:
        """True if the result is printed for people, not as JSON or YAML."""
        return self.options.output == "text"

    # Printing -----------------------------------------------------------------------------------

    def answer(
        self, kind: str, data: dict[str, Any], blocks: Callable[[], Iterable[Block]]
    ) -> None:
        """Print the result on standard output: as text, or as the one document of this run."""
        self.answered = True
        with _reader_may_leave(self.out.file):
            if self.text:
                show(self.out, blocks())
                show(self.out, self.where())
            else:
                whole = document(kind, {**self._where_data(), **data})
                self.out.file.write(encode(whole, self.options.output))
            self.out.file.flush()

    def show(self, blocks: Iterable[Block]) -> None:
        """Print a part of a result on standard output; nothing if a document will be printed."""
        if self.text:
            with _reader_may_leave(self.out.file):
                show(self.out, blocks)
                self.out.file.flush()

    def emit(self, text: str) -> None:
        """Print a result in a format of another program, without changes."""
        self.answered = True
        with _reader_may_leave(self.out.file):
            self.out.write(text)
            self.out.file.flush()

    def say(self, *lines: Line) -> None:
        """Print messages on standard error, unless ``--quiet``."""
        if not self.options.quiet:
            self.complain(lines)

    def warn(self, message: str) -> None:
        """Print a warning on standard error, even with ``--quiet``."""
        self.complain([[bold("warning: ", "yellow"), self.selector.repeated(message)]])

    def complain(self, blocks: Iterable[Block]) -> None:
        """Print on standard error, with any options."""
        with _reader_may_leave(self.err.file):
            show(self.err, blocks)
            self.err.file.flush()

    # Where --------------------------------------------------------------------------------------

    def changes(self, place: Place) -> None:
        """Note which environment and store the command changes; the result names them.

        Warns if the store's record cannot be read, or contradicts the file.
        """
        self._place = place
        if place.problem is not None:
            self.warn(place.problem)

    def where(self) -> Iterator[Block]:
        """Yield a line with the environment and the store that the command changes."""
        if self._place is not None:
            yield [dim("where:  "), str(self._place)]

    def _where_data(self) -> dict[str, Any]:
        """Return the environment and the store for programs; nothing for a command without one."""
        target = self.__dict__.get("target")
        if target is None:
            return {}
        place = self._place or target
        return {"environment": place.environment, "store": shown(place.url)}

    @property
    def selector(self) -> Selector:
        """Options that chose the store and the key, to be repeated in recommended commands."""
        options, store, key = self.options, "", ""
        if options.env is not None:
            store = f" -e {shlex.quote(options.env)}"
        elif options.store is not None:
            store = f" --store {shlex.quote(shown(options.store))}"
        if self.key is not None and self.key != os.environ.get("RATECTL_SIGN_KEY"):
            key = f" --sign {shlex.quote(self.key)}"
        return Selector(store, store + key)

    # Asking -------------------------------------------------------------------------------------

    @property
    def can_ask(self) -> bool:
        """True if there is a terminal, and questions are allowed."""
        return self._unasked() is None

    def ask(self, question: str) -> str:
        """Return what is typed after a question; see ``can_ask``."""
        with self.deadline.paused():
            return _answer_to(question).strip()

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask a question; return if the answer is yes.

        :raises UsageError: nobody can be asked, and ``--yes`` was not given.
        :raises Declined: the answer is not yes.
        """
        if yes:
            return
        unasked = self._unasked()
        if unasked is not None:
            nobody = UsageError(f"this command asks before it goes on, and {unasked}: {question}")
            nobody.add_note("add --yes to go on without the question")
            raise nobody
        with self.deadline.paused():
            if not self._asked(question):
                raise Declined("declined: nothing was changed")

    def _unasked(self) -> str | None:
        """Return why no question can be asked; None if one can."""
        if self.options.no_input:
            return "--no-input forbids questions"
        if not self.text:
            return f"-o {self.options.output} never asks"
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            return "there is no terminal to ask on"
        return None

    def _asked(self, question: str) -> bool:
        """Ask until the answer is yes or no, and return it; the end of the input is no."""
        while True:
            answer = _answer_to(f"{question} [y/N]")
            word = answer.strip().lower()
            if word in _YES:
                return True
            if word in _NO or not answer.endswith("\n"):
                return False
            sys.stderr.write("Please answer y for yes or n for no.\n")

    # Waiting ------------------------------------------------------------------------------------

    @contextmanager
    def busy(self, doing: str) -> Iterator[None]:
        """Show a spinner on a terminal if the body takes longer than a second."""
        if not self.err.terminal or self.options.quiet:
            yield
            return
        progress = _Progress(self.err, printable(doing))
        timer = threading.Timer(_PATIENCE, progress.start)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            progress.stop()

    # The store ----------------------------------------------------------------------------------

    @cached_property
    def project(self) -> Project | None:
        """Settings in `ratectl.yaml`; None without such a file.

        :raises Refused, UsageError: the file cannot be trusted, or is not valid.
        """
        from ratectl.environments import find_project

        return find_project()

    @property
    def policies(self) -> str:
        """Path of the policies where the command line names none."""
        project = self.project
        if project is None or project.policies is None:
            return "policies"
        return os.path.relpath(project.policies)

    @cached_property
    def choice(self) -> Choice:
        """Options and variables that name the store."""
        from ratectl.environments import Choice

        return Choice.of(self.options.env, self.options.store, os.environ)

    @cached_property
    def target(self) -> Target:
        """The store to use, and its environment.

        :raises Refused, UsageError: see ``ratectl.environments.choose``, and ``project``.
        """
        from ratectl.environments import choose

        return choose(self.choice, lambda: self.project, _default_file)

    @property
    def store_url(self) -> str:
        """URL of the store; raises as ``target`` does."""
        return self.target.url

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Open the store."""
        seconds = _STORE_SECONDS
        if self.options.timeout is not None:
            # The store's error is more precise than "time is up", so it should come first.
            seconds = min(seconds, self.options.timeout * 0.9)
        with self.target.open(seconds) as store:
            if self.options.verbose:
                self.say(Styled(f"store {store.url}", "dim"))
            yield store


def session_of(ctx: typer.Context) -> Session:
    """Return the session that ``ctx`` belongs to."""
    session = ctx.meta.get(_KEY)
    assert isinstance(session, Session)
    return session


def begin(ctx: typer.Context, options: Options) -> Session:
    """Return a new session for a command that is about to run."""
    session = ctx.meta[_KEY] = Session(options)
    return session


def _default_file() -> Path:
    """Return the SQLite file in ratectl's state directory."""
    from ratectl.agent.arguments import default_state_dir

    return default_state_dir() / "ratectl.db"


class _Progress:
    """A spinner that may be stopped before it has started."""

    def __init__(self, stream: Stream, text: str) -> None:
        self._stream = stream
        self._text = text
        self._lock = threading.Lock()
        self._stopped = False
        self._status: Status | None = None

    def start(self) -> None:
        with self._lock:
            if self._stopped:
                return
            from ratectl_cli.framework.drawing import start_spinner

            self._status = start_spinner(self._stream, self._text)

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            if self._status is not None:
                self._status.stop()


def _answer_to(question: str) -> str:
    """Ask on the terminal; return the typed line, which has no newline if the input has ended."""
    sys.stderr.write(f"{printable(question)} ")
    sys.stderr.flush()
    answer = _typed_line(sys.stdin)
    if not answer.endswith("\n"):
        sys.stderr.write("\n")
    return answer


def _typed_line(file: TextIO) -> str:
    """Read a line from a terminal.

    Waits in short turns: a signal that arrives right before a blocking read would not be handled
    until the next key.
    """
    with contextlib.suppress(OSError):  # a file without a descriptor
        while not select.select([file], [], [], _TURN)[0]:
            pass
    return file.readline()


@contextmanager
def _reader_may_leave(file: TextIO) -> Iterator[None]:
    """Ignore that a reader has closed the pipe, as in ``ratectl history | head -1``."""
    try:
        yield
    except BrokenPipeError:
        # Buffered output must not fail again when the interpreter ends.
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, file.fileno())
            os.close(nowhere)
