"""Turn kill switches in a store on and off, and see which agents obey them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from ratectl.errors import BundleError, StoreError, UsageError
from ratectl.fleet.convergence import Enough, Standing, wait_until
from ratectl.fleet.usage import read_agents
from ratectl.history.generations import read_base, read_live
from ratectl.history.trees import tree_to_compare
from ratectl.kill_switch.switches import (
    MAX_TEXT,
    Switch,
    Switches,
    change_switches,
    load_switches,
)
from ratectl.policy.language.scopes import scope_problem
from ratectl.signing.continuation import require_signer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ratectl.engine.waivers import Waiver
    from ratectl.fleet.convergence import Outcome
    from ratectl.kill_switch.switches import Changed
    from ratectl.records import AgentRecord
    from ratectl.signing.signatures import Signer
    from ratectl.stores.base import Store

__all__ = [
    "SwitchFile",
    "change",
    "is_declared",
    "known_agents",
    "new_switch",
    "read_switch_file",
    "require_key",
    "standing",
    "turn_off",
    "turn_on",
    "wait_until_obeyed",
]


class SwitchFile(NamedTuple):
    """A file of switches, and what it holds."""

    path: Path
    switches: Switches | None
    """Switches that are on; none where there is no file. None if it cannot be read."""
    problem: str | None
    """Why the file cannot be read."""


def read_switch_file(path: Path) -> SwitchFile:
    """Read a file of switches. Never fails: see ``SwitchFile.problem``."""
    try:
        return SwitchFile(path, load_switches(path), None)
    except FileNotFoundError:
        return SwitchFile(path, Switches(), None)
    except OSError as error:
        return SwitchFile(path, None, (error.strerror or str(error)).lower())
    except BundleError as error:
        return SwitchFile(path, None, str(error))


def new_switch(scope: str, reason: str, author: str, mode: Waiver = "open") -> Switch:
    """Return a switch that is turned on now. ``mode``: see ``Switch``.

    :raises UsageError: ``scope`` is not a scope, or the reason is empty or too long.
    """
    problem = scope_problem(scope)
    if problem:
        raise UsageError(f"{scope!r} is not a scope: {problem}")
    reason = reason.strip()
    if not reason:
        raise UsageError("--reason is empty: write a reason, which other people see")
    if len(reason) > MAX_TEXT:
        raise UsageError(f"--reason has {len(reason)} characters, more than {MAX_TEXT}")
    return Switch.now(scope, mode, reason, author)


def turn_on(
    store: Store, switch: Switch, *, only: bool = False, signer: Signer | None = None
) -> Changed:
    """Turn a switch on: agents refuse nothing at and below its scope. Raises as ``change``.

    ``only``: turn off every other switch, whatever the record in the store says.
    """
    return change(store, lambda known: known.turned_on(switch), only=only, signer=signer)


def turn_off(store: Store, scope: str | None = None, *, signer: Signer | None = None) -> Changed:
    """Turn off the switch at a scope; None for all. Raises as ``change``."""
    return change(store, lambda known: known.turned_off(scope), only=scope is None, signer=signer)


def change(
    store: Store,
    how: Callable[[Switches], Switches],
    *,
    only: bool = False,
    signer: Signer | None = None,
) -> Changed:
    """Replace the switches in a store by what ``how`` makes of them.

    ``only``: repeat none of the switches that are on.

    :raises Refused: what is live is signed, and there is no signer.
    :raises Untrusted: the signer must not repeat what is in the store.
    :raises StoreError: the switches were not changed, or the outcome is unknown.
    """
    require_key(store, signer)
    return change_switches(store, how, signer, alone=only)


def require_key(store: Store, signer: Signer | None) -> None:
    """Return if switches may be changed: unsigned only where nothing is signed.

    :raises Refused: what is live is signed, and there is no signer.
    """
    require_signer(read_base(store).head, signer)


def standing(store: Store, switches: Switches) -> Standing:
    """Return the agents, by whether they obey a record of switches."""
    agents = read_agents(store)
    return Standing(
        [each for each in agents if each.panic_sequence >= switches.sequence],
        [],
        [each for each in agents if each.panic_sequence < switches.sequence],
    )


def wait_until_obeyed(store: Store, switches: Switches, seconds: float) -> tuple[Outcome, Standing]:
    """Wait at most ``seconds`` until every agent obeys a record of switches."""
    return wait_until(lambda: standing(store, switches), Enough(), seconds)


def known_agents(store: Store) -> Sequence[AgentRecord]:
    """Return the agents; none if the store does not answer."""
    with suppress(StoreError, BundleError):
        return read_agents(store)
    return ()


def is_declared(store: Store, scope: str, warn: Callable[[str], None]) -> bool:
    """Return True if a live policy is at or below a scope. Reads all policies.

    :raises RatectlError: the store does not answer.
    """
    if scope == "/":
        return True
    live = tree_to_compare(store, read_live(store), warn)
    scopes = live.tree.policies if live else ()
    return any(f"{each}/".startswith(f"{scope}/") for each in scopes)
