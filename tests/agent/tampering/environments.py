"""Tampering with the identity of the store."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from agent.signatures import EVIL, environment_of
from agent.tampering.scene import FOREIGN, NO_KEY, Row, Scene, opened
from ratectl.errors import RatectlError
from ratectl.publishing._publish import publish
from ratectl.records import ENVIRONMENT, history_key
from support import ME

__all__ = ["ENVIRONMENTS"]

ELSEWHERE: Final = "this agent belongs to"
UNREADABLE: Final = "not a readable Environment"


def another_store(scene: Scene) -> None:
    """Copy all records of another environment whose publisher uses the same key."""
    scene.put_identity()
    scene.put_head(
        scene.foreign(
            replace(scene.head, sequence=scene.head.sequence + 9, generation=9, bundle=scene.evil)
        )
    )
    scene.put_switches(opened(scene), scene.signer, environment=FOREIGN)
    entry = replace(scene.entry(1), generation=2)
    signature = scene.signer.sign("generation", FOREIGN, entry.signed_part())
    scene.store.put(history_key(2), replace(entry, signature=signature).encode())


def no_identity_and_a_foreign_head(scene: Scene) -> None:
    scene.store.delete(ENVIRONMENT)
    scene.put_head(
        scene.foreign(replace(scene.head, sequence=scene.head.sequence + 9, bundle=scene.evil))
    )


def published_under_another_identity(scene: Scene) -> None:
    """Show an honest publisher another identity, then restore the real one."""
    here = scene.store.get(ENVIRONMENT)
    assert here is not None
    scene.put_identity()
    try:
        publish(scene.store, EVIL, ME, signer=scene.operator)
    except RatectlError:  # a bound key
        scene.put_head(
            scene.foreign(replace(scene.head, sequence=scene.head.sequence + 9, bundle=scene.evil))
        )
    scene.store.put(ENVIRONMENT, here.value)


ENVIRONMENTS: Final = [
    Row("another identity", lambda s: s.put_identity(), ELSEWHERE),
    Row("no identity", lambda s: s.store.delete(ENVIRONMENT), ELSEWHERE),
    Row("no identity, and a foreign head", no_identity_and_a_foreign_head, ELSEWHERE),
    Row("another environment's store", another_store, ELSEWHERE),
    Row("published under another identity", published_under_another_identity, NO_KEY),
    Row("a number", lambda s: s.put_identity(7), UNREADABLE),
    Row("two lines", lambda s: s.put_identity(f"{environment_of(s.store)}\n"), UNREADABLE),
    Row("letters that look alike", lambda s: s.put_identity("\uff46" * 32), UNREADABLE),
    Row("junk", lambda s: s.store.put(ENVIRONMENT, b"junk"), UNREADABLE),
]
