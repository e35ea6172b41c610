"""Tampering with the bytes of policies that a signed head names."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from agent.signatures import EVIL, upload
from agent.tampering.scene import NEXT, Row, Scene
from ratectl.policy.bundle import encode_policies
from ratectl.records import MANIFESTS, Manifest, chunk_key

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BUNDLES"]

GOOD: Final = encode_policies(NEXT)
BAD: Final = encode_policies(EVIL)
HALF: Final = len(GOOD) // 2


def of_bytes(change: Callable[[bytes], bytes]) -> Callable[[Scene], None]:
    """Change the only chunk of a bundle that a signed head will name."""
    return lambda scene: scene.later(lambda sha256: upload(scene.store, change(GOOD), sha256))


def in_chunks(*chunks: bytes) -> Callable[[Scene], None]:
    """Store a bundle in these chunks."""

    def tamper(scene: Scene) -> None:
        def damage(sha256: str) -> None:
            for number, chunk in enumerate(chunks):
                scene.store.put(chunk_key(sha256, number), chunk)
            size = sum(map(len, chunks))
            manifest = Manifest(size=size, chunks=len(chunks), wanted="2026-01-01T00:00Z")
            scene.store.put(MANIFESTS + sha256, manifest.encode())

        scene.later(damage)

    return tamper


def manifest(**changes: Any) -> Callable[[Scene], None]:
    """Change the manifest of a bundle."""

    def tamper(scene: Scene) -> None:
        def damage(sha256: str) -> None:
            item = scene.store.get(MANIFESTS + sha256)
            assert item is not None
            document = {**json.loads(item.value), **changes}
            scene.store.put(MANIFESTS + sha256, json.dumps(document).encode())

        scene.later(damage)

    return tamper


def no_manifest(scene: Scene) -> None:
    scene.later(lambda sha256: scene.store.delete(MANIFESTS + sha256))


def no_chunk(scene: Scene) -> None:
    scene.later(lambda sha256: scene.store.delete(chunk_key(sha256, 0)))


def live_replaced(scene: Scene) -> None:
    """Replace the live bundle, which the agent has on its disk already."""
    upload(scene.store, BAD, scene.head.bundle)


BUNDLES: Final = [
    Row("the bytes of another bundle", of_bytes(lambda _: BAD), "corrupt"),
    Row("a bit flipped", of_bytes(lambda data: bytes([data[0] ^ 1]) + data[1:]), "corrupt"),
    Row("cut off", of_bytes(lambda data: data[:-1]), "corrupt"),
    Row("a line added", of_bytes(lambda data: data + b"\n"), "corrupt"),
    Row("no bytes", of_bytes(lambda _: b""), "corrupt"),
    Row("chunks in another order", in_chunks(GOOD[HALF:], GOOD[:HALF]), "corrupt"),
    Row("a chunk of another bundle", in_chunks(GOOD[:HALF], BAD[HALF:]), "corrupt"),
    Row("a chunk twice", in_chunks(GOOD, GOOD), "corrupt"),
    Row("a manifest of another size", manifest(size=1), "incomplete"),
    Row("a manifest of more chunks", manifest(chunks=2), "incomplete"),
    Row("a manifest of endless size", manifest(size=2**62), "says it has"),
    Row("a manifest of negative size", manifest(size=-1), "says it has"),
    Row("text for a size", manifest(size=str(len(GOOD))), "not a readable Manifest"),
    Row("no manifest", no_manifest, "is not in the store"),
    Row("no chunk", no_chunk, "incomplete"),
    Row("the live bundle replaced", live_replaced),
]
