"""What the store holds: keys, and the JSON records under them.

=========================  ====================================================================
key                        value
=========================  ====================================================================
``environment``            identity of the environment, written once
``head``                   the live generation, and a candidate beside it: what agents watch
``head/controller``        who controls a rollout now (under a lease); agents watch this as well
``head/panic``             kill switches that are on (see ``panic``); and this
``history/<generation>``   who published what, when, from which commit
``rollouts/<generation>``  how a candidate is to be tried, how far it got, and how it ended
``manifests/<sha256>``     size and number of chunks of a blob, and when it was last wanted
``bundles/<sha256>/<n>``   the blob, in chunks: policies, where they were written (origins), the
                           files that they were written in (documents), or who owns them (owners)
``agents/<id>``            what an agent runs (under a lease)
``usage/<id>``             what an agent has counted (under the same lease)
``beats/<id>``             that it lives, and how much it has decided: what is looked at often
=========================  ====================================================================

Records are read tolerantly (an older reader ignores fields that a newer writer adds), except for
``format``, which says when that would be wrong.
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
    ROLLOUTS,
    USAGE,
    Record,
    chunk_key,
    exactly,
    history_key,
    rollout_key,
    utc_now,
)
from ratectl.records.checks import (
    MAX_GENERATION,
    generation_problem,
    now_ms,
    sequence_problem,
)
from ratectl.records.published import (
    Candidate,
    Controller,
    Environment,
    Head,
    HistoryEntry,
    Manifest,
    RolloutRecord,
)
from ratectl.records.reported import (
    AgentRecord,
    Beat,
    BesideReport,
    LimitReport,
    Obeyed,
    UsageRecord,
)

__all__ = [
    "AGENTS",
    "BEATS",
    "BUNDLES",
    "CONTROLLER",
    "ENVIRONMENT",
    "HEAD",
    "HISTORY",
    "MANIFESTS",
    "MAX_GENERATION",
    "ROLLOUTS",
    "USAGE",
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
    "Obeyed",
    "Record",
    "RolloutRecord",
    "UsageRecord",
    "chunk_key",
    "exactly",
    "generation_problem",
    "history_key",
    "now_ms",
    "rollout_key",
    "sequence_problem",
    "utc_now",
]
