"""`ratectl cluster`: show members, remove one, and estimate what a cluster would use."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from ratectl.agent.cluster import ENTRY_LASTS, TIMING
from ratectl.cluster.forgetting import forget
from ratectl.cluster.protocol.timing import SECOND
from ratectl.cluster.sizing import Plan, Sizing
from ratectl.environments import place_of
from ratectl.errors import BundleError, NotFound, UsageError
from ratectl.health.cluster import limits_of, read_cluster
from ratectl.history.generations import read_live
from ratectl.policy.language.durations import Duration, parse_duration
from ratectl.policy.language.rates import Rate
from ratectl.runtime.closest import closest
from ratectl_cli.framework import clock
from ratectl_cli.inputs.unpublished import say_if_unpublished
from ratectl_cli.prompts.confirming import check_name, confirmed
from ratectl_cli.render import cluster as render
from ratectl_cli.render.cluster_size import size_blocks, size_data

if TYPE_CHECKING:
    from ratectl.health.cluster import Cluster, ClusterMember
    from ratectl.health.cluster_limits import ClusterLimit
    from ratectl.history.generations import Live
    from ratectl.stores.base import Store
    from ratectl_cli.framework.session import Session

__all__ = ["answer_size", "answer_status", "forget_member"]

_WATCHED: Final = ENTRY_LASTS * 2 / 5 / SECOND
"""Seconds for which an entry is watched: longer than a third of what it lasts, when it is renewed
by a process that runs."""


# Status -------------------------------------------------------------------------------------------


def answer_status(session: Session) -> int:
    """Print the cluster of an environment; return the exit code, 1 if something is wrong."""
    with session.store() as store:
        live = read_live(store)
        cluster = read_cluster(store, session.warn)
        limits = _limits(session, store, live)
    data = render.status_data(cluster, limits, live.generation)
    session.answer("Cluster", data, lambda: render.status_blocks(cluster, limits, clock.now()))
    if not (cluster.members or say_if_unpublished(session, live.generation)):
        session.say(render.without_members(limits))
    return 1 if cluster.problems else 0


def _limits(session: Session, store: Store, live: Live) -> list[ClusterLimit] | None:
    """Return the limits across the cluster; None if the live generation cannot be read."""
    try:
        return limits_of(store, live, clock.now_ns())
    except (BundleError, NotFound) as error:
        session.warn(f"generation {live.generation} cannot be read: {error}")
        return None


# Forget -------------------------------------------------------------------------------------------


def forget_member(
    session: Session, name: str, *, force: bool, yes: bool, confirm: str | None
) -> int:
    """Remove a member by hand; return the exit code.

    :raises UsageError: there is no such member, or nobody can be asked.
    :raises Declined: the answer is not yes.
    :raises Refused: the member runs, or the environment needs its name.
    """
    with session.store() as store:
        place = place_of(store, session.target)
        session.changes(place)
        check_name(place, confirm)
        cluster = read_cluster(store, session.warn)
        member = _member(cluster, name)
        session.show(render.forget_preview(member, place, clock.now(), force=force))
        question = f"Remove member {name} from {place}?"
        given = confirmed(session, place, question, yes=yes, name=confirm)
        place.require_confirmed(given)
        share = _removed(session, store, name, force=force)
        session.deadline.changed()
    others = [each.id for each in cluster.members if each.id != name]
    data = {"member": name, "share": share, "forced": force, "others": others}
    session.answer("MemberRemoved", data, lambda: render.forgotten_blocks(name, share, others))
    return 0


def _member(cluster: Cluster, name: str) -> ClusterMember:
    """Return the member of an id.

    :raises UsageError: there is none.
    """
    known = {member.id: member for member in cluster.members}
    if name in known:
        return known[name]
    error = UsageError(f"there is no member {name!r}")
    of_agent = [member for member in known if member.rpartition(".")[0] == name]
    meant = of_agent[0] if of_agent else closest(name, known)
    error.add_note(f"did you mean {meant}?" if meant else "`ratectl cluster` lists the members")
    raise error


def _removed(session: Session, store: Store, name: str, *, force: bool) -> int:
    """Watch the entry of a member and remove it; return its share.

    :raises UsageError: the entry has gone meanwhile.
    """

    def watch() -> None:
        with session.busy("watching if the member renews its entry"):
            time.sleep(_WATCHED)
        session.deadline.changing("ratectl cluster")

    if force:
        session.deadline.changing("ratectl cluster")
    else:
        session.say(f"watching the entry for {_WATCHED:.0f} seconds: a member that runs renews it")
    try:
        return forget(store, name, watch, force=force)
    except NotFound:
        raise UsageError(f"member {name} has gone meanwhile: nothing was changed") from None


# Size ---------------------------------------------------------------------------------------------


def answer_size(session: Session, rate: str, burst: int | None, members: int, rtt: str) -> int:
    """Print estimates for a limit; return the exit code, 1 if its burst is too small.

    :raises UsageError: an option cannot be read, or the network is too slow.
    """
    pace = _rate(rate)
    plan = Plan(
        tokens=pace.numerator,
        period=pace.denominator * (pace.window_ns or 1),
        burst=max(1, pace.per_second_ceiling) if burst is None else burst,
        members=members,
        round_trip=_round_trip(rtt),
    )
    sizing = Sizing(plan, TIMING, ENTRY_LASTS)
    data = size_data(sizing, pace)
    session.answer("ClusterSize", data, lambda: size_blocks(sizing, pace))
    return 0 if data["enough"] else 1


def _rate(text: str) -> Rate:
    """Return the rate of ``--rate``.

    :raises UsageError: it is no rate of a token bucket.
    """
    try:
        rate = Rate.parse(text)
    except ValueError as error:
        raise UsageError(f"--rate: {error}") from None
    if rate.window_ns is None or not rate.numerator:
        raise UsageError(f"--rate: {rate} is not a rate that can be shared: write it like 5000/s")
    return rate


def _round_trip(text: str) -> int:
    """Return the nanoseconds of ``--rtt``.

    :raises UsageError: it is no duration, or too long.
    """
    try:
        round_trip = parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--rtt: {error}") from None
    if round_trip >= TIMING.lease:
        raise UsageError(
            f"--rtt: {Duration(round_trip)} is too long: a member may use its tokens for "
            f"{Duration(TIMING.lease)} after it has asked for them, so none would be usable"
        )
    return round_trip
