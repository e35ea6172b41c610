"""Records in the store: their keys, and their JSON.

=========================  ====================================================================
key                        value
=========================  ====================================================================
``environment``            identity of the environment, written once, and its protection
``head``                   the live generation and its candidate; agents watch this key
``head/controller``        the controller of a rollout (under a lease); agents watch this key
``head/panic``             kill switches that are on (see ``kill_switch``); agents watch this key
``head/resets``            resets that have not expired (see ``resets``); agents watch this key
``history/<generation>``   author, time, commit and summary of a published generation
``rollouts/<generation>``  terms, progress and end of the rollout of a candidate
``manifests/<sha256>``     size and number of chunks of a blob, and its last use by a publisher
``bundles/<sha256>/<n>``   chunks of a blob: policies, the positions of their values in files
                           (origins), those files (documents), or owners of documents (owners)
``resets/<sequence>``      a reset, with the hash of its key
``agents/<id>``            generation and state of an agent (under a lease)
``usage/<id>``             counts of an agent (under the same lease)
``beats/<id>``             last report and number of decisions of an agent: small, read often
``members``                the share that no member of the cluster owns; exists since the first
``members/<id>``           share and address of a member of the cluster, renewed by it
``owners/<shard>``         a hint: the owner to which members lend their shares of a shard
=========================  ====================================================================

An older reader ignores fields that a newer writer adds. A newer writer raises ``format`` if that
would be wrong.
"""

from ratectl.records.base import (
    AGENTS,
    BEATS,
    BUNDLES,
    CONTROLLER,
    ENVIRONMENT,
    HEAD,
    HISTORY,
    MANIFESTS,
    MEMBERS,
    OWNERS,
    PAST_RESETS,
    ROLLOUTS,
    ROSTER,
    USAGE,
    Record,
    chunk_key,
    exactly,
    history_key,
    past_reset_key,
    rollout_key,
    utc_now,
    utc_text,
)
from ratectl.records.checks import (
    MAX_GENERATION,
    generation_problem,
    now_ms,
    sequence_problem,
)
from ratectl.records.members import (
    ID_PARTS,
    WHOLE_SHARE,
    MemberRecord,
    OwnerHint,
    RosterRecord,
    agent_part,
    member_key,
    name_problem,
    owner_key,
    owner_member,
    owner_name,
    owner_shard,
)
from ratectl.records.published import (
    Candidate,
    Controller,
    Environment,
    Head,
    HistoryEntry,
    Manifest,
    PastReset,
    RolloutRecord,
)
from ratectl.records.reported import (
    AgentRecord,
    Beat,
    BesideReport,
    LimitReport,
    Obeyed,
    PoolReport,
    UsageRecord,
    added_keys,
    fullest,
    pool_use,
)

__all__ = [
    "AGENTS",
    "BEATS",
    "BUNDLES",
    "CONTROLLER",
    "ENVIRONMENT",
    "HEAD",
    "HISTORY",
    "ID_PARTS",
    "MANIFESTS",
    "MAX_GENERATION",
    "MEMBERS",
    "OWNERS",
    "PAST_RESETS",
    "ROLLOUTS",
    "ROSTER",
    "USAGE",
    "WHOLE_SHARE",
    "AgentRecord",
    "Beat",
    "BesideReport",
    "Candidate",
    "Controller",
    "Environment",
    "Head",
    "HistoryEntry",
    "LimitReport",
    "Manifest",
    "MemberRecord",
    "Obeyed",
    "OwnerHint",
    "PastReset",
    "PoolReport",
    "Record",
    "RolloutRecord",
    "RosterRecord",
    "UsageRecord",
    "added_keys",
    "agent_part",
    "chunk_key",
    "exactly",
    "fullest",
    "generation_problem",
    "history_key",
    "member_key",
    "name_problem",
    "now_ms",
    "owner_key",
    "owner_member",
    "owner_name",
    "owner_shard",
    "past_reset_key",
    "pool_use",
    "rollout_key",
    "sequence_problem",
    "utc_now",
    "utc_text",
]
