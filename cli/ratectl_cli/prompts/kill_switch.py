"""Kill switches for commands: where they lie, turning them, and who obeys."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from ratectl.errors import BundleError, Conflict, RatectlError, StoreError, UsageError
from ratectl_cli.prompts.waiting import Waited, exit_code, waited_for
from ratectl_cli.render import panic as render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ratectl.fleet.convergence import Outcome, Standing
    from ratectl.kill_switch.switches import Changed, Switches
    from ratectl.records import AgentRecord
    from ratectl.signing.signatures import Signer
    from ratectl.stores.base import Store
    from ratectl_cli.framework.session import Session

__all__ = [
    "InFile",
    "InStore",
    "Turned",
    "answer_turned",
    "hinting",
    "known_switches",
    "place_of",
    "warn_of_switches",
]

_PATIENCE: Final = 10.0
"""Seconds to wait for agents where no --timeout is given: they take less than one."""

_LOCALLY: Final = "`ratectl panic {command} --local` needs no store: run it on each machine"


@dataclass(frozen=True, slots=True)
class Turned:
    """A change of switches, and what agents made of it, if they were waited for."""

    place: str
    """Path of the file; empty for the store."""
    changed: Changed
    waited: Waited | None = None
    here: Path | None = None
    """The file that this machine's usual agents obey as well; None where that is what changed."""
    agents: Sequence[AgentRecord] = ()
    """All that the store knows: some may obey files."""


class Place(Protocol):
    """Where switches lie."""

    def turn(self, change: Callable[[Switches], Switches], *, alone: bool = False) -> Turned:
        """Change what is on there; ``alone``: nothing else stays on."""

    def answer_status(self) -> None:
        """Print what is on there."""


def place_of(
    session: Session,
    *,
    local: bool,
    state_dir: str | None,
    wait: bool = False,
    key: str | None = None,
) -> Place:
    """The store, or with ``--local`` a file.

    :raises UsageError: options that do not go together.
    """
    from ratectl.agent.arguments import state_dir_of
    from ratectl.kill_switch.switches import switch_file

    if not local:
        if state_dir is not None:
            raise UsageError("--state-dir is for --local: add that, or leave it out")
        return InStore(session, _usual_file(), wait=wait, key=key)
    if wait:
        raise UsageError("--wait asks the store who obeys, and --local does without: leave one out")
    return InFile(session, switch_file(state_dir_of(state_dir)))


def _usual_file() -> Path | None:
    """The file of this machine's usual agents; None for a user without a home directory."""
    from ratectl.agent.arguments import default_state_dir
    from ratectl.kill_switch.switches import switch_file

    with suppress(UsageError):
        return switch_file(default_state_dir())
    return None


class InFile:
    """Switches in a file of this machine."""

    def __init__(self, session: Session, path: Path) -> None:
        self._session = session
        self._path = path

    def turn(self, change: Callable[[Switches], Switches], *, alone: bool = False) -> Turned:
        """See ``Place``.

        :raises OSError: the file cannot be written.
        """
        from ratectl.kill_switch.switches import change_switch_file

        self._session.deadline.changing(f"ratectl panic{render.local_options(str(self._path))}")
        turned = Turned(str(self._path), change_switch_file(self._path, change, alone=alone))
        if turned.changed.after.on and not (self._path.parent / "agents").is_dir():
            self._session.warn(
                f"no agent has kept its state in {self._path.parent} so far: agents of another "
                "user look elsewhere (--state-dir)"
            )
        return turned

    def answer_status(self) -> None:
        """See ``Place``."""
        self._session.answer(
            "Panic",
            render.local_data(self._path),
            lambda: render.file_blocks(self._path),
        )


class InStore:
    """Switches in the store, which every agent obeys."""

    def __init__(self, session: Session, here: Path | None, *, wait: bool, key: str | None) -> None:
        """``here``: the file of this machine's usual agents, to be shown beside.

        ``key``: the file of the private key to sign with.
        """
        self._key = key
        self._session = session
        self._here = here
        self._wait = wait

    def turn(self, change: Callable[[Switches], Switches], *, alone: bool = False) -> Turned:
        """See ``Place``.

        :raises StoreError: they were not turned, or nobody knows.
        :raises Untrusted: the key must not sign what is in the store.
        """
        from ratectl.kill_switch.switches import change_switches

        with self._session.store() as store:
            signer = self._signer(store)
            self._session.deadline.changing("ratectl panic")
            changed = change_switches(store, change, signer, alone=alone)
            waited = self._waited(store, changed.after) if self._wait else None
            agents = _known_agents(store)
        return Turned("", changed, waited, self._here, agents)

    def _signer(self, store: Store) -> Signer | None:
        from ratectl.history.generations import read_base
        from ratectl_cli.inputs.signing import signer_for

        return signer_for(self._key, read_base(store))

    def _waited(self, store: Store, switches: Switches) -> Waited:
        from ratectl.fleet.convergence import Enough, wait_until

        def look(seconds: float) -> tuple[Outcome, Standing]:
            return wait_until(lambda: standing(store, switches), Enough(), seconds)

        return waited_for(self._session, _PATIENCE, look)

    def answer_status(self) -> None:
        """See ``Place``."""
        from ratectl.fleet.usage import read_agents
        from ratectl.kill_switch.switches import read_switches

        with self._session.store() as store:
            switches = read_switches(store)
            agents = read_agents(store)
            signed = _is_signed(store)
        if signed and switches.on and switches.signature is None:
            self._session.warn("this is not signed: agents that hold public keys do not obey it")
        data = render.status_data(switches, self._here, agents)
        self._session.answer(
            "Panic", data, lambda: render.status_blocks(switches, self._here, agents)
        )

    def warn_of_undeclared(self, scope: str) -> None:
        """Warn where the scope may be misspelt. Reads policies: do what counts before."""
        from ratectl.history.generations import read_live
        from ratectl_cli.inputs.policies import tree_to_compare

        if scope == "/":
            return
        with (
            suppress(RatectlError),
            self._session.deadline.optional(),
            self._session.store() as store,
        ):
            tree = tree_to_compare(self._session, store, read_live(store))
            declared = tree.policies if tree else ()
            if not any(f"{each}/".startswith(f"{scope}/") for each in declared):
                self._session.warn(f"no policy is at or below {scope}: is it spelt right?")


def _is_signed(store: Store) -> bool:
    """Return True where the live generation is signed."""
    from ratectl.history.generations import read_base

    head = read_base(store).head
    return head is not None and head.signature is not None


def _known_agents(store: Store) -> Sequence[AgentRecord]:
    """Agents, where the store still says: what was turned is turned whatever it says now."""
    from ratectl.fleet.usage import read_agents

    with suppress(StoreError, BundleError):
        return read_agents(store)
    return ()


def standing(store: Store, switches: Switches) -> Standing:
    """Agents by whether they obey a record."""
    from ratectl.fleet.convergence import Standing as Found
    from ratectl.fleet.usage import read_agents

    agents = read_agents(store)
    return Found(
        [each for each in agents if each.panic_sequence >= switches.sequence],
        [],
        [each for each in agents if each.panic_sequence < switches.sequence],
    )


def answer_turned(session: Session, turned: Turned, scope: str | None) -> int:
    """Print what was turned at ``scope`` (None for everywhere); returns the exit code."""
    if turned.changed.discarded:
        session.warn(f"{turned.changed.discarded}: it was replaced")
    session.answer(
        "PanicTurned",
        render.turned_data(turned),
        lambda: render.turned_blocks(turned, scope, quiet=session.options.quiet),
    )
    return exit_code(turned.waited)


def known_switches(session: Session, store: Store) -> Switches:
    """What is on in the store; nothing, with a warning, where that cannot be read."""
    from ratectl.kill_switch.switches import Switches as Nothing
    from ratectl.kill_switch.switches import read_switches

    try:
        return read_switches(store)
    except BundleError as error:
        session.warn(str(error))
        return Nothing()


def warn_of_switches(session: Session, store: Store) -> None:
    """Warn whoever is about to change policies that they are not enforced."""
    for switch in known_switches(session, store).on:
        session.warn(f"{render.switch_text(switch)}. Undo: {render.undo(switch.scope)}")


@contextmanager
def hinting(command: str) -> Iterator[None]:
    """Say what is left to do where the store is of no use."""
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
