"""Tampering with the history, with rollouts, and with their controllers."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from agent.signatures import environment_of, upload
from agent.tampering.scene import FOREIGN, NO_KEY, TRIED, Row, Scene
from ratectl.policy.bundle import digest, encode_policies
from ratectl.publishing.ownership import Owners
from ratectl.records import CONTROLLER, MAX_GENERATION, history_key, rollout_key
from ratectl.rollout import read_rollout

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.signing.signatures import Signer

__all__ = ["HISTORY", "ROLLOUTS"]


def swapped(scene: Scene) -> None:
    """Swap two signed entries: a rollback to 2 would go back to 1."""
    one, two = scene.entry(1), scene.entry(2)
    scene.store.put(history_key(1), two.encode())
    scene.store.put(history_key(2), one.encode())


def signed(
    kind: str = "generation", environment: str | None = None, *, enemy: bool = False
) -> Callable[[Scene], None]:
    """Sign an evil entry for generation 2 as another kind of record."""

    def tamper(scene: Scene) -> None:
        entry = replace(scene.entry(2), bundle=scene.evil)
        signer: Signer = scene.enemy if enemy else scene.signer
        here = environment or environment_of(scene.store)
        scene.put_entry(
            2, bundle=scene.evil, signature=signer.sign(kind, here, entry.signed_part())
        )

    return tamper


def other_owners(scene: Scene) -> None:
    scene.put_entry(2, owners=upload(scene.store, Owners({"/": "evil"}).encode()))


def no_history(scene: Scene) -> None:
    for number in (1, 2, 3):
        scene.store.delete(history_key(number))


HISTORY: Final = [
    Row("an entry of evil policies", lambda s: s.put_entry(2, bundle=s.evil)),
    Row("an unsigned entry", lambda s: s.put_entry(2, bundle=s.evil, signature=None)),
    Row("an entry of the enemy's", signed(enemy=True)),
    Row("an entry that is signed as a head", signed("head")),
    Row("an entry of another environment", signed(environment=FOREIGN)),
    Row("an entry of other owners", other_owners),
    Row("an entry of another number", lambda s: s.put_entry(2, generation=1)),
    Row("two entries swapped", swapped),
    Row(
        "an entry far above",
        lambda s: s.store.put(history_key(MAX_GENERATION), s.entry(1).encode()),
    ),
    Row("no entries", no_history),
    Row("junk", lambda s: s.store.put(history_key(2), b"junk")),
]


def tried(**changes: Any) -> Callable[[Scene], None]:
    """Change the candidate, under the signature of the head."""

    def tamper(scene: Scene) -> None:
        scene.under_way()
        assert scene.head.candidate is not None
        scene.put_head(candidate=replace(scene.head.candidate, **changes))

    return tamper


def record(**changes: Any) -> Callable[[Scene], None]:
    """Change the record of a rollout that is under way, and pretend to control it."""

    def tamper(scene: Scene) -> None:
        scene.under_way()
        known = read_rollout(scene.store).record
        document = {**json.loads(known.encode()), **changes}
        scene.store.put(rollout_key(known.generation), json.dumps(document).encode())
        scene.controlled_by(known.id)

    return tamper


def no_record(scene: Scene) -> None:
    scene.under_way()
    scene.store.delete(rollout_key(scene.head.latest))


def evil_candidate(scene: Scene) -> None:
    tried(bundle=scene.evil, percent=100.0)(scene)


def promoted(scene: Scene) -> None:
    """Make the candidate live, under the signature that it has as a candidate."""
    scene.under_way()
    bundle = digest(encode_policies(TRIED))
    scene.put_head(generation=scene.head.latest, bundle=bundle, candidate=None)


def aborted_and_controlled(scene: Scene) -> None:
    """Put the head of an aborted candidate back, and pretend to control it."""
    assert scene.tried_head.candidate is not None
    scene.put_head(scene.tried_head)
    scene.controlled_by(scene.tried_head.candidate.rollout)


def controller(data: bytes) -> Callable[[Scene], None]:
    def tamper(scene: Scene) -> None:
        scene.under_way()
        scene.store.put(CONTROLLER, data)

    return tamper


ROLLOUTS: Final = [
    Row("a larger share", tried(percent=100.0), NO_KEY),
    Row("a share in other figures", tried(percent=50), NO_KEY),
    Row("another mode", tried(mode="shadow"), NO_KEY),
    Row("another rollout", tried(rollout="r"), NO_KEY),
    Row("other terms", tried(terms=""), NO_KEY),
    Row("an evil candidate", evil_candidate, NO_KEY),
    Row("promoted without a signature", promoted, NO_KEY),
    Row("an aborted rollout put back, and controlled", aborted_and_controlled, "an old head"),
    Row("a record of other stages", record(stages=[100.0])),
    Row("a record of no bake", record(bake_seconds=0, min_requests=0)),
    Row("a record of a later stage", record(stage=1)),
    Row("a record that says it is promoted", record(state="promoted")),
    Row("a record of another generation", record(generation=3)),
    Row("a record of another id", record(id="r")),
    Row("text for stages", record(stages="100", min_requests="0")),
    Row("no record", no_record),
    Row("a controller of the enemy's", record()),
    Row("a controller that is a list", controller(b'{"format":1,"rollout":["r"]}')),
    Row("a controller that is junk", controller(b"junk")),
]
