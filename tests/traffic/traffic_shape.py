"""Statistics of a stream of requests, to compare the generator with a real log."""

from __future__ import annotations

import math
from collections import Counter
from statistics import fmean, median
from typing import TYPE_CHECKING

from ratectl.traffic.request import NS

if TYPE_CHECKING:
    from ratectl.traffic import Request


def measure(requests: list[Request]) -> dict[str, float]:
    """Return figures. Shares are of all requests; gaps within a visit are below half an hour."""
    total = len(requests)
    clients = falling(Counter(request.attributes["client"] for request in requests))
    paths = falling(Counter(request.attributes.get("path", "-") for request in requests))
    agents = falling(Counter(request.attributes.get("agent", "-") for request in requests))
    gaps, visits = gaps_and_visits(requests)
    status = Counter(request.attributes["status"] for request in requests)
    return {
        "clients": len(clients),
        "top 10 clients' share": sum(clients[:10]) / total,
        "busiest client's share": clients[0] / total,
        "zipf slope of clients 1-300": slope(clients[:300]),
        "clients seen once": sum(1 for seen in clients if seen == 1) / len(clients),
        "within 60 s of the client's last": sum(1 for gap in gaps if gap <= 60 * NS) / total,
        "mean visit": fmean(visits),
        "visits of one request": sum(1 for visit in visits if visit == 1) / len(visits),
        "share in visits of 30 and more": sum(v for v in visits if v >= 30) / total,
        "top 10 paths' share": sum(paths[:10]) / total,
        "zipf slope of paths 1-100": slope(paths[:100]),
        "busiest agent's share": agents[0] / total,
        "status 200": status["200"] / total,
        "status 304": status["304"] / total,
        "status 404": status["404"] / total,
        "steadiness of the 10 busiest": steadiness(requests),
    }


def falling(counts: Counter[str]) -> list[int]:
    return sorted(counts.values(), reverse=True)


def slope(counts: list[int]) -> float:
    """Return the slope of log(count) by log(rank), by least squares."""
    xs = [math.log(rank) for rank in range(1, len(counts) + 1)]
    ys = [math.log(each) for each in counts]
    mean_x, mean_y = fmean(xs), fmean(ys)
    rise = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    return rise / sum((x - mean_x) ** 2 for x in xs)


def gaps_and_visits(requests: list[Request]) -> tuple[list[int], list[int]]:
    last: dict[str, int] = {}
    current: Counter[str] = Counter()
    gaps, visits = [], []
    for request in requests:
        client = request.attributes["client"]
        if client in last:
            gap = request.at_ns - last[client]
            gaps.append(gap)
            if gap > 1800 * NS:
                visits.append(current.pop(client))
        last[client] = request.at_ns
        current[client] += 1
    return gaps, visits + list(current.values())


def steadiness(requests: list[Request]) -> float:
    """Return the median, over the ten busiest clients, of the share of hours with requests."""
    first = requests[0].at_ns
    hours = (requests[-1].at_ns - first) // (3600 * NS) + 1
    busiest = Counter(request.attributes["client"] for request in requests).most_common(10)
    seen: dict[str, set[int]] = {client: set() for client, _ in busiest}
    for request in requests:
        client = request.attributes["client"]
        if client in seen:
            seen[client].add((request.at_ns - first) // (3600 * NS))
    return median(len(each) / hours for each in seen.values())
