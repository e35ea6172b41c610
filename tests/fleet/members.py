"""Records of the roster, for tests of their readers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.cluster.sharding import SHARD_NAMES
from ratectl.records import (
    ROSTER,
    WHOLE_SHARE,
    MemberRecord,
    OwnerHint,
    RosterRecord,
    member_key,
    owner_key,
    owner_name,
)
from ratectl.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["write_roster"]


def write_roster(
    url: str,
    shares: Mapping[str, int],
    owner: str | None = None,
    unowned: int | None = None,
    dedicated: Sequence[str] = (),
) -> None:
    """Write entries of members to a store, without running agents.

    :param unowned: None: what the members do not have.
    :param dedicated: members without a share that own limits for others.
    """
    rest = max(0, WHOLE_SHARE - sum(shares.values())) if unowned is None else unowned
    with open_store(url) as store:
        store.put(ROSTER, RosterRecord(unowned=rest).encode())
        for name, share in {**shares, **dict.fromkeys(dedicated, 0)}.items():
            record = MemberRecord(
                share=share, renewed=1, address=f"unix:/tmp/ratectl-0/{name}.sock", host="host-a",
                dedicated=name in dedicated,
            )  # fmt: skip
            store.put(member_key(name), record.encode())
        if owner is not None:
            for shard in SHARD_NAMES:
                name = owner_name(shard, owner)
                hint = OwnerHint(member=owner, owner=name, address="unix:/tmp/o.sock")
                store.put(owner_key(shard), hint.encode())
