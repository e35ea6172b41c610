"""Records without a trusted signature are refused, or replaced by a fresh start."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.signatures import upload
from etcd_server import wait_for
from ratectl import Agent
from ratectl.fleet.usage import read_agents
from ratectl.history.generations import read_entry, read_live
from ratectl.kill_switch.switches import PANIC, Switch, Switches, load_switches, read_switches
from ratectl.policy.bundle import digest, encode_policies
from ratectl.publishing.ownership import Owners
from ratectl.publishing.saved_plan import SavedPlan, checksum
from ratectl.records import ENVIRONMENT, HEAD, Candidate, Head, history_key, rollout_key
from ratectl.stores import open_store
from support import simple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cli_support import Cli

    from ratectl.stores.base import Store

SHOP = ("panic", "on", "--scope", "/shop", "--reason", "INC-42")
KEY = ("--sign", "platform.key")


@pytest.fixture
def signed(cli: Cli, published: str) -> str:
    """A store whose live generation, 2, is signed by ``platform.key``."""
    for name in ("platform", "new"):
        assert cli("key", "generate", name).code == 0
    assert cli("apply", "policies", "--yes", *KEY).code == 0
    return published


@pytest.fixture
def store(signed: str) -> Iterator[Store]:
    with open_store(signed) as found:
        yield found


def head_of(store: Store) -> Head:
    head = read_live(store).head
    assert head is not None
    return head


def plant(store: Store, scope: str = "/") -> None:
    """Turn on a switch without a signature."""
    switch = Switch.now(scope, "open", "free for all", "Mallory <m@example.org>")
    store.put(PANIC, Switches().turned_on(switch).encode())


# -- switches


def test_a_planted_switch_is_shown_refused_and_discarded(
    cli: Cli, signed: str, store: Store, tmp_path: Path
) -> None:
    plant(store)
    assert (
        "the switches are not signed: agents with public keys do not obey them" in cli("panic").err
    )
    for words in (SHOP, ("panic", "off", "--scope", "/shop")):
        run = cli(*words, *KEY)
        assert run.code == 77
        assert "(open / by Mallory <m@example.org>) cannot be verified: it is not sig" in run.err
        assert "`ratectl panic off --sign platform.key` discards it" in run.err
        assert "`ratectl panic on --only --sign platform.key`" in run.err
    assert [each.scope for each in read_switches(store).on] == ["/"]
    with Agent(
        signed, id="edge", state_dir=tmp_path / "a", public_keys=["platform.pub"],
        report_interval=0.1,
    ) as agent:  # fmt: skip
        wait_for(lambda: read_agents(store), "it reports")
        run = cli(*SHOP, "--only", "--wait", *KEY)
        assert run.code == 0
        assert "limits are open at and below /shop, from now on\n" in run.out
        assert "the switch at / is off: limits apply again there\n" in run.out
        assert run.err.startswith("warning: the kill switch's record in the store (open /")
        assert run.err.endswith("it is not signed: it was replaced\n")
        assert [each.scope for each in agent.status.panic] == ["/shop"]
        plant(store)
        run = cli("panic", "off", "--wait", *KEY)
        assert run.code == 0
        assert "it was replaced" in run.err
        wait_for(lambda: not agent.status.panic, "nothing is on")
    assert cli(*SHOP, *KEY).err == ""


def test_a_switch_of_another_key_is_not_dropped_silently(cli: Cli, store: Store) -> None:
    assert cli("panic", "on", "--scope", "/small", "--reason", "x", "--sign", "new.key").code == 0
    run = cli(*SHOP, *KEY)
    assert run.code == 77
    assert "it was not signed by this key, or was changed since" in run.err
    assert [each.scope for each in read_switches(store).on] == ["/small"]


def test_signing_does_not_replace_an_unreadable_record_without_only(cli: Cli, store: Store) -> None:
    store.put(PANIC, b'{"format":1,"sequence":9007199254740991,"switches":[]}')
    assert "10 years from now" in cli("panic").err
    run = cli(*SHOP, *KEY)
    assert run.code == 77
    assert "cannot be read" in run.err
    assert "`ratectl panic off --sign platform.key` discards it" in run.err
    assert cli("panic", "off", *KEY).code == 0
    assert cli(*SHOP, *KEY).code == 0


def test_only_works_in_a_file_and_without_keys(cli: Cli, published: str) -> None:
    for local in ([], ["--local", "--state-dir", "agents"]):
        assert cli("panic", "on", "--scope", "/small", "--reason", "x", *local).code == 0
        run = cli(*SHOP, "--only", *local)
        assert run.code == 0
        assert "the switch at /small is off" in run.out
    with open_store(published) as store:
        assert [each.scope for each in read_switches(store).on] == ["/shop"]
    assert [each.scope for each in load_switches(Path("agents/panic.json")).on] == ["/shop"]


# -- heads


def test_first_signing_and_another_key_start_afresh_with_a_warning(cli: Cli, signed: str) -> None:
    with open_store(signed) as store:
        run = cli("apply", "policies", "--yes", "--sign", "new.key")
        assert run.code == 0
        assert (
            "warning: generation 3 starts afresh, and takes nothing from the live one: it was not "
            "signed by this key" in run.err
        )
        assert head_of(store).sequence > 1_700_000_000_000
    again = cli("apply", "policies", "--yes", "--sign", "new.key")
    assert "nothing to do: generation 3" in again.out
    assert again.err == ""


def forged(store: Store) -> None:
    """Let the head name a candidate, an old generation, and invented numbers."""
    candidate = Candidate(generation=9, bundle="b" * 64, rollout="r", percent=100.0)
    head = replace(head_of(store), generation=1, candidate=candidate, latest=9)
    store.put(HEAD, head.encode())


def beyond(store: Store) -> None:
    """Let the head have a time in another millennium."""
    value = json.loads(head_of(store).encode())
    store.put(HEAD, json.dumps({**value, "sequence": 2**53 - 1}).encode())


def gone(store: Store) -> None:
    store.delete(HEAD)


@pytest.mark.parametrize("damage", [forged, beyond, gone], ids=lambda each: each.__name__)
def test_files_can_be_published_after_damage_to_the_head(
    cli: Cli, store: Store, damage: Callable[[Store], None]
) -> None:
    damage(store)
    run = cli("apply", "policies", "--yes", *KEY)
    assert run.code == 0
    number = 10 if damage is forged else 3
    assert f"generation {number} is live" in run.out
    assert f"generation {number} starts afresh, and takes nothing" in run.err
    assert head_of(store).generation == number


@pytest.mark.parametrize("damage", [forged, beyond, gone], ids=lambda each: each.__name__)
@pytest.mark.parametrize("key", [KEY, ()], ids=["signed", "unsigned"])
def test_a_rollback_after_damage_needs_to(
    cli: Cli, store: Store, damage: Callable[[Store], None], key: tuple[str, ...]
) -> None:
    damage(store)
    run = cli("rollback", "--yes", *key)
    if damage is forged and not key:
        assert run.code == 77
        assert "the live generation is signed" in run.err
        return
    assert run.code == 77
    run = cli("rollback", "--yes", "--to", "2", *key)
    assert run.code == 0
    assert head_of(store).bundle == read_entry(store, 2).bundle


def test_a_forged_head_does_not_end_a_rollout_and_can_be_replaced(cli: Cli, store: Store) -> None:
    forged(store)
    for words in (("rollout", "abort"), ("rollout", "promote", "--yes"), ("rollout", "run")):
        run = cli(*words, *KEY)
        assert run.code in (77, 75)
    shadow = cli("apply", "policies", "--yes", "--shadow", *KEY)
    assert shadow.code == 77
    assert "Apply its files with this key first" in shadow.err


def test_a_rollback_without_to_ignores_a_forged_head(cli: Cli, store: Store) -> None:
    """With the forged head, it would choose a generation that is too old."""
    for _ in range(2):
        text = Path("policies/all.yaml").read_text()
        Path("policies/all.yaml").write_text(text.replace("50/s", "151/s"))
        cli("apply", "policies", "--yes", *KEY)
        Path("policies/all.yaml").write_text(text)
        cli("apply", "policies", "--yes", *KEY)
    store.put(HEAD, replace(head_of(store), generation=4, signature=None).encode())
    run = cli("rollback", "--yes", *KEY)
    assert run.code == 77
    assert "Name the generation to publish with --to GEN" in run.err


def test_a_rollback_without_to_ignores_unsigned_records(cli: Cli, store: Store, tree: Path) -> None:
    """The outcome of a rollout and the removal of an entry are not signed."""
    text = (tree / "all.yaml").read_text()
    (tree / "all.yaml").write_text(text.replace("50/s", "151/s"))
    assert cli("apply", "policies", "--yes", "--shadow", *KEY).code == 0
    assert cli("rollout", "abort", *KEY).code == 0
    (tree / "all.yaml").write_text(text.replace("50/s", "152/s"))
    assert cli("apply", "policies", "--yes", *KEY).code == 0
    item = store.get(rollout_key(3))
    assert item is not None
    store.put(rollout_key(3), item.value.replace(b'"aborted"', b'"promoted"'))
    run = cli("rollback", "--yes", *KEY)
    assert run.code == 77
    assert "no signature proves that generation 3 was live before generation 4" in run.err
    assert cli("rollback", "--yes", "--to", "2", *KEY).code == 0


# -- sets

EDGE = "apiVersion: ratectl/v1\nscope: /\nlimits: {spike: {rate: 50/s, per: client}}\n"
PAYMENTS = "apiVersion: ratectl/v1\nscope: /payments\nlimits: {spike: {burst: 300}}\n"


def write(name: str, text: str) -> str:
    Path(name).mkdir(exist_ok=True)
    Path(name, "all.yaml").write_text(text)
    return name


@pytest.fixture
def shared(cli: Cli, store_url: str) -> Iterator[Store]:
    """A store in which two sets have signed parts: generation 2 is live."""
    for name in ("platform", "new"):
        assert cli("key", "generate", name).code == 0
    for name, text in (("edge", EDGE), ("payments", PAYMENTS)):
        assert cli("apply", write(name, text), "--set", name, "--yes", *KEY).code == 0
    write("payments", PAYMENTS.replace("300", "301"))
    with open_store(store_url) as store:
        yield store


def apply_payments(cli: Cli, *more: str) -> tuple[int, str]:
    run = cli("apply", "payments", "--set", "payments", "--yes", *more)
    return run.code, run.err


def test_a_set_is_signed_with_other_sets_signed_by_the_same_key(cli: Cli, shared: Store) -> None:
    known = head_of(shared).sequence
    assert apply_payments(cli, *KEY)[0] == 0
    assert head_of(shared).sequence == known + 1


def test_other_sets_not_signed_by_this_key_are_not_signed(cli: Cli, shared: Store) -> None:
    code, said = apply_payments(cli, "--sign", "new.key")
    assert code == 77
    assert "the parts of other sets would be signed as well, and cannot be verified" in said
    assert "add --allow-unverified REASON" in said
    code, _ = apply_payments(cli, "--sign", "new.key", "--allow-unverified", "a new key; reviewed")
    assert code == 0
    passed = cli("history", "-o", "json").document["generations"][0]["passed"]
    assert passed == {"unverified": "a new key; reviewed"}
    assert apply_payments(cli, "--sign", "new.key")[0] == 0, "nothing to do"


def test_forged_owners_are_not_signed(cli: Cli, shared: Store) -> None:
    owners = Owners({"/": "payments", "/payments": "payments"}).encode()
    entry = replace(read_entry(shared, 2), owners=upload(shared, owners))
    shared.put(history_key(2), entry.encode())
    code, said = apply_payments(cli, *KEY)
    assert code == 77
    assert "the history entry of generation 2: it was not signed by this key, or was" in said


def test_a_history_entry_that_differs_from_the_head_is_refused(cli: Cli, shared: Store) -> None:
    good = shared.get(history_key(2))
    assert good is not None
    evil = upload(shared, encode_policies(simple("9999/s")))
    shared.put(history_key(2), replace(read_entry(shared, 2), bundle=evil).encode())
    code, said = apply_payments(cli, *KEY)
    assert code == 65
    assert "the history entry of generation 2 was changed" in said
    assert cli("plan", "payments", "--set", "payments").code == 65


def test_a_plan_that_changes_other_sets_is_not_signed(cli: Cli, shared: Store) -> None:
    """The plan was made while the live policies were manipulated."""
    assert cli("plan", "payments", "--set", "payments", "--out", "plan.json").code == 0
    document = json.loads(Path("plan.json").read_text())
    evil = document["policies"].replace('"50/s"', '"9999/s"')
    assert evil != document["policies"]
    document |= {"policies": evil, "bundle": digest(evil.encode()), "origins": None}
    Path("evil.json").write_text(json.dumps({**document, "sha256": checksum(document)}, indent=1))
    assert SavedPlan.decode(Path("evil.json").read_bytes()).encoded().tree.policies
    run = cli("apply", "evil.json", "--yes", *KEY)
    assert run.code == 77
    assert "they differ between the plan and the live generation" in run.err
    assert cli("apply", "plan.json", "--yes", *KEY).code == 0


@pytest.mark.parametrize("damage", [beyond, gone], ids=lambda each: each.__name__)
def test_sets_are_kept_if_the_head_is_missing(
    cli: Cli, shared: Store, damage: Callable[[Store], None]
) -> None:
    damage(shared)
    for words in (("payments", "--set", "payments"), ("edge",)):
        run = cli("apply", *words, "--yes", *KEY)
        assert run.code == 77
        assert "`ratectl rollback --to 2 --sign platform.key`" in run.err
    assert cli("rollback", "--to", "2", "--yes", *KEY).code == 0
    assert apply_payments(cli, *KEY)[0] == 0
    assert head_of(shared).generation == 4


def test_without_an_identity_a_local_switch_works(cli: Cli, store: Store) -> None:
    store.delete(ENVIRONMENT)
    run = cli(*SHOP, *KEY)
    assert run.code == 77
    assert "'environment' was deleted" in run.err
    assert "hint: `ratectl panic on --local` needs no store" in run.err
