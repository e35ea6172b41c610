"""Tampering with the kill switch's record."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from agent.signatures import YEAR_MS
from agent.tampering.scene import FOREIGN, NO_KEY, UNSIGNED, Row, Scene, opened, switch
from fleet.reports import agent as agent_report
from ratectl.kill_switch.switches import MAX_SWITCHES, PANIC, Switches
from ratectl.records import AGENTS, now_ms

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SWITCHES"]

UNREADABLE: Final = "the kill switch's record cannot be read"


def evil(**changes: Any) -> Callable[[Scene], None]:
    """Turn a switch on under the signature of the record without switches."""

    def tamper(scene: Scene) -> None:
        on = json.loads(opened(scene).encode())["switches"]
        scene.put_switches_value(**{"switches": on, **changes})

    return tamper


def later(change: Callable[[int], object]) -> Callable[[Scene], None]:
    """Turn a switch on with the sequence after the one that is obeyed."""
    return lambda scene: evil(sequence=change(scene.closed.sequence))(scene)


def widened(scene: Scene) -> None:
    """Widen the scope of a switch that an honest operator has turned on."""
    real = replace(scene.opened, sequence=scene.closed.sequence + 1, on=(switch("/nobody"),))
    scene.put_switches(real, scene.signer)
    scene.look(scene.agent)
    assert {each.scope for each in scene.agent.status.panic} == {"/nobody"}
    item = scene.store.get(PANIC)
    assert item is not None
    scene.store.put(PANIC, item.value.replace(b'"/nobody"', b'"/"'))
    scene.allowed_scopes.add("/nobody")


def on_twice(scene: Scene, *, evil_last: bool) -> None:
    """Write JSON with two ``switches`` fields."""
    bad = json.dumps(json.loads(opened(scene).encode())["switches"])
    pair = ("[]", bad) if evil_last else (bad, "[]")
    text = scene.closed.encode().decode()
    assert '"switches":[]' in text
    doubled = text.replace('"switches":[]', f'"switches":{pair[0]},"switches":{pair[1]}')
    scene.store.put(PANIC, doubled.encode())


def forged_report(scene: Scene) -> None:
    """Report as an agent that obeys a record of the far future, and write that record."""
    ahead = now_ms() + 9 * YEAR_MS
    scene.store.put(AGENTS + "liar", agent_report("liar", panic_sequence=ahead).encode())
    scene.put_switches(Switches(ahead))


def too_many(scene: Scene) -> None:
    """Leave no room for another switch."""
    on = tuple(switch(f"/{number}") for number in range(MAX_SWITCHES))
    scene.put_switches(Switches(scene.closed.sequence + 1, on))


SWITCHES: Final = [
    Row("an unsigned switch", lambda s: s.put_switches(opened(s)), UNSIGNED),
    Row("signed by the enemy", lambda s: s.put_switches(opened(s), s.enemy), NO_KEY),
    Row("a switch under the signature of none", evil(), NO_KEY),
    Row("a switch under a later sequence", later(lambda known: known + 9), NO_KEY),
    Row("a switch of a larger scope", widened, NO_KEY),
    Row(
        "a switch that is off put back",
        lambda s: s.put_switches(s.opened),
        "older than the one that is",
    ),
    Row(
        "a switch that is off, under a later sequence",
        lambda s: s.put_switches(replace(s.opened, sequence=s.closed.sequence + 1)),
        NO_KEY,
    ),
    Row(
        "signed for another environment",
        lambda s: s.put_switches(opened(s), s.signer, environment=FOREIGN),
        NO_KEY,
    ),
    Row(
        "under the signature of the head",
        lambda s: s.put_switches(replace(opened(s), signature=s.head.signature)),
        NO_KEY,
    ),
    Row("an empty signature", evil(signature=""), NO_KEY),
    Row("a list of signatures", evil(signature=[""]), UNREADABLE),
    Row("switches twice, evil last", lambda s: on_twice(s, evil_last=True), NO_KEY),
    Row("switches twice, evil first", lambda s: on_twice(s, evil_last=False)),
    Row("the largest sequence", evil(sequence=2**53 - 1), UNREADABLE),
    Row(
        "nothing on, under the largest sequence",
        lambda s: s.put_switches_value(sequence=2**53 - 1),
        UNREADABLE,
    ),
    Row(
        "nothing on, nine years ahead",
        lambda s: s.put_switches(Switches(now_ms() + 9 * YEAR_MS)),
        UNSIGNED,
    ),
    Row("a forged report of nine years ahead", forged_report, UNSIGNED),
    Row("as many switches as there may be", too_many, UNSIGNED),
    Row("a float for a sequence", later(lambda known: float(known + 1)), UNREADABLE),
    Row("text for a sequence", later(lambda known: str(known + 1)), UNREADABLE),
    Row("true for a sequence", evil(sequence=True), UNREADABLE),
    Row("a negative sequence", evil(sequence=-1), UNREADABLE),
    Row("a wide slash for a scope", lambda s: s.put_switches(opened(s, "\uff0f")), UNREADABLE),
    Row("half a character for a scope", evil(switches=[{"scope": "\ud800"}]), UNREADABLE),
    Row("unknown fields", lambda s: s.put_switches_value(on=["/"], scope="/")),
    Row("a head", lambda s: s.store.put(PANIC, s.head.encode()), UNREADABLE),
    Row("nothing", lambda s: s.store.delete(PANIC)),
    Row("junk", lambda s: s.store.put(PANIC, b"junk"), UNREADABLE),
]
