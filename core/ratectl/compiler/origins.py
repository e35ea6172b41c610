"""Origins of a limit in force: who sets its rate and its burst, for explanations.

They are texts: the scope, override or exception that sets a value, and the value's path there. An
agent finds the file and the line (see ``agent.origins``).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.engine.limit_plan import Origins
    from ratectl.policy.resolution.effective_limit import Limit, Setting

__all__ = ["merged_origins", "resolved_origins"]

_FIELDS: Final = ("rate", "max", "burst")
"""A limit has a rate or a maximum, and a token bucket may have a burst of its own."""


def merged_origins(
    name: str,
    sources: Mapping[str, str],
    caps: Mapping[str, tuple[str, str]],
    *,
    budget: bool,
) -> Origins:
    """Return the origins of a limit: of its cap, where that clips the value.

    ``sources``: the scope, override or exception that sets each field. ``caps``: for each field
    that a cap clips, the scope or override of the cap, and the field of the cap.
    """
    found: list[str] = []
    for field in _FIELDS:
        if field in caps:
            source, of = caps[field]
            found += (source, _path("caps", name, of))
        elif field in sources:
            found += (sources[field], _path("budgets" if budget else "limits", name, field))
    return tuple(found)  # type: ignore[return-value]  # two or four texts


def resolved_origins(limit: Limit, *, budget: bool) -> Origins:
    """Return the origins of a resolved limit."""
    settings = limit.settings
    sources = {field: _source_of(settings[field]) for field in _FIELDS if field in settings}
    caps = {field: (_source_of(clip.cap), clip.field) for field, clip in limit.clips.items()}
    return merged_origins(limit.name, sources, caps, budget=budget)


def _source_of(setting: Setting) -> str:
    return setting.scope if setting.via is None else setting.via.ref


@lru_cache(maxsize=1_024)
def _path(part: str, name: str, field: str) -> str:
    return f"{part}.{name}.{field}"
