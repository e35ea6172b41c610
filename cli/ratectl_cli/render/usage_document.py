"""Usage of limits and keys for programs; null means unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ratectl.health.hot_keys import keys_of
from ratectl_cli.render.panic import switch_data

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.fleet.usage import LimitTotal
    from ratectl.health.hot_keys import HotKey
    from ratectl.health.usage_report import UsageReport, UsageRow
    from ratectl.policy.resolution.effective_limit import Limit

__all__ = ["top_data", "usage_data"]

_KEYS: Final = 10
"""Keys of each limit, where no number is asked for."""

_SPANS: Final = ("last", "minute", "quarter_hour")


def usage_data(report: UsageReport, top: int | None = None) -> dict[str, Any]:
    """Return the document of ``ratectl usage``; ``top``: number of keys of each limit."""
    return {
        **_head(report),
        "no_policy": report.totals.no_policy,
        "errors": report.totals.errors,
        "omitted": report.totals.omitted,
        "sort": report.sort,
        "near": report.near,
        "below_near": report.below,
        "unknown_use": report.unknown,
        "limits": [_row_data(row, top or _KEYS) for row in report.rows],
        "panic": [switch_data(switch) for switch in report.switches.on],
    }


def top_data(report: UsageReport, keys: Sequence[HotKey], sort: str) -> dict[str, Any]:
    """Return the document of ``ratectl top``."""
    return {
        **_head(report),
        "sort": sort,
        "keys": [
            {
                "scope": key.row.scope,
                "limit": key.row.name,
                "overrides": list(key.row.overrides),
                "budget": key.row.budget,
                **_key_data(key),
            }
            for key in keys
        ],
        "panic": [switch_data(switch) for switch in report.switches.on],
    }


def _head(report: UsageReport) -> dict[str, Any]:
    totals = report.totals
    return {
        "scope": report.scope,
        "generation": report.generation or None,
        "agents": len(report.agents),
        "reporting": totals.reporting,
        "silent": list(report.silent),
        "newest": totals.newest,
        "oldest": totals.oldest,
        "minutes": report.minutes,
    }


def _row_data(row: UsageRow, top: int) -> dict[str, Any]:
    total = row.total
    return {
        "scope": row.scope,
        "limit": row.name,
        "overrides": list(row.overrides),
        "budget": row.budget,
        "rule": None if row.rule is None else _rule_data(row.rule),
        "agents": total.agents if total else 0,
        "used": total.peak if total else None,
        "rate_per_second": round(total.recent_per_second, 6) if total else None,
        "allowed": total.allowed if total else None,
        "waited": total.waited if total else None,
        "absent": total.absent if total else None,
        "refused": total.refused if total else None,
        "never": total.never if total else None,
        "shadow_refused": total.shadow_refused if total else None,
        "keys": total.keys if total and not total.is_unknown else None,
        **_shared_data(total),
        **_detail_data(total),
        "top_refused": [
            {"key": key, "refused": count} for key, count in total.top_refused.most_common(top)
        ]
        if total
        else [],
        "top_keys": [_key_data(key) for key in keys_of(row, top)],
    }


def _shared_data(total: LimitTotal | None) -> dict[str, Any]:
    """Return how many agents share a limit, and what its owners report."""
    pool = total.pool if total else None
    return {
        "shared_agents": total.shared if total else 0,
        "pool": None
        if pool is None
        else {
            "used": round(pool.used, 6),
            "capacity": pool.capacity,
            "free": pool.free,
            "held": pool.held,
            "members": pool.members,
            "owners": [owner._asdict() for owner in pool.owners],
        },
    }


def _detail_data(total: LimitTotal | None) -> dict[str, Any]:
    """Return numbers that agents of older versions do not report."""
    if total is None:
        names = ("near_keys", "rates", "refused_rates", "trend", "recent")
        return {"detailed_agents": 0, "trend_agents": 0, **dict.fromkeys(names)}
    recent, detailed = total.recent, bool(total.detailed)
    return {
        "detailed_agents": total.detailed,
        "trend_agents": total.trending,
        "near_keys": total.near_keys if detailed and not total.is_unknown else None,
        "rates": _rates_data(total.rates) if detailed else None,
        "refused_rates": _rates_data(total.refused_rates) if detailed else None,
        "trend": [
            {"allowed": allowed, "refused": refused, "used": peak}
            for allowed, refused, peak in total.trend
        ]
        if total.trending
        else None,
        "recent": {
            "used": recent.peak,
            "used_agents": recent.whole,
            "rate_per_second": _rounded(recent.rate),
            "refused_per_second": _rounded(recent.refused_rate),
            "rate_agents": recent.rated,
        },
    }


def _rates_data(rates: Sequence[float]) -> dict[str, float]:
    return {name: round(rate, 6) for name, rate in zip(_SPANS, rates, strict=False)}


def _rounded(rate: float | None) -> float | None:
    return None if rate is None else round(rate, 6)


def _key_data(key: HotKey) -> dict[str, Any]:
    requests, refused = key.requests, key.refused
    return {
        "key": key.key,
        "requests": requests.value if requests else None,
        "requests_error": requests.error if requests else None,
        "share": _rounded(key.share),
        "used": key.used,
        "refused": refused.value if refused else None,
        "refused_error": refused.error if refused else None,
        "agents": key.agents,
    }


def _rule_data(rule: Limit) -> dict[str, Any]:
    return {
        "algorithm": rule.algorithm,
        "rate": None if rule.rate is None else str(rule.rate),
        "burst": rule.burst,
        "max": rule.max,
        "hold": None if rule.hold is None else str(rule.hold),
        "unit": rule.unit,
        "per": list(rule.per),
        "absent": rule.absent,
        "mode": rule.mode,
        "clipped": bool(rule.clips),
    }
