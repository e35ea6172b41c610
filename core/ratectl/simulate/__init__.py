"""Simulation: recorded traffic through policies, in virtual time.

    from ratectl.policy.read import load_valid
    from ratectl.simulate import Traffic, read_map, replay

    with open("access.log.gz", "rb") as log:
        traffic = Traffic(log, read_map(data, "web.map.yaml"))
        report = replay(traffic, [("policies", load_valid(["policies"]).tree)])
    print(report.requests, report.sides[0].refused)

A map (``read_map``) declares how a line becomes a scope, attributes and a cost; an ``Assertion`` is
a condition on a report.
"""

from __future__ import annotations

from ratectl.simulate.assertions import Assertion, Outcome
from ratectl.simulate.replay import replay
from ratectl.simulate.report import LimitCount, Report, ScopeCount, Side
from ratectl.simulate.sources import Reading, Traffic
from ratectl.simulate.traffic_map import MapError, read_map

__all__ = [
    "Assertion",
    "LimitCount",
    "MapError",
    "Outcome",
    "Reading",
    "Report",
    "ScopeCount",
    "Side",
    "Traffic",
    "read_map",
    "replay",
]
