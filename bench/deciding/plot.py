"""Plot of decisions: a bar for one hot key, a ring for many keys, on one logarithmic scale.

Plain SVG, for light and dark pages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from bench.deciding import ours
from bench.deciding.floors import C_CALL, PYTHON_CALL
from bench.deciding.peers import PEERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.deciding.results import Results

__all__ = ["draw"]

_WIDTH, _LEFT, _RIGHT = 880, 268, 720
_TOP, _ROW, _BAR, _HEAD, _GAP = 86, 22, 13, 24, 6

_GROUPS = {
    "c": "ratectl, compiled",
    "pure": "ratectl, pure Python",
    "peer": "other libraries, in memory",
    "floor": "floors",
}
_REMARKS = {"token-bucket": "no lock", "aiolimiter": "one event loop, waits"}

_STYLE = """
text{font:13px system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif;fill:#1f2328}
.title{font-size:16px;font-weight:600}.group{font-weight:600}.small,.value{font-size:12px}
.small,.remark{fill:#59636e}.value{paint-order:stroke;stroke:#fff;stroke-width:4px}.grid{stroke:#59636e;stroke-opacity:.25}
.ring{fill:#fff;stroke:#1f2328;stroke-width:1.5}
.any{fill:#59636e}.c{fill:#0b7a75}.pure{fill:#5aa9a3}.peer{fill:#8c7ab8}.floor{fill:#9aa4ae}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.small,.remark{fill:#9198a1}
.grid{stroke:#9198a1}.ring{fill:#0d1117;stroke:#e6edf3}.value{stroke:#0d1117}
.any{fill:#9198a1}.c{fill:#2dc2b9}.pure{fill:#3f8f89}}
"""


@dataclass(frozen=True, slots=True)
class _Row:
    label: str
    remark: str
    ns: float
    zipf: float | None


class _Scale:
    """Logarithmic scale of whole decades around all drawn values."""

    def __init__(self, values: list[float]) -> None:
        self.low = math.floor(math.log10(min(values)))
        self.high = math.ceil(math.log10(max(values)))

    def x(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return round(_LEFT + share * (_RIGHT - _LEFT), 1)

    def decades(self) -> list[int]:
        return [10**power for power in range(self.low, self.high + 1)]


def draw(results: Results, machine: str, keys: int) -> str:
    """Return the picture of a run on a machine."""
    groups = {side: rows for side in _GROUPS if (rows := _rows(results, side))}
    every = [row for rows in groups.values() for row in rows]
    scale = _Scale([value for row in every for value in (row.ns, row.zipf) if value])
    body: list[str] = []
    y = _TOP
    for side, rows in groups.items():
        body.append(_text(16, y + 16, _GROUPS[side], "group"))
        y += _HEAD
        for row in rows:
            body += _bar(row, side, y, scale)
            y += _ROW
        y += _GAP
    grid = [part for value in scale.decades() for part in _decade(value, scale.x(value), y)]
    frame = [*_heading(machine, keys), *grid, *body]
    height = y + 30
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" role="img">\n'
        f"<title>Nanoseconds per decision. {escape(machine)}</title>\n"
        f"<style>{_STYLE}</style>\n" + "\n".join(frame) + "\n</svg>\n"
    )


def _rows(results: Results, side: str) -> list[_Row]:
    found = []
    for name, label in _names(side):
        ns = results.ns(name)
        if ns is not None:
            found.append(_Row(label, _REMARKS.get(name, ""), ns, results.zipf(name)))
    return sorted(found, key=lambda row: row.ns)


def _names(side: str) -> Iterator[tuple[str, str]]:
    """Return the drawn candidates, with their labels."""
    if side == "peer":
        yield from ((name, name) for name in PEERS)
    elif side == "floor":
        yield from ((name, name) for name in (C_CALL, "clock read (monotonic_ns)", PYTHON_CALL))
    else:
        yield f"{side}: {ours.GATE}", "gate (yes or no), one limit"
        yield f"{side}: {ours.MANY}", "agent.check_many, each of 32"
        yield f"{side}: {ours.CHECK}", "agent.check, one limit"
        yield f"{side}: {ours.SIX}", "agent.check, six limits"


def _heading(machine: str, keys: int) -> Iterator[str]:
    yield _text(16, 26, "Nanoseconds per decision, one thread (logarithmic scale)", "title")
    yield _text(16, 46, machine, "small")
    yield f'<rect class="any" x="{_LEFT}" y="58" width="26" height="{_BAR}" rx="2"/>'
    yield _text(_LEFT + 34, 69, "one hot key", "small")
    yield f'<circle class="ring" cx="{_LEFT + 134}" cy="64.5" r="4"/>'
    yield _text(_LEFT + 146, 69, f"{keys:,} keys, zipf s = 1.1 (each in its own process)", "small")


def _decade(value: int, x: float, bottom: int) -> Iterator[str]:
    yield f'<line class="grid" x1="{x}" x2="{x}" y1="{_TOP}" y2="{bottom}"/>'
    said = f"{value} ns" if value < 1000 else f"{value // 1000:,} µs"
    yield _text(x, bottom + 18, said, "small", "middle")


def _bar(row: _Row, side: str, y: int, scale: _Scale) -> Iterator[str]:
    middle = y + _ROW / 2
    end = scale.x(row.ns)
    remark = f' <tspan class="small remark">({escape(row.remark)})</tspan>' if row.remark else ""
    yield _text(28, middle + 4.5, row.label, extra=remark)
    yield (
        f'<rect class="{side}" x="{_LEFT}" y="{middle - _BAR / 2}" '
        f'width="{max(1.0, round(end - _LEFT, 1))}" height="{_BAR}" rx="2"/>'
    )
    said = _number(row.ns)
    if row.zipf is not None:
        ring = scale.x(row.zipf)
        yield f'<circle class="ring" cx="{ring}" cy="{middle}" r="4"/>'
        end = max(end, ring + 5)
        said += f" · {_number(row.zipf)}"
    yield _text(end + 8, middle + 4.5, said, "value")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 20 else f"{value:.1f}"


def _text(x: float, y: float, said: str, kind: str = "", anchor: str = "", extra: str = "") -> str:
    attributes = f' class="{kind}"' if kind else ""
    attributes += f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{x}" y="{y}"{attributes}>{escape(said)}{extra}</text>'
