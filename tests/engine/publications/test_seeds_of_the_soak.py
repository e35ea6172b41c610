"""Stories of long runs that admitted too much once, cut down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.engines import each_engine
from engine.publications.playing import Player, Request, Story

if TYPE_CHECKING:
    from engine.engines import MakeEngine

PER_USER: dict[str, Any] = {"rate": "1/h", "burst": 100, "per": ["user"]}
SHARED: dict[str, Any] = {**PER_USER, "per": []}
QUOTA: dict[str, Any] = {"algorithm": "quota", "rate": "8/min"}
TOKENS: dict[str, Any] = {"algorithm": "token-bucket", "rate": "1/s", "burst": 20}


@each_engine
def test_a_refund_of_another_request_does_not_lift_what_was_carried_over(make: MakeEngine) -> None:
    """The second request has carried an empty bucket into one that the first emptied as well."""
    story = Story(
        (Request("/", {"user": "v"}), Request("/", {})),
        (
            ("publish", "start", {"/": {"limits": {"l": PER_USER}}}),
            ("drain", 1),
            ("publish", "per", {"/": {"limits": {"l": SHARED}}}),
            ("drain", 0),
            ("ask", 1, 1),
            ("settle", 8, 2),
            ("ask", 1, 1),
        ),
    )
    assert Player(make, story).play()["refused"] > 0


@each_engine
def test_a_bucket_ahead_of_the_clock_does_not_refill_the_one_it_is_carried_into(
    make: MakeEngine,
) -> None:
    """A quota's window began in the future, as the wall clock has stepped back."""
    by_tenant = {"name": "o5", "match": {"tenant": "x"}, "limits": {"l": {"per": ["tenant"]}}}
    tokens = {"name": "o7", "match": {"tenant": "x"}, "limits": {"l": TOKENS}}
    top = {"limits": {"l": {**QUOTA, "per": ["user"]}}}
    story = Story(
        (
            Request("/a/b", {"tenant": "x", "user": "u"}),
            Request("/a/b/x", {"tenant": "x", "user": "v"}),
        ),
        (
            ("publish", "start", {"/": {"limits": {"l": QUOTA}}, "/a": {}}),
            ("publish", "per", {"/": top, "/a": {}}),
            (
                "publish",
                "override added",
                {"/": {**top, "overrides": [by_tenant]}, "/a": {"overrides": [tokens]}},
            ),
            ("ask", 1, 1),
            ("wall", -61_000_000_000),
            ("ask", 0, 20),
        ),
    )
    assert Player(make, story).play()["refused"] == 1


@each_engine
def test_a_bucket_without_room_to_be_saved_was_overdrawn(make: MakeEngine) -> None:
    """A window of 100 became one of 1 and was left: a hundred are missing from it, not one."""

    def publish(rate: str, *overrides: Any) -> tuple[Any, ...]:
        limit = {"algorithm": "sliding-window", "rate": rate, "per": ["tenant"]}
        faster = {"l": {"rate": "20/10s"}}
        written = [{"name": name, "match": match, "limits": faster} for name, match in overrides]
        return "publish", "any", {"/": {"limits": {"l": limit}, "overrides": written}}

    gold = {"tenant": "y", "tier": "gold"}
    story = Story(
        (Request("/a", {"tenant": "y", "tier": "free"}),),
        (
            publish("100/min"),
            ("strangers", 60, "/", {"tier": "gold"}),
            publish("100/min", ("o4", gold), ("o3", gold)),
            publish("100/min", ("o4", gold)),
            ("wait", 700_000_000_000),
            ("drain", 0),
            publish("1/min", ("o4", gold)),
            publish("1/min", ("o4", {"tier": ["gold", "free"]})),
            ("strangers", 60, "/", {"tier": "gold"}),
            ("ask", 0, 1),
        ),
        max_buckets=40,
    )
    assert Player(make, story).play()["refused"] > 0
