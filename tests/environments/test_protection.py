"""Protection that is kept in the store, in each kind of store, and what it requires of changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ratectl.changes import guards
from ratectl.environments import (
    Protection,
    Target,
    Unconfirmed,
    place_of,
    protect,
    survey,
    unprotect,
)
from ratectl.errors import BundleError, Conflict, GuardRefused, Refused, UsageError
from ratectl.history.generations import read_live
from ratectl.kill_switch.turning import new_switch, turn_off, turn_on
from ratectl.publishing.propose import propose
from ratectl.publishing.rollback import propose_rollback
from ratectl.records import ENVIRONMENT
from ratectl.rollout import Terms, promote, read_rollout, try_out
from ratectl.signing.continuation import ensure_environment, read_environment
from ratectl.signing.signatures import Signer, generate_key
from ratectl.stores import open_store
from support import publish_policies, simple

if TYPE_CHECKING:
    from pathlib import Path

    from ratectl.publishing.proposal import Proposal
    from ratectl.stores.base import Store

CONFIRM = Protection(confirm=True)
SIGN = Protection(sign=True)
FIRST = {guards.FIRST: "a test"}


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    file = tmp_path / "policies.yaml"
    file.write_text("apiVersion: ratectl/v1\nscope: /\nlimits: {spike: {rate: 5/s}}\n")
    return file


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    pytest.importorskip("cryptography")
    generate_key(tmp_path / "me.key", tmp_path / "me.pub")
    return Signer.load(tmp_path / "me.key")


def proposed(store: Store, policies: Path, **options: object) -> Proposal:
    return propose(store, policies, author="tester", **options)  # type: ignore[arg-type]


def test_protection_is_kept_with_the_identity(store: Store) -> None:
    identity = ensure_environment(store).id
    assert protect(store, "production", CONFIRM) == CONFIRM
    assert protect(store, "production", SIGN) == CONFIRM | SIGN, "it is added"
    record = read_environment(store)
    assert record is not None
    assert (record.id, record.name) == (identity, "production")
    place = place_of(store)
    assert (place.environment, place.protection) == ("production", CONFIRM | SIGN)


def test_protection_before_the_first_publication(store: Store) -> None:
    protect(store, "production", CONFIRM)
    assert read_environment(store) is not None
    assert read_live(store).head is None


def test_a_file_can_tighten_protection_and_not_loosen_it(store: Store) -> None:
    protect(store, "production", CONFIRM)
    assert place_of(store, Target(store.url, "production")).protection == CONFIRM
    assert place_of(store, Target(store.url, "production", SIGN)).protection == CONFIRM | SIGN


def test_a_store_of_another_name_is_refused(store: Store) -> None:
    protect(store, "production", CONFIRM)
    with pytest.raises(Refused, match=r"environment staging is to be in .*environment production"):
        place_of(store, Target(store.url, "staging"))
    with pytest.raises(Refused, match="env unprotect production --store"):
        protect(store, "staging", SIGN)
    urgent = place_of(store, Target(store.url, "staging"), urgent=True)
    assert urgent.environment == "production"
    assert "that store is environment production" in str(urgent.problem)
    with pytest.raises(UsageError, match="cannot name an environment"):
        protect(store, "a b", SIGN)


def test_publishing_needs_the_name_as_confirmation(store: Store, policies: Path) -> None:
    protect(store, "production", CONFIRM)
    for wrong in (None, "", "staging", "yes"):
        with pytest.raises(Unconfirmed, match="add --confirm production"):
            proposed(store, policies).apply(FIRST, confirmed=wrong)
    assert read_live(store).head is None
    entry = proposed(store, policies).apply(FIRST, confirmed="production")
    assert entry is not None
    assert proposed(store, policies).apply() is None, "nothing is changed: nothing to confirm"


def test_a_rollback_and_a_rollout_need_the_name_as_well(store: Store, policies: Path) -> None:
    publish_policies(store, simple("1/s"))
    publish_policies(store, simple("2/s"))
    protect(store, "production", CONFIRM)
    with pytest.raises(Unconfirmed):
        propose_rollback(store, 1).apply()
    assert propose_rollback(store, 1).apply(confirmed="production") is not None
    terms = Terms.of([100.0], bake_seconds=0.0, min_requests=0, band=None)
    approval = proposed(store, policies).approve()
    with pytest.raises(Unconfirmed):
        try_out(approval, terms, "shadow")
    assert read_live(store).candidate is None


def test_promoting_by_hand_needs_the_name(store: Store, policies: Path) -> None:
    publish_policies(store, simple("1/s"))
    terms = Terms.of([100.0], bake_seconds=0.0, min_requests=0, band=None)
    try_out(proposed(store, policies).approve(), terms, "shadow")
    protect(store, "production", CONFIRM)
    with pytest.raises(Unconfirmed):
        promote(store, read_rollout(store), "tester")
    promote(store, read_rollout(store), "tester", confirmed="production")
    assert read_live(store).generation == 2


def test_a_kill_switch_needs_no_confirmation(store: Store) -> None:
    protect(store, "production", CONFIRM)
    assert turn_on(store, new_switch("/", "INC-1", "tester")).after.on


def test_unsigned_changes_are_refused(store: Store, policies: Path, signer: Signer) -> None:
    publish_policies(store, simple("1/s"))
    protect(store, "production", SIGN)
    with pytest.raises(Refused, match="needs signatures"):
        proposed(store, policies).approve({guards.UNSIGNED: "please"})
    with pytest.raises(Refused, match="needs signatures"):
        turn_on(store, new_switch("/", "INC-1", "tester"))
    with pytest.raises(Refused, match="needs signatures"):
        turn_off(store)
    with pytest.raises(Refused, match="environment production needs signatures"):
        publish_policies(store, simple("3/s"))
    assert read_live(store).generation == 1
    assert proposed(store, policies, signer=signer).apply() is not None
    assert turn_on(store, new_switch("/", "INC-1", "tester"), signer=signer).after.on


def test_the_first_signed_publication_after_protection(
    store: Store, policies: Path, signer: Signer
) -> None:
    protect(store, "production", SIGN)
    proposal = proposed(store, policies, signer=signer)
    assert proposal.base.fresh is not None
    assert "it was protected before the first publication" in proposal.base.fresh.because
    entry = proposal.apply(FIRST)
    assert entry is not None
    assert entry.generation == 1


def test_unprotecting_always_needs_the_name(store: Store) -> None:
    protect(store, "production", SIGN)
    for wrong in (None, "staging"):
        with pytest.raises(Unconfirmed):
            unprotect(store, wrong)
    assert unprotect(store, "production") == SIGN
    record = read_environment(store)
    assert record is not None
    assert (record.name, record.sign_required) == ("", False), "a wrong name can be corrected"
    protect(store, "staging", SIGN)
    unprotect(store, "staging")
    with pytest.raises(Refused, match="no protection"):
        unprotect(store, "staging", Target(store.url, "staging"))


def test_unprotecting_an_empty_store_creates_nothing(store: Store) -> None:
    with pytest.raises(Refused, match="nothing was ever written there"):
        unprotect(store, "production", Target(store.url, "production"))
    assert store.get(ENVIRONMENT) is None


def test_a_change_at_the_same_time_is_a_conflict(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    protect(store, "production", CONFIRM)
    plain = type(store).txn

    def slow(self: Store, compare: object, ops: object) -> object:
        monkeypatch.setattr(type(store), "txn", plain)
        protect(self, "production", SIGN)
        return plain(self, compare, ops)  # type: ignore[arg-type]

    monkeypatch.setattr(type(store), "txn", slow)
    with pytest.raises(Conflict, match="at the same time"):
        protect(store, "production", CONFIRM)
    assert place_of(store).protection == CONFIRM | SIGN


def test_with_a_damaged_record_kill_switches_work_and_publishing_does_not(
    store: Store, policies: Path
) -> None:
    publish_policies(store, simple("1/s"))
    store.put(ENVIRONMENT, b"{broken")
    assert turn_on(store, new_switch("/", "INC-1", "tester")).after.on
    with pytest.raises(BundleError, match="the protection is unknown"):
        proposed(store, policies).apply()


def test_the_first_publication_to_a_server_is_guarded(store: Store, policies: Path) -> None:
    proposal = proposed(store, policies)
    if store.url.startswith("sqlite"):
        assert proposal.objections == []
        assert proposal.apply() is not None
        return
    with pytest.raises(GuardRefused, match="nothing was ever published in"):
        proposal.apply()
    with pytest.raises(GuardRefused):
        proposal.apply({guards.FIRST: "  "})
    entry = proposal.apply(FIRST)
    assert entry is not None
    assert entry.passed == FIRST
    policies.write_text(policies.read_text().replace("5/s", "6/s"))
    assert proposed(store, policies).apply() is not None, "only the first one is guarded"


def test_a_survey_reports_stores_that_do_not_answer(store: Store, tmp_path: Path) -> None:
    publish_policies(store, simple("1/s"))
    protect(store, "production", CONFIRM)
    dead = f"sqlite:///{tmp_path}/missing/rates.db"
    targets = [
        Target(store.url, "production", SIGN),
        Target(dead, "staging"),
        Target(f"sqlite:///{tmp_path}/empty.db", "local"),
        Target(store.url, "wrong"),
    ]
    production, staging, local, wrong = survey(targets, 10.0)
    assert (production.problem, production.generation) == (None, 1)
    assert (production.stored, production.protection) == (CONFIRM, CONFIRM | SIGN)
    assert "does not exist" in str(staging.problem)
    assert (local.problem, local.generation) == (None, None)
    assert "that store is environment production" in str(wrong.problem)
    assert not (tmp_path / "empty.db").exists(), "to look creates nothing"


def test_the_default_file_gets_its_folder_with_the_first_write(tmp_path: Path) -> None:
    target = Target.file(tmp_path / "state" / "ratectl.db")
    with target.open(4.0) as store:
        assert read_environment(store) is None
        assert not (tmp_path / "state").exists()
        store.put("a", b"1")
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    with open_store(target.url) as store:
        assert store.get("a") is not None
