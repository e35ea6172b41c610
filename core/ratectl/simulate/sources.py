"""Readers of log formats: they turn lines into calls."""

from __future__ import annotations

import csv
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ratectl.errors import UsageError
from ratectl.simulate.access import AccessReader
from ratectl.simulate.calls import UNMAPPED, Mapper, Unusable
from ratectl.simulate.lines import MAX_LINE, read_lines
from ratectl.simulate.order import Sorter
from ratectl.simulate.times import reader_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ratectl.simulate.calls import Call, Fields
    from ratectl.simulate.lines import Readable
    from ratectl.simulate.model import TrafficMap

__all__ = ["Reading", "Traffic"]

_EXAMPLES: Final = 5


@dataclass(slots=True)
class Reading:
    """Counts and problems of reading a log, up to now."""

    lines: int = 0
    """Lines that are not blank, without the header of a CSV file."""
    malformed: int = 0
    """Lines that could not be read."""
    unmapped: int = 0
    """Lines that the map has no scope for."""
    late: int = 0
    """Requests that came too late to be sorted, so that their time was changed."""
    most_late_ns: int = 0
    examples: list[tuple[int, str, str]] = field(default_factory=list)
    """The first few lines that were not replayed: number, reason and (shortened) text."""
    damaged: str | None = None
    """Reason why reading ended early."""

    def reject(self, number: int, reason: str, line: str) -> None:
        if reason == UNMAPPED:
            self.unmapped += 1
        else:
            self.malformed += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append((number, reason, line[:200]))

    def damage(self, why: str) -> None:
        self.damaged = why


class Traffic:
    """Calls of a log in time order, from the current position of the file.

    ``reading`` is complete when ``batches`` has ended.
    """

    def __init__(
        self,
        file: Readable,
        traffic_map: TrafficMap,
        *,
        window_ns: int = 60_000_000_000,
        passed: Callable[[int], None] = lambda _bytes: None,
    ) -> None:
        self.reading = Reading()
        self._file = file
        self._map = traffic_map
        self._passed = passed
        self._sorter = Sorter(window_ns)

    def batches(self) -> Iterator[list[Call]]:
        """Yield the calls, many at a time.

        :raises UsageError: the header of a CSV file lacks a column that the map names, or no line
            has a value for one of its fields.
        :raises OSError: the log cannot be read.
        """
        yield from self._sorter.ordered(self._calls())
        self.reading.late = self._sorter.late
        self.reading.most_late_ns = self._sorter.most_late_ns

    def _calls(self) -> Iterator[list[Call]]:
        reader = _reader(self._map)
        reading = self.reading
        number = 1
        for lines in read_lines(self._file, reading.damage, self._passed):
            calls: list[Call] = []
            blank = reader.read(lines, number, calls, reading.reject)
            reading.lines += len(lines) - blank
            number += len(lines)
            yield calls
        read = reading.lines > reading.malformed and not reading.damaged
        if read and isinstance(reader, _FieldReader):
            reader.check_filled()


def _reader(traffic_map: TrafficMap) -> AccessReader | _FieldReader:
    if traffic_map.format == "jsonl":
        return _JsonReader(traffic_map)
    if traffic_map.format == "csv":
        return _CsvReader(traffic_map)
    return AccessReader(traffic_map)


class _FieldReader(ABC):
    """Reader of a format with field names in the log."""

    def __init__(self, traffic_map: TrafficMap) -> None:
        assert traffic_map.time is not None, "the map was checked"
        self._mapper = Mapper(traffic_map)
        self._at_field = traffic_map.time.field
        self.unfilled = set(_used(traffic_map))
        """Fields that the map uses and no line has had a value for."""
        self._at = reader_of(traffic_map.time.format)

    def read(
        self,
        lines: list[str],
        first: int,
        calls: list[Call],
        reject: Callable[[int, str, str], None],
    ) -> int:
        """Append the calls of ``lines``; return the number of blank lines and headers."""
        blank = 0
        for number, line in enumerate(lines, first):
            if not line or line.isspace() or self._opens(line):
                blank += 1
                continue
            try:
                calls.append(self._call(line))
            except Unusable as error:
                reject(number, str(error), line)
        return blank

    def _call(self, line: str) -> Call:
        if len(line) > MAX_LINE:
            raise Unusable("the line is too long")
        fields, mapper = self._fields(line), self._mapper
        if self.unfilled:
            self.unfilled -= {name for name in self.unfilled if fields.get(name) is not None}
        at = fields.get(self._at_field)
        if at is None:
            raise Unusable("it has no time")
        when = self._at(at)
        scope = mapper.scope(fields)
        if scope is None:
            raise Unusable(UNMAPPED)
        return when, scope, mapper.attributes(fields), mapper.cost(fields)

    def check_filled(self) -> None:
        """Check that every field that the map uses had a value in some line.

        :raises UsageError: one had none, so its name is probably wrong.
        """
        if self.unfilled:
            names = " and ".join(repr(name) for name in sorted(self.unfilled))
            raise UsageError(f"no line of the log has a value for {names}, which the map uses")

    def _opens(self, line: str) -> bool:  # noqa: ARG002  for readers that have a header
        """Return True if the line is the header."""
        return False

    @abstractmethod
    def _fields(self, line: str) -> Fields:
        """Return the fields of a line.

        :raises Unusable: it is not readable.
        """


class _Dotted(dict[str, Any]):
    """Fields of a JSON object; ``http.client`` can also mean ``client`` in ``http``."""

    def get(self, name: str, default: Any = None) -> Any:
        value: Any = super().get(name)
        if value is None and "." in name:
            value = dict(self)
            for part in name.split("."):
                value = value.get(part) if isinstance(value, dict) else None
        if isinstance(value, str):
            return value or default
        if isinstance(value, bool):
            return "true" if value else "false"
        return str(value) if isinstance(value, int) else default


class _JsonReader(_FieldReader):
    """Reader of logs with one JSON object on each line; it keeps the spelling of numbers."""

    def _fields(self, line: str) -> Fields:
        try:
            value = json.loads(line, parse_float=str)
        except (ValueError, RecursionError):
            raise Unusable("not JSON") from None
        if not isinstance(value, dict):
            raise Unusable("not a JSON object")
        return _Dotted(value)


class _CsvReader(_FieldReader):
    """Reader of CSV logs: the first line has the names of the fields."""

    def __init__(self, traffic_map: TrafficMap) -> None:
        super().__init__(traffic_map)
        self._used = [self._at_field, *_used(traffic_map)]
        self._names: list[str] | None = None

    def _opens(self, line: str) -> bool:
        if self._names is not None:
            return False
        try:
            self._names = _cells(line.removeprefix("\ufeff"))
        except Unusable:
            raise UsageError("the first line of the log is not a CSV header") from None
        for name in self._used:
            if self._names.count(name) != 1:
                has = "has no column" if name not in self._names else "has more than one column"
                columns = ", ".join(self._names)
                raise UsageError(f"the log {has} {name!r}, which the map uses: it has {columns}")
        return True

    def _fields(self, line: str) -> Fields:
        cells = _cells(line)
        assert self._names is not None
        if len(cells) != len(self._names):
            raise Unusable(f"{len(cells)} cells under {len(self._names)} columns")
        return {name: cell for name, cell in zip(self._names, cells, strict=True) if cell}


def _cells(line: str) -> list[str]:
    try:
        return next(csv.reader([line.removesuffix("\r")], strict=True))
    except (csv.Error, StopIteration):
        raise Unusable("not CSV") from None


def _used(traffic_map: TrafficMap) -> list[str]:
    names = [
        traffic_map.scope.field,
        *traffic_map.cost_fields.values(),
        *(one.field for one in traffic_map.attributes.values()),
    ]
    return [name for name in names if name is not None]
