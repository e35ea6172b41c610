"""Session of a command: its options, the store, and functions to print and to ask."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from ratectl.errors import UsageError
from ratectl_cli.errors import Declined
from ratectl_cli.framework.deadline import Deadline
from ratectl_cli.framework.output import document, encode
from ratectl_cli.framework.terminal import Stream, safe
from ratectl_cli.framework.text import Styled, bold, show

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TextIO

    import typer
    from rich.status import Status

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
            else:
                self.out.file.write(encode(document(kind, data), self.options.output))
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
        self.complain([[bold("warning: ", "yellow"), message]])

    def complain(self, blocks: Iterable[Block]) -> None:
        """Print on standard error, with any options."""
        with _reader_may_leave(self.err.file):
            show(self.err, blocks)
            self.err.file.flush()

    # Asking -------------------------------------------------------------------------------------

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask a question; return if the answer is yes.

        :raises UsageError: nobody can be asked, and ``--yes`` was not given.
        :raises Declined: the answer is not yes.
        """
        if yes:
            return
        unasked = self._unasked()
        if unasked is not None:
            nobody = UsageError(f"{question} This needs an answer, and {unasked}")
            nobody.add_note("add --yes if you want it")
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
            sys.stderr.write(f"{safe(question)} [y/N] ")
            sys.stderr.flush()
            answer = _typed_line(sys.stdin)
            if not answer.endswith("\n"):
                sys.stderr.write("\n")
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
        progress = _Progress(self.err, safe(doing))
        timer = threading.Timer(_PATIENCE, progress.start)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            progress.stop()

    # The store ----------------------------------------------------------------------------------

    @property
    def store_url(self) -> str:
        """URL of the store: from the option, the environment variable, or the default.

        :raises UsageError: the option or variable is empty, because a pipeline whose secret is not
            set would publish to a file that nobody reads; or the store lives in one process only.
        """
        named = self.named_store
        if named is None:
            named = _not_empty("RATECTL_STORE", os.environ.get("RATECTL_STORE"), "unset it")
            _check_outlives("RATECTL_STORE", named)
        return default_store() if named is None else named

    @property
    def named_store(self) -> str | None:
        """URL of the store that the option names; None without the option.

        :raises UsageError: it is empty, or the store lives in one process only.
        """
        named = _not_empty("--store", self.options.store, "leave it out")
        _check_outlives("--store", named)
        return named

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Open the store."""
        from ratectl.stores import open_store

        seconds = _STORE_SECONDS
        if self.options.timeout is not None:
            # The store's error is more precise than "time is up", so it should come first.
            seconds = min(seconds, self.options.timeout * 0.9)
        with open_store(self.store_url, timeout=seconds) as store:
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


def default_store() -> str:
    """Return the URL of an SQLite file in ratectl's state directory."""
    from ratectl.agent.arguments import default_state_dir

    return f"sqlite:///{default_state_dir() / 'ratectl.db'}"


def _not_empty(name: str, value: str | None, otherwise: str) -> str | None:
    if value is None or value.strip():
        return value
    raise UsageError(f"{name} is empty: name a store, like etcd://host:2379/prod, or {otherwise}")


def _check_outlives(name: str, url: str | None) -> None:
    """:raises UsageError: the store would end with this command."""
    from ratectl.stores import in_one_process

    if url is not None and in_one_process(url):
        raise UsageError(
            f"{name}: {url.partition('://')[0]}:// is a store inside one process, for tests: it "
            "would end with this command, and no other process sees it. Name a file, like "
            "sqlite:///rates.db, or a server, like etcd://host:2379/prod"
        )


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
