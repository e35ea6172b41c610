"""Tampering with the state of an agent on disk, while it does not run."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

from agent.signatures import EVIL, YEAR_MS
from agent.tampering.scene import FOREIGN, Row, Scene, everybody, opened, switch
from ratectl.kill_switch.switches import Switches
from ratectl.policy.bundle import encode_policies
from ratectl.records import now_ms

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DISK"]

BAD: Final = encode_policies(EVIL)


def last_good(
    scene: Scene, data: bytes | None = None, head: dict[str, Any] | None = None, **changes: Any
) -> None:
    """Change the header of last-good, the head in it, or the bytes behind it."""
    path = scene.file("last-good")
    line, _, known = path.read_bytes().partition(b"\n")
    header = {**json.loads(line), **changes}
    header["head"] |= head or {}
    path.write_bytes(json.dumps(header).encode() + b"\n" + (known if data is None else data))
    scene.start_from_disk()


def evil(**head: Any) -> Callable[[Scene], None]:
    """Put the evil policies into last-good, and name them in its head."""

    def tamper(scene: Scene) -> None:
        live = {"generation": 2, "bundle": scene.evil}
        last_good(scene, BAD, {"live": live, **head}, bundle=scene.evil)

    return tamper


def evil_candidate(scene: Scene) -> None:
    said = {"candidate": asdict(everybody(scene))}
    last_good(scene, BAD, said, bundle=scene.evil, generation=4)


def twice(scene: Scene) -> None:
    """Write a header with two ``bundle`` fields."""
    path = scene.file("last-good")
    line, _, _ = path.read_bytes().partition(b"\n")
    doubled = line.replace(b'"bundle":', f'"bundle": "{scene.evil}", "bundle":'.encode(), 1)
    path.write_bytes(doubled + b"\n" + BAD)
    scene.start_from_disk()


def accepted(change: Callable[[Scene, str, bytes], bytes]) -> Callable[[Scene], None]:
    """Change the agent's file of the newest accepted head."""

    def tamper(scene: Scene) -> None:
        path = scene.file("accepted")
        environment, _, head = path.read_bytes().partition(b"\n")
        path.write_bytes(change(scene, environment.decode(), head))
        scene.start_from_disk()

    return tamper


def far_ahead(scene: Scene, environment: str, _: bytes) -> bytes:
    head = replace(scene.head, sequence=now_ms() + 9 * YEAR_MS)
    return f"{environment}\n".encode() + head.encode()


def remembered(make: Callable[[Scene], Switches]) -> Callable[[Scene], None]:
    """Change the agent's copy of the store's switches."""

    def tamper(scene: Scene) -> None:
        scene.file("panic.json").write_bytes(make(scene).encode())
        scene.start_from_disk()

    return tamper


def foreign(scene: Scene) -> Switches:
    switches = opened(scene)
    signature = scene.signer.sign("panic", FOREIGN, switches.signed_part())
    return replace(switches, signature=signature)


DISK: Final = [
    Row("evil bytes in last-good", lambda s: last_good(s, BAD)),
    Row("an evil last-good", evil()),
    Row("an evil, unsigned last-good", evil(signature=None)),
    Row("an evil last-good of a later sequence", lambda s: evil(sequence=s.head.sequence + 9)(s)),
    Row("an evil candidate in last-good", evil_candidate),
    Row("two bundles in last-good", twice),
    Row("text for the generation in last-good", lambda s: last_good(s, generation="2")),
    Row("last-good of another environment", lambda s: last_good(s, environment=FOREIGN)),
    Row("an accepted head that nobody has signed", accepted(far_ahead)),
    Row("an accepted head of another environment", accepted(lambda s, _, head: b"f\n" + head)),
    Row("junk for an accepted head", accepted(lambda *_: b"\xff")),
    Row("unsigned switches", remembered(opened)),
    Row("switches widened", remembered(lambda s: replace(s.closed, on=(switch(),)))),
    Row("switches of another environment", remembered(foreign)),
    Row("no switches, far ahead", remembered(lambda s: Switches(now_ms() + 9 * YEAR_MS))),
]
