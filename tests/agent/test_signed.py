"""Agents with public keys obey only heads that one of these keys has signed."""

from __future__ import annotations

import base64
import json
import os
import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agent.signatures import ACME, EVIL, GOOD, Keys, environment_of, head_of, signed, upload
from etcd_server import wait_for
from ratectl.errors import UsageError
from ratectl.fleet.usage import read_agents
from ratectl.policy.bundle import digest, encode_policies
from ratectl.publishing._publish import publish, rollback
from ratectl.records import (
    ENVIRONMENT,
    HEAD,
    Candidate,
    Environment,
    Head,
)
from ratectl.rollout import Controlling, Terms, read_rollout
from ratectl.rollout._start import start
from ratectl.signing.signatures import Signer, generate_key, message
from ratectl.stores import open_store
from support import ME, once, simple

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import ratectl
    from ratectl.stores.base import Store

    Make = Callable[..., ratectl.Agent]

pytestmark = once


def flipped(signature: str | None) -> str:
    raw = bytearray(base64.b64decode(signature or ""))
    raw[17] ^= 1
    return base64.b64encode(raw).decode()


def test_agent_follows_signed_generations(
    published: Store, store_url: str, make_agent: Make, keys: Keys
):
    agent = make_agent(store_url, public_keys=[keys.public])
    assert (agent.generation, agent.status.error) == (2, None)
    entry = publish(published, simple("3/s"), ME, signer=keys.signer)
    assert entry is not None
    assert agent.wait_for_generation(3, 5)
    assert rollback(published, 2, ME, signer=keys.signer) is not None
    assert agent.wait_for_generation(4, 5)
    assert agent.check("/", ACME).capacity == 2


class Scene(NamedTuple):
    """A store with a good head, and the data of an attacker who can write it but not sign."""

    store: Store
    evil: Signer
    """A key that no agent trusts."""
    first: Head
    """The signed head of generation 1, which is no longer live."""
    head: Head
    foreign: Head
    """Signed by the trusted key, for environment ``fff…``."""
    later: Head
    """Signed for this environment; the bytes of its bundle are missing."""
    twin: Head
    """Signed; it has the sequence of ``head`` and other content."""


# Each of these functions changes the store, and returns a part of the agent's error.


def stripped(scene: Scene) -> str:
    scene.store.put(
        HEAD, replace(scene.head, sequence=scene.head.sequence + 1, signature=None).encode()
    )
    return "not signed"


def unsigned_by_an_older_writer(scene: Scene) -> str:
    value = json.loads(replace(scene.head, sequence=scene.head.sequence + 1).encode())
    del value["signature"]
    scene.store.put(HEAD, json.dumps(value).encode())
    return "not signed"


def wrong_key(scene: Scene) -> str:
    forged = replace(
        scene.head,
        sequence=scene.head.sequence + 9,
        generation=9,
        latest=9,
        bundle=upload(scene.store, encode_policies(EVIL)),
    )
    scene.store.put(HEAD, signed(scene.store, forged, scene.evil).encode())
    return "not from a key that this agent trusts"


def flipped_signature(scene: Scene) -> str:
    scene.store.put(HEAD, replace(scene.head, signature=flipped(scene.head.signature)).encode())
    return "not from a key that this agent trusts"


def truncated_signature(scene: Scene) -> str:
    scene.store.put(HEAD, replace(scene.head, signature=(scene.head.signature or "")[:-8]).encode())
    return "not from a key that this agent trusts"


def signature_that_is_no_base64(scene: Scene) -> str:
    scene.store.put(HEAD, replace(scene.head, signature="é" * 88).encode())
    return "not from a key that this agent trusts"


def empty_signature(scene: Scene) -> str:
    scene.store.put(HEAD, replace(scene.head, signature="").encode())
    return "not from a key that this agent trusts"


def another_bundle(scene: Scene) -> str:
    scene.store.put(
        HEAD, replace(scene.head, bundle=upload(scene.store, encode_policies(EVIL))).encode()
    )
    return "not from a key that this agent trusts"


def another_generation(scene: Scene) -> str:
    scene.store.put(HEAD, replace(scene.head, generation=3, latest=3).encode())
    return "not from a key that this agent trusts"


def a_later_sequence(scene: Scene) -> str:
    scene.store.put(HEAD, replace(scene.head, sequence=scene.head.sequence + 5).encode())
    return "not from a key that this agent trusts"


def a_candidate_for_everybody(scene: Scene) -> str:
    candidate = Candidate(
        generation=3, bundle=upload(scene.store, encode_policies(EVIL)), rollout="r", percent=100
    )
    scene.store.put(HEAD, replace(scene.head, candidate=candidate).encode())
    return "not from a key that this agent trusts"


def another_latest(scene: Scene) -> str:
    scene.store.put(HEAD, replace(scene.head, latest=99).encode())
    return "not from a key that this agent trusts"


def old_generation(scene: Scene) -> str:
    scene.store.put(HEAD, scene.first.encode())
    return "an old head was put back"


def another_head_of_the_same_sequence(scene: Scene) -> str:
    scene.store.put(HEAD, scene.twin.encode())
    return f"has the same sequence ({scene.head.sequence})"


def other_environment(scene: Scene) -> str:
    """Put a head that the trusted key signed for another environment, and its identity."""
    scene.store.put(HEAD, scene.foreign.encode())
    return "not from a key that this agent trusts"


def other_environments_store(scene: Scene) -> str:
    foreign = Environment(id="f" * 32, created="2026-01-01T00:00:00.000Z")
    scene.store.put(ENVIRONMENT, foreign.encode())
    scene.store.put(HEAD, scene.foreign.encode())
    return "this agent belongs to"


def no_environment(scene: Scene) -> str:
    scene.store.delete(ENVIRONMENT)
    scene.store.put(HEAD, scene.foreign.encode())
    return "this agent belongs to"


def flipped_byte_of_the_bundle(scene: Scene) -> str:
    """Publish a signed head, and change the bytes of its bundle in the store."""
    data = bytearray(encode_policies(simple("7/s")))
    sha256 = digest(bytes(data))
    data[len(data) // 2] ^= 1
    upload(scene.store, bytes(data), sha256)
    scene.store.put(HEAD, scene.later.encode())
    return "is corrupt"


def missing_bundle(scene: Scene) -> str:
    scene.store.put(HEAD, scene.later.encode())
    return "is not in the store"


TAMPERED = [
    stripped, unsigned_by_an_older_writer, wrong_key, flipped_signature, truncated_signature,
    signature_that_is_no_base64, empty_signature, another_bundle, another_generation,
    a_later_sequence, a_candidate_for_everybody, another_latest, old_generation,
    another_head_of_the_same_sequence, other_environment,
    other_environments_store, no_environment, flipped_byte_of_the_bundle, missing_bundle,
]  # fmt: skip


@pytest.mark.parametrize("tamper", TAMPERED, ids=lambda each: each.__name__)
def test_tampered_store_is_refused_and_the_old_generation_stays(
    store: Store,
    store_url: str,
    make_agent: Make,
    keys: Keys,
    tmp_path: Path,
    tamper: Callable[[Scene], str],
):
    assert publish(store, EVIL, ME, signer=keys.signer) is not None
    first = head_of(store)
    assert publish(store, GOOD, ME, signer=keys.signer) is not None
    sequence = head_of(store).sequence + 1
    evil, missing = upload(store, encode_policies(EVIL)), digest(encode_policies(simple("7/s")))
    foreign = Head(sequence=sequence, generation=9, bundle=evil)
    later = Head(sequence=sequence, generation=3, bundle=missing)
    scene = Scene(
        store,
        Keys(tmp_path, "evil").signer,
        first,
        head_of(store),
        signed(store, foreign, keys.signer, "f" * 32),
        signed(store, later, keys.signer),
        signed(store, replace(head_of(store), bundle=foreign.bundle), keys.signer),
    )
    agent = make_agent(store_url, id="me", public_keys=[keys.public])
    assert agent.generation == 2
    reason = tamper(scene)
    wait_for(lambda: reason in (agent.status.error or ""), f"{reason!r} is reported", 10)
    (record,) = wait_for(
        lambda: (found := [each for each in read_agents(store) if each.error]) and found,
        "the refusal is reported",
    )
    assert record.state == "rejected"
    decision = agent.check("/", ACME)
    assert (decision.generation, decision.capacity) == (2, 2)
    agent.close()

    restarted = make_agent(store_url, id="me", public_keys=[keys.public])
    wait_for(lambda: reason in (restarted.status.error or ""), "it is refused again", 10)
    assert restarted.check("/", ACME).generation == 2, "from disk"
    restarted.close()

    # A new agent knows neither an older head nor an environment.
    ancient = (old_generation, another_head_of_the_same_sequence, other_environments_store)
    if tamper not in ancient:
        newcomer = make_agent(
            store_url, public_keys=[keys.public], state_dir=tmp_path / "new", ready_timeout=0
        )
        wait_for(lambda: newcomer.status.error, "it is refused by a newcomer", 10)
        assert newcomer.check("/", ACME).reason == "error"


def test_agent_with_an_environment_refuses_any_other(
    published: Store, store_url: str, make_agent: Make, keys: Keys
):
    good = make_agent(
        store_url, id="a", public_keys=[keys.public], environment=environment_of(published)
    )
    assert good.generation == 2
    other = make_agent(
        store_url, id="b", public_keys=[keys.public], environment="f" * 32, ready_timeout=0
    )
    wait_for(lambda: "belongs to" in (other.status.error or ""), "it is refused", 10)
    assert other.generation == 0


@pytest.mark.parametrize("part", ["head", "data", "signature", "accepted"])
def test_last_good_is_verified_too(
    published: Store, store_url: str, make_agent: Make, keys: Keys, tmp_path: Path, part: str
):
    make_agent(store_url, id="me", public_keys=[keys.public]).close()
    (file,) = (tmp_path / "state").rglob("last-good")
    header, _, data = file.read_bytes().partition(b"\n")
    said = json.loads(header)
    if part == "head":  # another generation's bytes, and a head that would name them
        data = encode_policies(EVIL)
        said["bundle"] = said["head"]["live"]["bundle"] = digest(data)
    elif part == "data":
        data = encode_policies(EVIL)
    elif part == "signature":
        said["head"]["signature"] = None
    else:
        (file.parent / "accepted").write_bytes(b"junk")
    file.write_bytes(json.dumps(said).encode() + b"\n" + data)
    with open_store(store_url) as store:
        store.delete(HEAD)
    agent = make_agent(store_url, id="me", public_keys=[keys.public], ready_timeout=0)
    if part == "accepted":
        assert agent.generation == 2
    else:
        assert agent.generation == 0
        assert "last-good" in (agent.status.error or "")


def test_signature_of_any_trusted_key_is_enough(
    published: Store, store_url: str, make_agent: Make, keys: Keys, tmp_path: Path
):
    """This allows key rotation: agents get the new key first, then publishers do."""
    new = Keys(tmp_path, "new")
    both = tmp_path / "both.pub"
    both.write_bytes(new.public.read_bytes() + b"\n" + keys.public.read_bytes())
    agent = make_agent(store_url, public_keys=[both])
    assert agent.generation == 2
    assert publish(published, simple("3/s"), ME, signer=new.signer) is not None
    assert agent.wait_for_generation(3, 5)


def test_a_signed_rollout_is_followed_step_by_step(
    published: Store, store_url: str, make_agent: Make, keys: Keys
):
    agent = make_agent(store_url, public_keys=[keys.public])
    terms = Terms.of([50.0, 100.0], bake_seconds=0, min_requests=0)
    entry = start(published, simple("3/s"), ME, terms, signer=keys.signer)
    assert entry is not None
    final = Controlling(published, read_rollout(published).record, signer=keys.signer).run(30)
    assert final.state == "promoted"
    assert agent.wait_for_generation(entry.generation, 5)
    assert agent.status.error is None


def test_without_keys_signatures_do_not_matter(
    published: Store, store_url: str, make_agent: Make, keys: Keys
):
    agent = make_agent(store_url)
    assert agent.generation == 2
    assert publish(published, simple("3/s"), ME) is not None
    assert agent.wait_for_generation(3, 5)


def test_empty_list_of_keys_is_an_error(tmp_path: Path, make_agent: Make, keys: Keys):
    url = f"sqlite:///{tmp_path}/r.db"
    empty = tmp_path / "empty.pub"
    empty.touch()
    junk = tmp_path / "junk.pub"
    junk.write_bytes(keys.public.read_bytes() + b"and more")
    damaged = tmp_path / "damaged.pub"
    damaged.write_bytes(keys.public.read_bytes().replace(b"MCow", b"MCoX"))
    other = tmp_path / "other.pub"
    other.write_bytes(
        ec.generate_private_key(ec.SECP256R1())
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    cases: list[tuple[Any, str]] = [
        ([], "public_keys is empty"),
        ([empty], "holds no public keys"),
        ([junk], "or other data after them"),
        ([damaged], "not a public key"),
        ([other], "not an Ed25519 key"),
        ([tmp_path / "nowhere.pub"], "cannot read the key"),
        ([tmp_path / "platform.key"], "holds no public keys"),
    ]
    for given, said in cases:
        with pytest.raises(UsageError, match=said):
            make_agent(url, public_keys=given)
    with pytest.raises(UsageError, match="needs public_keys"):
        make_agent(url, environment="x")
    with pytest.raises(UsageError, match="a directory is not signed"):
        make_agent(str(tmp_path), public_keys=[keys.public])


def test_key_files_are_private_and_never_overwritten(tmp_path: Path):
    private, public = tmp_path / "a.key", tmp_path / "a.pub"
    generate_key(private, public)
    assert private.stat().st_mode & 0o777 == 0o600
    before = private.read_bytes()
    with pytest.raises(UsageError, match="exists already"):
        generate_key(private, public)
    assert private.read_bytes() == before
    private.unlink()
    with pytest.raises(UsageError, match="exists already"):
        generate_key(private, public)
    assert not private.exists()
    with pytest.raises(UsageError, match="cannot write"):
        generate_key(tmp_path / "no" / "a.key", tmp_path / "no" / "a.pub")
    public.unlink()
    public.mkdir()
    with pytest.raises(UsageError, match="exists already"):
        generate_key(private, public)
    public.rmdir()
    generate_key(private, public)
    with pytest.raises(UsageError, match="is not a private key"):
        Signer.load(public)
    public.write_bytes(b"something else\n" + public.read_bytes())
    with pytest.raises(UsageError, match="is not an environment"):
        Signer.load(public)
    another = tmp_path / "another.key"
    generate_key(another, tmp_path / "another.pub")
    another.write_bytes(private.read_bytes() + another.read_bytes())
    with pytest.raises(UsageError, match="more than one key"):
        Signer.load(another)
    shutil.rmtree(tmp_path)
    with pytest.raises(UsageError, match="cannot read the key"):
        Signer.load(private)


def test_a_signature_covers_every_field_of_a_head():
    candidate = Candidate(generation=4, bundle="c", rollout="r", percent=5.0)
    head = Head(sequence=1, generation=3, bundle="b", candidate=candidate, latest=4)
    others = [
        replace(head, sequence=2),
        replace(head, generation=2),
        replace(head, bundle="x"),
        replace(head, latest=5),
        replace(head, candidate=None),
        replace(head, candidate=replace(candidate, generation=5)),
        replace(head, candidate=replace(candidate, bundle="x")),
        replace(head, candidate=replace(candidate, rollout="x")),
        replace(head, candidate=replace(candidate, percent=6.0)),
        replace(head, candidate=replace(candidate, mode="shadow")),
        replace(head, candidate=replace(candidate, terms="x")),
    ]
    messages = {message("head", "e", each.signed_part()) for each in (head, *others)}
    messages |= {
        message("head", "f", head.signed_part()),
        message("panic", "e", head.signed_part()),
    }
    assert len(messages) == len(others) + 3
    assert Head.decode(replace(head, signature="s").encode()).signed_part() == head.signed_part()


def test_forked_child_knows_heads_accepted_by_its_parent(
    published: Store, store_url: str, make_agent: Make, keys: Keys
):
    first = replace(head_of(published))
    assert publish(published, simple("3/s"), ME, signer=keys.signer) is not None
    agent = make_agent(store_url, public_keys=[keys.public])
    assert agent.generation == 3
    published.put(HEAD, first.encode())
    wait_for(lambda: "an old head" in (agent.status.error or ""), "it is refused", 10)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        deadline = time.monotonic() + 10
        while not agent.status.rejected and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.5)
        said = f"{agent.generation} {agent.status.error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    assert said.startswith("3 ")
    assert "an old head was put back" in said


def test_new_agent_knows_heads_accepted_by_its_neighbours(
    published: Store, store_url: str, make_agent: Make, keys: Keys
):
    first = head_of(published)
    make_agent(store_url, id="one", public_keys=[keys.public]).close()
    assert publish(published, simple("3/s"), ME, signer=keys.signer) is not None
    two = make_agent(store_url, id="two", public_keys=[keys.public])
    assert two.wait_for_generation(3, 5)
    published.put(HEAD, first.encode())
    again = make_agent(store_url, id="one", public_keys=[keys.public])
    wait_for(lambda: "an old head" in (again.status.error or ""), "it is refused", 10)


def test_empty_environment_is_refused(tmp_path: Path, make_agent: Make, keys: Keys):
    for empty in ("", " "):
        with pytest.raises(UsageError, match="environment is empty"):
            make_agent(f"sqlite:///{tmp_path}/r.db", public_keys=[keys.public], environment=empty)


def test_stale_head_read_is_not_reported_as_tampering(
    published: Store, store_url: str, make_agent: Make, keys: Keys
):
    stale = published.get(HEAD)
    agent = make_agent(store_url, public_keys=[keys.public])
    assert publish(published, simple("3/s"), ME, signer=keys.signer) is not None
    assert agent.wait_for_generation(3, 5)
    agent._following.adoption.see(published, {HEAD: stale})
    assert (agent.generation, agent.status.rejected) == (3, None)
