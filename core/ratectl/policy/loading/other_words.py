"""Words of other rate limiters, and what to write instead of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FOREIGN_FIELDS", "OTHER_ALGORITHMS", "OTHER_WORDS"]

OTHER_WORDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("by", "group_by", "key", "keys"), "write per, like per: tenant"),
    **dict.fromkeys(("max_concurrent", "concurrent", "concurrency", "parallel"),
        "write algorithm: concurrency and max, like max: 50"),
    **dict.fromkeys(("dry_run", "dryrun", "shadow", "shadow_mode"), "write mode: shadow"),
    **dict.fromkeys(("disabled", "enabled"), "write mode: off, or delete it"),
    **dict.fromkeys(("type", "strategy"), "write algorithm, like algorithm: sliding-window"),
}  # fmt: skip
"""Fields of a limit elsewhere, in lower case: a hint for each."""

FOREIGN_FIELDS: Final[Mapping[str, str]] = {
    "metadata": "delete it: the name of a policy is its scope",
    "spec": "delete the line, and write the fields below it at the left edge",
    **dict.fromkeys(
        ("rules", "rate_limits", "ratelimits", "rate_limit", "ratelimit", "descriptors"),
        "write limits: {<name>: {rate: 100/s}}",
    ),
    **dict.fromkeys(("path", "route", "service"), "write the scope, like scope: /shop"),
}
"""Fields of a document elsewhere, in lower case: a hint for each."""

OTHER_ALGORITHMS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("gcra", "leaky-bucket", "leaky_bucket", "bucket"), "token-bucket"),
    **dict.fromkeys(("fixed-window", "fixed_window", "calendar"), "quota"),
    **dict.fromkeys(("rolling-window", "moving-window", "window"), "sliding-window"),
    **dict.fromkeys(("semaphore", "in-flight", "inflight", "parallel"), "concurrency"),
}
"""Names of algorithms elsewhere, in lower case: the algorithm of ratectl that is like them."""
