"""Status of an etcd cluster, and problems that its operator should solve."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import grpc

from ratectl.errors import StoreError
from ratectl.stores.base import Status
from ratectl.stores.etcd import messages as m
from ratectl.stores.etcd.rpc import STATUS
from ratectl.stores.etcd.stream import StreamEnded, WatchStream

if TYPE_CHECKING:
    from ratectl.stores.etcd.client import Client
    from ratectl.stores.etcd.keys import Keys
    from ratectl.stores.etcd.link import Link
    from ratectl.stores.etcd.rpc import Scope

__all__ = ["MINIMUM_VERSION", "read_status"]

MINIMUM_VERSION: Final = (3, 5, 13)
"""First release whose watches lose no event across a compaction, and whose former leader cannot
revoke leases. Replies to progress requests, which watches here rely on, are in order since 3.5.8.
3.5.0 to 3.5.2 can corrupt data when killed."""

MANY_REVISIONS: Final = 100_000
"""So many revisions without a compaction are a problem: about 250 MB of agents' reports, of the
2 GiB that etcd takes unless told otherwise. etcd does not compact unless told to."""

_PROBE_EVERY: Final = 0.1
_PROBE_SECONDS: Final = 2.0


def read_status(client: Client, keys: Keys, scope: Scope, link: Link | None) -> Status:
    """Return the status that one member reports, and the members that do not answer."""
    reply = client.call(STATUS, m.StatusRequest(), scope)
    compacted = _compacted_revision(client, keys, scope)
    problems = [
        *_problems(reply),
        *_growth(reply.header.revision, compacted),
        *(link.problems(scope) if link else ()),
    ]
    return Status(
        backend="etcd",
        version=reply.version,
        revision=reply.header.revision,
        compacted=compacted or 0,
        size_bytes=reply.db_size,
        detail={
            "address": client.address,
            "cluster": f"{reply.header.cluster_id:x}",
            "member": f"{reply.header.member_id:x}",
            "leader": f"{reply.leader:x}" if reply.leader else "none",
            "raft term": str(reply.header.raft_term),
            "bytes in use": str(reply.db_size_in_use),
        },
        problems=tuple(problems),
    )


def _problems(reply: m.StatusResponse) -> list[str]:
    problems = []
    if _version(reply.version) < MINIMUM_VERSION:
        minimum = ".".join(map(str, MINIMUM_VERSION))
        problems.append(
            f"etcd {reply.version} is older than {minimum}: its watches can lose changes and its "
            "leases can end early; upgrade it"
        )
    if not reply.leader:
        problems.append("etcd has no leader: a majority of its members is down")
    if reply.is_learner:
        problems.append("this etcd member is a learner and does not serve clients yet")
    return problems + [_alarm(error.strip()) for error in reply.errors]


def _growth(revision: int, compacted: int | None) -> list[str]:
    if compacted != 0 or revision < MANY_REVISIONS:
        return []
    problem = (
        f"etcd has kept all of its {revision:,} revisions, and refuses writes when its quota is "
        "used up (2 GiB by default): start it with --auto-compaction-mode=periodic "
        "--auto-compaction-retention=10m"
    )
    return [problem]


def _alarm(error: str) -> str:
    if "NOSPACE" in error:
        return (
            f"etcd is out of space and refuses writes ({error}): compact and defragment it, or "
            "raise its --quota-backend-bytes, then run 'etcdctl alarm disarm'"
        )
    if "CORRUPT" in error:
        return f"etcd's members disagree about their data ({error}): restore the corrupt member"
    return f"etcd reports: {error}"


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def _compacted_revision(client: Client, keys: Keys, scope: Scope) -> int | None:
    """Return the oldest readable revision; 0 if nothing was compacted, None without a reply.

    etcd reports it only to a watcher that starts at an older revision.
    """
    create = m.WatchCreateRequest(key=keys.prefix, start_revision=1)
    try:
        stream = WatchStream(client, create, scope)
    except StoreError:
        return None
    try:
        for _ in range(int(_PROBE_SECONDS / _PROBE_EVERY)):
            reply = stream.receive(min(_PROBE_EVERY, scope.remaining()))
            if reply is None:
                stream.ask_progress()  # answered after etcd has checked the watcher
            elif reply.compact_revision or not reply.created:
                return reply.compact_revision
            if scope.expired():
                break
    except (grpc.RpcError, StreamEnded):
        pass
    finally:
        stream.close()
    return None
