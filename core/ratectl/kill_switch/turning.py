"""Turn kill switches in a store on and off."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from ratectl.errors import BundleError, StoreError, UsageError
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
from ratectl.policy.language.scopes import checked_scope
from ratectl.signing.continuation import require_signer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ratectl.engine.waivers import Waiver
    from ratectl.kill_switch.switches import Changed
    from ratectl.records import AgentRecord
    from ratectl.signing.signatures import Signer
    from ratectl.stores.base import Store

__all__ = [
    "SwitchFile",
    "is_declared",
    "known_agents",
    "new_switch",
    "read_switch_file",
    "turn_off",
    "turn_on",
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
    reason = reason.strip()
    if not reason:
        raise UsageError("--reason is empty: write a reason, which other people see")
    if len(reason) > MAX_TEXT:
        raise UsageError(f"--reason has {len(reason)} characters, more than {MAX_TEXT}")
    return Switch.now(checked_scope(scope), mode, reason, author)


def turn_on(
    store: Store,
    switch: Switch,
    *,
    only: bool = False,
    signer: Signer | None = None,
    before_write: Callable[[], object] = lambda: None,
) -> Changed:
    """Turn a switch on: agents refuse nothing at and below its scope.

    ``only``: turn off every other switch, whatever the record in the store says. ``before_write``
    is called when every check has passed.

    :raises Refused: the live generation is signed, and there is no signer.
    :raises Untrusted: the signer must not repeat the switches in the store.
    :raises StoreError: the switches were not changed, or the outcome is unknown.
    """
    require_signer(store, read_base(store).head, signer)
    before_write()
    return change_switches(store, lambda known: known.turned_on(switch), signer, alone=only)


def turn_off(
    store: Store,
    scope: str | None = None,
    *,
    signer: Signer | None = None,
    before_write: Callable[[], object] = lambda: None,
) -> Changed:
    """Turn off the switch at a scope; None: every switch, whatever the record in the store says.

    ``before_write`` and errors: as in ``turn_on``.

    :raises UsageError: ``scope`` is not a scope.
    """
    if scope is not None:
        checked_scope(scope)
    require_signer(store, read_base(store).head, signer)
    before_write()
    everywhere = scope is None
    return change_switches(store, lambda known: known.turned_off(scope), signer, alone=everywhere)


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
