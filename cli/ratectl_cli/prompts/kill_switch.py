"""Kill switches on the command line: in the store, or in a file of this machine."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from ratectl import environments
from ratectl.agent.arguments import default_state_dir, state_dir_of
from ratectl.errors import BundleError, Conflict, RatectlError, StoreError, UsageError
from ratectl.fleet.convergence import wait_until_obeyed
from ratectl.fleet.usage import read_agents
from ratectl.history.generations import read_base
from ratectl.kill_switch import turning
from ratectl.kill_switch.switches import change_switch_file, read_switches, switch_file
from ratectl.kill_switch.wording import switch_text
from ratectl_cli.framework import clock
from ratectl_cli.inputs.signing import key_of
from ratectl_cli.inputs.unpublished import say_if_unpublished
from ratectl_cli.prompts.waiting import exit_code, waited_for
from ratectl_cli.render import panic as render
from ratectl_cli.render.panic import Turned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from ratectl.history.generations import Live
    from ratectl.kill_switch.switches import Changed, Switch, Switches
    from ratectl.stores.base import Store
    from ratectl_cli.framework.session import Session
    from ratectl_cli.render.waited import Waited

__all__ = [
    "InFile", "InStore", "answer_turned", "hinting", "place_of",
    "warn_of_switches",
]  # fmt: skip

_PATIENCE: Final = 10.0
"""Seconds to wait for agents where no --timeout is given: they take less than one."""

_LOCALLY: Final = "`ratectl panic {command} --local` needs no store: run it on each machine"


class Place(Protocol):
    """A place that holds switches."""

    def turn_on(self, switch: Switch, *, only: bool) -> Turned:
        """Turn a switch on; ``only``: turn off every other one."""

    def turn_off(self, scope: str | None) -> Turned:
        """Turn off the switch at a scope; None for all."""

    def answer_status(self) -> None:
        """Print the switches that are on."""


def place_of(
    session: Session,
    *,
    local: bool,
    state_dir: str | None,
    wait: bool = False,
    key: str | None = None,
) -> Place:
    """Return the store, or with ``--local`` a file.

    :raises UsageError: options that do not go together.
    """
    if not local:
        if state_dir is not None:
            raise UsageError(
                "--state-dir is only for --local: add --local, or leave out --state-dir"
            )
        return InStore(session, _usual_file(), wait=wait, key=key)
    if wait:
        raise UsageError(
            "--wait asks the store which agents obey, and --local uses no store: leave one out"
        )
    return InFile(session, switch_file(state_dir_of(state_dir)))


def _usual_file() -> Path | None:
    """Return the file of this machine's usual agents; None for a user without a home directory."""
    with suppress(UsageError):
        return switch_file(default_state_dir())
    return None


class InFile:
    """Switches in a file of this machine."""

    def __init__(self, session: Session, path: Path) -> None:
        self._session = session
        self._path = path

    def turn_on(self, switch: Switch, *, only: bool) -> Turned:
        """See ``Place``.

        :raises OSError: the file cannot be written.
        """
        return self._turn(lambda known: known.turned_on(switch), alone=only)

    def turn_off(self, scope: str | None) -> Turned:
        """See ``turn_on``."""
        return self._turn(lambda known: known.turned_off(scope), alone=scope is None)

    def _turn(self, change: Callable[[Switches], Switches], *, alone: bool) -> Turned:
        self._session.deadline.changing(f"ratectl panic{render.local_options(str(self._path))}")
        turned = Turned(str(self._path), change_switch_file(self._path, change, alone=alone))
        if turned.changed.after.on and not (self._path.parent / "agents").is_dir():
            self._session.warn(
                f"no agent has used the state directory {self._path.parent} yet: agents of another "
                "user use another one (--state-dir)"
            )
        return turned

    def answer_status(self) -> None:
        """See ``Place``."""
        file = turning.read_switch_file(self._path)
        self._session.answer(
            "Panic",
            render.local_data(file),
            lambda: render.file_blocks(file, clock.now()),
        )


class InStore:
    """Switches in the store, which all agents obey."""

    def __init__(self, session: Session, here: Path | None, *, wait: bool, key: str | None) -> None:
        """``here``: the file of this machine's usual agents, which is shown as well.

        ``key``: file of the private key to sign with.
        """
        self._key = key
        self._session = session
        self._here = here
        self._wait = wait

    def turn_on(self, switch: Switch, *, only: bool) -> Turned:
        """See ``Place``.

        :raises StoreError, Refused, Untrusted: see ``ratectl.kill_switch.turning.turn_on``.
        """
        return self._turn(partial(turning.turn_on, switch=switch, only=only))

    def turn_off(self, scope: str | None) -> Turned:
        """See ``turn_on``."""
        return self._turn(partial(turning.turn_off, scope=scope))

    def _turn(self, turn: Callable[..., Changed]) -> Turned:
        begin = partial(self._session.deadline.changing, "ratectl panic")
        with self._session.store() as store:
            place = environments.place_of(store, self._session.target, urgent=True)
            signer = key_of(self._session, self._key)
            place.require_signer(signer)
            self._session.changes(place)
            changed = turn(store, signer=signer, before_write=begin)
            waited = self._waited(store, changed.after) if self._wait else None
            agents = turning.known_agents(store)
        return Turned("", changed, waited, self._file(), agents)

    def _waited(self, store: Store, switches: Switches) -> Waited:
        return waited_for(self._session, _PATIENCE, partial(wait_until_obeyed, store, switches))

    def answer_status(self) -> None:
        """See ``Place``."""
        with self._session.store() as store:
            switches = read_switches(store)
            agents = read_agents(store)
            live = read_base(store)
        if not live.unreadable:  # a switch is shown whatever became of the policies
            say_if_unpublished(self._session, live.generation)
        if _is_signed(live) and switches.on and switches.signature is None:
            self._session.warn(
                "the switches are not signed: agents with public keys do not obey them"
            )
        here = self._file()
        data = render.status_data(switches, here, agents)
        self._session.answer(
            "Panic", data, lambda: render.status_blocks(switches, here, agents, clock.now())
        )

    def _file(self) -> turning.SwitchFile | None:
        return None if self._here is None else turning.read_switch_file(self._here)

    def warn_of_undeclared(self, scope: str) -> None:
        """Warn where the scope may be misspelt. Reads policies: call it last."""
        with (
            suppress(RatectlError),
            self._session.deadline.optional(),
            self._session.store() as store,
        ):
            if not turning.is_declared(store, scope, self._session.warn):
                self._session.warn(f"no policy is at or below {scope}: is the scope correct?")


def _is_signed(live: Live) -> bool:
    """Return True where the live generation is signed."""
    return live.head is not None and live.head.signature is not None


def answer_turned(session: Session, turned: Turned, scope: str | None) -> int:
    """Print what was turned at ``scope`` (None for everywhere); returns the exit code."""
    if turned.changed.discarded:
        session.warn(f"{turned.changed.discarded}: it was replaced")
    session.answer(
        "PanicTurned",
        render.turned_data(turned),
        lambda: render.turned_blocks(
            turned, scope, clock.now(), selector=session.selector, quiet=session.options.quiet
        ),
    )
    return exit_code(turned.waited)


def warn_of_switches(session: Session, switches: Iterable[Switch]) -> None:
    """Warn that policies are not enforced at and below the scopes of switches."""
    for switch in switches:
        command = render.undo(switch.scope, selector=session.selector.changing)
        session.warn(f"{switch_text(switch, clock.now())}. Undo: {command}")


@contextmanager
def hinting(command: str) -> Iterator[None]:
    """Add a hint about ``--local`` to an error of the store."""
    try:
        yield
    except Conflict:
        raise
    except StoreError as error:
        error.add_note(_LOCALLY.format(command=command))
        raise
    except BundleError as error:  # such as an identity that is gone; others have a remedy already
        if not getattr(error, "__notes__", None):
            error.add_note(_LOCALLY.format(command=command))
        raise
