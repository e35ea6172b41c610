"""Tampering with the head: its live generation, and its candidate."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from agent.signatures import YEAR_MS, environment_of, signed
from agent.tampering.scene import NO_KEY, UNSIGNED, Row, Scene, everybody
from ratectl.records import HEAD, now_ms

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["HEADS"]

UNREADABLE: Final = "not a readable Head"
OLD: Final = "an old head was put back"


def evil(scene: Scene, **changes: Any) -> None:
    """Make the evil policies live, under the signature of the good head."""
    scene.put_head_value(live={"generation": 9, "bundle": scene.evil}, **changes)


def live(scene: Scene, **changes: Any) -> None:
    """Change the head's live generation, under the signature of the good head."""
    scene.put_head_value(live={"generation": 2, "bundle": scene.evil, **changes})


def respelt(change: Callable[[str], object]) -> Callable[[Scene], None]:
    """Make the evil policies live, under the good head's signature in another encoding."""
    return lambda scene: evil(scene, signature=change(scene.head.signature or ""))


def flipped(signature: str) -> str:
    raw = bytearray(base64.b64decode(signature))
    raw[17] ^= 1
    return base64.b64encode(raw).decode()


def signed_by_the_enemy(scene: Scene) -> None:
    head = replace(
        scene.head, sequence=scene.head.sequence + 9, generation=9, latest=9, bundle=scene.evil
    )
    scene.store.put(HEAD, signed(scene.store, head, scene.enemy).encode())


def signed_as(kind: str) -> Callable[[Scene], None]:
    """Use a signature of the trusted key for the same content, but another kind of record."""

    def tamper(scene: Scene) -> None:
        head = replace(
            scene.head, sequence=scene.head.sequence + 9, generation=9, latest=9, bundle=scene.evil
        )
        here = environment_of(scene.store)
        scene.put_head(head, signature=scene.signer.sign(kind, here, head.signed_part()))

    return tamper


def candidate(**changes: Any) -> Callable[[Scene], None]:
    """Add an evil candidate for every agent."""
    return lambda scene: scene.put_head(candidate=everybody(scene, **changes))


def live_twice(scene: Scene, *, evil_last: bool) -> None:
    """Write JSON with two ``live`` fields: some readers take the first, others the last."""
    good = json.dumps(json.loads(scene.head.encode())["live"], separators=(",", ":"))
    bad = json.dumps({"generation": 2, "bundle": scene.evil}, separators=(",", ":"))
    pair = (good, bad) if evil_last else (bad, good)
    scene.put_head_text(f'"live":{good}', f'"live":{pair[0]},"live":{pair[1]}')


def live_twice_in_other_letters(scene: Scene) -> None:
    """Write a second ``live`` field whose name has an escape: in JSON it is the same name."""
    bad = json.dumps({"generation": 2, "bundle": scene.evil})
    scene.put_head_text('"signature"', f'"l\\u0069ve":{bad},"signature"')


HEADS: Final = [
    Row(
        "the signature taken away",
        lambda s: s.put_head(signature=None, sequence=s.head.sequence + 9),
        UNSIGNED,
    ),
    Row("evil, and unsigned", lambda s: evil(s, signature=None), UNSIGNED),
    Row("evil, under a good signature", evil, NO_KEY),
    Row("signed by the enemy", signed_by_the_enemy, NO_KEY),
    Row("a bit of the signature flipped", respelt(flipped), NO_KEY),
    Row("the signature cut off", respelt(lambda text: text[:-8]), NO_KEY),
    Row("an empty signature", respelt(lambda _: ""), NO_KEY),
    Row("zeros for a signature", respelt(lambda _: base64.b64encode(bytes(64)).decode()), NO_KEY),
    Row("base64 for URLs", respelt(lambda text: text.translate({43: "-", 47: "_"})), NO_KEY),
    Row("base64 with blanks", respelt(lambda text: f" {text}\n"), NO_KEY),
    Row("base64 without its end", respelt(lambda text: text.rstrip("=")), NO_KEY),
    Row("base64 in wide letters", respelt(lambda text: text.replace("A", "\uff21")), NO_KEY),
    Row("a list of signatures", respelt(lambda text: [text]), UNREADABLE),
    Row("true for a signature", respelt(lambda _: True), UNREADABLE),
    Row("signed as a generation", signed_as("generation"), NO_KEY),
    Row("signed as switches", signed_as("panic"), NO_KEY),
    Row(
        "under the signature of a history entry",
        lambda s: evil(s, signature=s.entry(1).signature),
        NO_KEY,
    ),
    Row("under the signature of switches", lambda s: evil(s, signature=s.opened.signature), NO_KEY),
    Row(
        "signed for another environment",
        lambda s: s.put_head(
            s.foreign(replace(s.head, sequence=s.head.sequence + 9, bundle=s.evil))
        ),
        NO_KEY,
    ),
    Row("another sequence", lambda s: s.put_head(sequence=s.head.sequence + 5), NO_KEY),
    Row("another generation", lambda s: s.put_head(generation=3), NO_KEY),
    Row("another highest number", lambda s: s.put_head(latest=99), NO_KEY),
    Row("the head of generation 1 put back", lambda s: s.put_head(s.first_head), OLD),
    Row("an aborted candidate put back", lambda s: s.put_head(s.tried_head), OLD),
    Row("a candidate for everybody", candidate(), NO_KEY),
    Row("a candidate of a share that is no number", candidate(percent=float("nan")), UNREADABLE),
    Row("a candidate of more than all", candidate(percent=1e9), UNREADABLE),
    Row("a candidate of less than nobody", candidate(percent=-1.0), UNREADABLE),
    Row("live twice, evil last", lambda s: live_twice(s, evil_last=True), NO_KEY),
    Row("live twice, evil first", lambda s: live_twice(s, evil_last=False)),
    Row("live twice, once in other letters", live_twice_in_other_letters, NO_KEY),
    Row("unknown fields", lambda s: s.put_head_value(bundle=s.evil, enforce=s.evil)),
    Row("a float for a sequence", lambda s: evil(s, sequence=9.0), UNREADABLE),
    Row("text for a sequence", lambda s: evil(s, sequence="9"), UNREADABLE),
    Row("a negative sequence", lambda s: evil(s, sequence=-1), UNREADABLE),
    Row("the largest sequence", lambda s: evil(s, sequence=2**53 - 1), UNREADABLE),
    Row("nine years ahead", lambda s: evil(s, sequence=now_ms() + 9 * YEAR_MS), NO_KEY),
    Row("true for a generation", lambda s: live(s, generation=True), UNREADABLE),
    Row("text for a generation", lambda s: live(s, generation="9"), UNREADABLE),
    Row("the largest number", lambda s: s.put_head_value(latest=2**53 - 1), UNREADABLE),
    Row("a list for a bundle", lambda s: live(s, bundle=[s.evil]), UNREADABLE),
    Row("half a character for a bundle", lambda s: live(s, bundle="\ud800"), UNREADABLE),
    Row("a bundle that is every bundle", lambda s: live(s, bundle=""), NO_KEY),
    Row("another format", lambda s: evil(s, format=2), "newer format"),
    Row("a history entry", lambda s: s.store.put(HEAD, s.entry(1).encode()), UNREADABLE),
    Row("switches", lambda s: s.store.put(HEAD, s.opened.encode()), UNREADABLE),
    Row("nothing", lambda s: s.store.delete(HEAD), "no live generation"),
    Row("junk", lambda s: s.store.put(HEAD, b"\xff" * 100), UNREADABLE),
    Row("JSON without end", lambda s: s.store.put(HEAD, b'{"a":' * 50_000), UNREADABLE),
]
