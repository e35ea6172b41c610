"""Writing resets: concurrent writers, bounds, the history, and finding limits and keys."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from agent.reset_support import ACME, a_reset, an_order, order, put, stored
from flaky import Flaky
from ratectl.environments import Protection, protect
from ratectl.environments.protection import Unconfirmed
from ratectl.errors import Conflict, OutcomeUnknown, Refused, StoreUnavailable, UsageError
from ratectl.history.generations import read_past_resets
from ratectl.records import AGENTS, PAST_RESETS, PastReset, now_ms, past_reset_key
from ratectl.resets import ordering
from ratectl.resets.finding import FoundKey, GivenKey, find_key
from ratectl.resets.ordering import new_order, order_reset
from ratectl.resets.orders import MAX_RESETS, RESETS, Resets, key_hash
from ratectl.stores import open_store
from support import policies, publish_policies, simple

if TYPE_CHECKING:
    from typing import NoReturn

    from ratectl.stores.base import Store

YEAR_MS = 31_557_600_000


def test_record_and_history(store: Store) -> None:
    first, second = order(store), order(store, {"tenant": None}, reason="INC-43")
    assert stored(store) == (first, second)
    newest, oldest = read_past_resets(store)
    assert (newest.sequence, oldest.sequence) == (second.sequence, first.sequence)
    assert (oldest.key_hash, oldest.attributes) == (key_hash(ACME), ["tenant"])
    assert newest.key_hash != oldest.key_hash
    for item in store.list(PAST_RESETS).items:
        assert b"acme" not in item.value, "the key itself is not in the history"


def test_concurrent_orders_lose_nothing(store_url: str) -> None:
    def work(name: str) -> None:
        with open_store(store_url, timeout=30) as mine:
            for number in range(5):
                order(mine, {"tenant": f"{name}{number}"})

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with open_store(store_url, timeout=30) as store:
        resets = stored(store)
        assert {each.key["tenant"] for each in resets} == {
            f"{n}{i}" for n in "abc" for i in range(5)
        }
        sequences = [each.sequence for each in resets]
        assert sequences == sorted(set(sequences))
        assert [past.sequence for past in reversed(read_past_resets(store))] == sequences


def test_later_writers_drop_what_has_expired(store: Store) -> None:
    put(store, a_reset(5, seconds=-1), a_reset(6))
    reset = order(store)
    assert [each.sequence for each in stored(store)] == [6, reset.sequence]


def test_too_many_at_a_time(store: Store) -> None:
    put(store, *[a_reset(sequence) for sequence in range(1, MAX_RESETS + 1)])
    with pytest.raises(Refused, match="100 resets have not expired yet"):
        order(store)
    put(store, *[a_reset(sequence, seconds=-1) for sequence in range(1, MAX_RESETS + 1)])
    order(store)


def test_too_large(store: Store) -> None:
    large = {f"a{number}": "x" * 4_096 for number in range(16)}
    for _ in range(7):
        order(store, large)
    with pytest.raises(UsageError, match="agents would not obey this reset"):
        order(store, large)


def test_unreadable_record_is_replaced(store: Store) -> None:
    store.put(RESETS, b"junk")
    done = order_reset(store, an_order())
    assert "cannot be read" in (done.discarded or "")
    assert stored(store) == (done.reset,)


def test_sequence_never_falls(store: Store) -> None:
    """After a restore, or with a clock that is behind: agents tell what they have obeyed."""
    ahead = now_ms() + 1_000_000
    put(store, a_reset(ahead))
    assert order(store).sequence == ahead + 1
    store.delete(RESETS)
    from fleet.reports import agent

    for name, sequence in (("old", None), ("new", ahead + 7)):
        store.put(AGENTS + name, agent(name, reset_sequence=sequence).encode())
    assert order(store).sequence == ahead + 8


@pytest.mark.parametrize("applied", [True, False])
def test_lost_reply_orders_one_reset(store: Store, applied: bool) -> None:
    flaky: Any = Flaky(store, applied=applied, key=RESETS)
    reset = order_reset(flaky, an_order()).reset
    assert flaky.lost == 1
    assert stored(store) == (reset,)
    assert len(read_past_resets(store)) == 1


def test_outcome_is_unknown_if_the_store_goes_down_after_a_lost_reply(store: Store) -> None:
    flaky: Any = Flaky(store, applied=True, key=RESETS)

    def down(_: str) -> NoReturn:
        raise StoreUnavailable("x", "down")

    flaky.between.append(lambda: setattr(flaky, "get", down))
    with pytest.raises(OutcomeUnknown):
        order_reset(flaky, an_order())


def test_order_fails_if_other_writers_are_always_faster(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = ordering._with

    def slowly(*args: Any) -> Any:
        found = after(*args)
        store.put(RESETS, Resets((a_reset(1),)).encode())
        return found

    monkeypatch.setattr(ordering, "_with", slowly)
    with pytest.raises(Conflict):
        order(store)


def test_history_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "_KEPT", 3)
    resets = [order(store) for _ in range(6)]
    kept = [past.sequence for past in read_past_resets(store)]
    assert kept == [each.sequence for each in reversed(resets[-3:])]


def test_damaged_entry_of_the_history_is_left_out(store: Store) -> None:
    reset = order(store)
    store.put(past_reset_key(reset.sequence + 1), b"junk")
    warned: list[str] = []
    assert [past.sequence for past in read_past_resets(store, warned.append)] == [reset.sequence]
    assert "is left out" in warned[0]


def test_protection_of_the_environment(store: Store) -> None:
    publish_policies(store, simple("2/day"))
    protect(store, "production", Protection(confirm=True))
    for name in (None, "staging"):
        with pytest.raises(Unconfirmed):
            order_reset(store, an_order(), confirmed=name)
    order_reset(store, an_order(), confirmed="production")
    protect(store, "production", Protection(sign=True))
    with pytest.raises(Refused, match="needs signatures"):
        order_reset(store, an_order(), confirmed="production")
    assert len(read_past_resets(store)) == 1


def test_nothing_is_written_before_every_check_has_passed(store: Store) -> None:
    seen: list[object] = []
    order_reset(store, an_order(), before_write=lambda: seen.append(store.get(RESETS)))
    assert seen == [None]


@pytest.mark.parametrize(
    ("reason", "minutes", "why"),
    [(" ", 2, "is empty"), ("x" * 501, 2, "501 characters"), ("x", 0, "a second at least"),
     ("x", 11, "ten minutes at most")],
)  # fmt: skip
def test_orders_that_are_refused(reason: str, minutes: int, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        new_order(found("/", "l", "acme"), reason, "Ada", timedelta(minutes=minutes))


def test_hash_does_not_depend_on_the_order() -> None:
    assert key_hash({"a": "1", "b": None}) == key_hash({"b": None, "a": "1"})
    assert key_hash({"a": None}) != key_hash({"a": ""})


def test_entry_of_a_later_version_can_be_read(store: Store) -> None:
    reset = order(store)
    value = {**json.loads(reset.past().encode()), "more": 1}
    assert PastReset.decode(json.dumps(value).encode()) == reset.past()


# -- finding limits and keys


TREE = policies(
    **{
        "/": {
            "limits": {
                "l": {"rate": "1/s", "per": "tenant"},
                "two": {"rate": "1/s", "per": ["tenant", "route"]},
                "one": {"rate": "1/s"},
                "central": {"rate": "1/s", "per": "tenant", "across": "redis"},
            },
            "budgets": {"fleet": {"rate": "9/s", "per": "tenant"}},
        },
        "/shop": {
            "limits": {"one": {"mode": "off"}},
            "budgets": {"own": {"rate": "9/s"}},
            "overrides": [
                {"name": "gold", "match": {"tier": "gold"},
                 "limits": {"l": {"per": ["tenant", "ip"]}}},
                {"name": "pay", "match": {"route": "/pay"},
                 "limits": {"card": {"rate": "1/min", "per": "card"}}},
            ],
        },
    }
)  # fmt: skip


def found(
    scope: str, limit: str, value: str | None = None, *, budget: bool = False, absent: Any = (),
    **attributes: str,
) -> FoundKey:  # fmt: skip
    given = GivenKey(value, attributes, absent)
    return find_key(TREE, scope, limit, given, budget=budget, now_ns=0)


def test_keys_that_are_found() -> None:
    assert found("/", "l", "acme").key == {"tenant": "acme"}
    assert found("/shop", "l", tenant="").key == {"tenant": ""}
    assert found("/shop", "l", absent=["tenant"]).key == {"tenant": None}
    assert found("/", "two", route="x", tenant="acme").key == {"tenant": "acme", "route": "x"}
    assert found("/", "one").key == {}
    assert found("/", "fleet", "acme", budget=True).key == {"tenant": "acme"}
    assert found("/shop", "own", budget=True).key == {}
    assert found("/shop", "card", "4111").key == {"card": "4111"}, "an override declares it"
    assert found("/shop", "l", tenant="a", ip="1").limit.per == ("tenant", "ip")


@pytest.mark.parametrize(
    ("args", "attributes", "message", "hint"),
    [
        (("/shpo", "l", "a"), {}, "/shpo is not declared: its requests use the buckets of /",
         "did you mean /shop? To reset a bucket there, name /"),
        (("/shop/cart", "l", "a"), {}, "use the buckets of /shop", "did you mean /shop?"),
        (("/", "tow", "a"), {}, "/ has no limit tow", "did you mean two?"),
        (("/", "zzz", "a"), {}, "/ has no limit zzz", "it has l, two, one, central"),
        (("/shop", "one"), {}, "/shop has no limit one", ""),
        (("/", "fleet", "a"), {}, "/ has no limit fleet", "fleet is a budget: add --budget"),
        (("/shop", "fleet", "a"), {}, "/shop has no limit fleet",
         "add --budget, and name /, which declares it"),
        (("/", "l", "a"), {"budget": True}, "/ has no budget l", "leave out --budget"),
        (("/shop", "fleet", "a"), {"budget": True}, "/shop has no budget fleet",
         "/ declares this budget: name that scope"),
        (("/", "l"), {}, "l counts per tenant", "add --key VALUE"),
        (("/", "l"), {"tenent": "a"}, "l counts per tenant", "did you mean tenant?"),
        (("/", "l"), {"tenant": "a", "x": "y"}, "l counts per tenant", "add --key VALUE"),
        (("/", "l"), {}, "l counts per tenant: the key is missing", "add --key VALUE"),
        (("/", "two"), {"tenant": "a"}, "the key has no value of route", "--attr route=VALUE"),
        (("/", "two", "a"), {}, "--key gives only one value", "--attr route=VALUE"),
        (("/", "l"), {"tenant": "a", "x": "y"}, "the key has a value of x", ""),
        (("/", "l", "a"), {"tenant": "a"}, "does not go together with --attr",
         "leave out --key, or leave out --attr and --absent"),
        (("/", "two", "a"), {}, "two counts per tenant and route",
         "add --attr tenant=VALUE --attr route=VALUE"),
        (("/", "one", "a"), {}, "it takes no key", "leave out --key"),
        (("/", "l", "a"), {"tenant": "a"}, "--key is the only value", ""),
        (("/", "l"), {"tenant": "a", "absent": ["tenant"]}, "both name tenant", ""),
        (("/", "l", "x" * 4_097), {}, "at most 16 values of 4096 characters", ""),
        (("shop", "l", "a"), {}, "", ""),
        (("/", "central", "a"), {}, "central is counted by a Valkey or Redis server",
         "delete the key's counts on the server: see docs/redis.md"),
    ],
)  # fmt: skip
def test_mistakes_get_a_hint(
    args: tuple[str, ...], attributes: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(UsageError) as caught:
        found(*args, **attributes)
    assert message in str(caught.value)
    assert hint in " ".join(getattr(caught.value, "__notes__", []))


def test_a_scope_is_suggested_once() -> None:
    with pytest.raises(UsageError) as caught:
        found("/shop/x", "l", "acme")
    assert caught.value.__notes__ == ["did you mean /shop?"]


def test_requests_that_a_limit_skips_have_no_bucket() -> None:
    limits = {
        "one": {"rate": "1/s", "per": "tenant", "absent": "skip"},
        "two": {"rate": "1/s", "per": ["tenant", "route"], "absent": "skip"},
    }
    overrides = [
        {"name": "gold", "match": {"tier": "gold"}, "limits": {"two": {"absent": "share"}}},
    ]
    tree = policies(**{"/": {"limits": limits}, "/shop": {"overrides": overrides}})

    def reset(scope: str, limit: str, absent: list[str], **attributes: str) -> FoundKey:
        given = GivenKey(None, attributes, absent)
        return find_key(tree, scope, limit, given, budget=False, now_ns=0)

    with pytest.raises(UsageError, match="one has 'absent: skip': requests without tenant") as one:
        reset("/", "one", ["tenant"])
    assert one.value.__notes__ == ["give --attr tenant=VALUE"]
    with pytest.raises(UsageError, match="without tenant and route have no bucket"):
        reset("/", "two", ["route", "tenant"])
    assert reset("/", "one", [], tenant="").key == {"tenant": ""}
    assert reset("/shop", "two", ["route"], tenant="a").key == {"tenant": "a", "route": None}


def test_no_policy_covers_the_scope() -> None:
    tree = policies(**{"/shop": {"limits": {"l": {"rate": "1/s"}}}})
    with pytest.raises(UsageError, match="no policy covers /shpo") as caught:
        find_key(tree, "/shpo", "l", GivenKey(), budget=False, now_ns=0)
    assert caught.value.__notes__ == ["did you mean /shop?"]
