"""Readers of all formats, and malformed logs."""

from __future__ import annotations

import gzip
import io
import json
import random

import pytest
from logs import HEAD, ONE, START, calls, generated, log, traffic

from ratectl.errors import UsageError
from ratectl.simulate import read_map
from ratectl.simulate.access import AccessReader
from ratectl.simulate.lines import read_lines
from ratectl.simulate.times import reader_of
from ratectl.traffic import parse_line

NS = 10**9
ALL = HEAD + (
    "format: combined\nscope: {field: path, rules: [{match: '*', scope: /web}]}\n"
    "attributes: {client: client, method: method, path: path, status: status, agent: agent}\n"
)
JSONL = HEAD + (
    "format: jsonl\ntime: {field: at, format: unix_ms}\nscope: {field: scope}\n"
    "attributes: {tenant: http.tenant, size: size, vip: vip, ratio: ratio}\ncost: {field: units}\n"
)
CSV = HEAD + "format: csv\ntime: when\nscope: /api\nattributes: {tenant: who}\n"


def test_a_line_of_a_combined_log() -> None:
    made = HEAD + (
        "format: combined\nscope: /web\ncost: {field: bytes, per: 500}\n"
        "attributes: {client: client, agent: agent, route: {field: path, segments: 1}}\n"
    )
    (call,) = calls(traffic(log(5, path="/files/a.zip"), made))
    attributes = {"client": "198.51.100.7", "agent": "Hare/1", "route": "/files"}
    assert call == ((START + 5) * NS, "/web", attributes, 2)


def nasty_lines() -> list[str]:
    """Return generated lines with one change each: most are still valid."""
    draw = random.Random(3)
    lines = generated(1500).decode().splitlines()
    marks = ['"', " ", "\\", "[", "]", "-", "/", "\t", "é", "?", "0", ":", "\r", "+", "\\x22"]
    for at in range(0, len(lines), 2):
        line, mark = lines[at], draw.choice(marks)
        place = draw.randrange(len(line))
        lines[at] = line[:place] + mark + line[place + draw.randrange(3) :]
    lines += [line.replace("GET ", "", 1) for line in lines[:5]]
    lines += [
        '1.2.3.4 - - [05/Jan/2026:00:00:60 +0000] "GET / HTTP/1.1" 200 1 "-" "-"',
        '1.2.3.4 - - [05/Jan/2026:00:00:61 +0000] "GET / HTTP/1.1" 200 1 "-" "-"',
        '1.2.3.4 - - [05/Jan/1926:00:00:00 +0000] "GET / HTTP/1.1" 200 1 "-" "x"',
        '- - - [05/Jan/2026:00:00:00 +0000] "GET / HTTP/1.1" 200 1',
        "x" * 70_000,
        'a - - [05/Jan/2026:00:00:00 +0000] "GET / HTTP/1.1" 200 1 "-" "' + "y" * 70_000 + '"',
    ]
    return lines


def test_the_fast_reader_agrees_with_parse_line() -> None:
    """The lines are read twice: the second time all parts are in the cache."""
    lines = nasty_lines()
    expected = []
    for line in lines:
        request = parse_line(line)
        if request is not None and request.at_ns >= 0 and "path" in request.attributes:
            recorded = {k: v for k, v in request.attributes.items() if k != "route"}
            expected.append(
                (request.at_ns, {k: v for k, v in recorded.items() if v not in ("", "-")})
            )
    reader = AccessReader(read_map(ALL.encode(), "map.yaml"))
    for _ in range(2):
        found: list[tuple[int, str, dict[str, str], int]] = []
        reader.read(lines, 1, found, lambda _number, _reason, _line: None)
        assert [(at, attributes) for at, _, attributes, _ in found] == expected
    assert len(expected) > 1000


def test_json_lines() -> None:
    lines = [
        {"at": 1000, "scope": "/a", "http": {"tenant": "acme"}, "size": 5, "vip": True, "units": 3},
        {"at": "1500.5", "scope": "/b", "http.tenant": "zeta", "size": None, "vip": "", "units": 1},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    text += '{"at": 2000, "scope": "/a", "ratio": 0.10, "units": "2"}\n'
    assert calls(traffic(text.encode(), JSONL)) == [
        (NS, "/a", {"tenant": "acme", "size": "5", "vip": "true"}, 3),
        (1_500_500_000, "/b", {"tenant": "zeta"}, 1),
        (2 * NS, "/a", {"ratio": "0.10"}, 2),
    ]


def test_json_lines_that_cannot_be_used() -> None:
    filled = {"http.tenant": "acme", "size": 5, "vip": "yes", "ratio": "1", "units": 2}
    good = json.dumps({"at": 1, "scope": "/a", **filled})
    bad = [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        ("[" * 5000, "not JSON"),
        ('{"at": ' + "9" * 5000 + "}", "not JSON"),
        ('{"scope": "/a"}', "it has no time"),
        ('{"at": "x", "scope": "/a"}', "the time is not a number of the form unix_ms"),
        ('{"at": -1, "scope": "/a"}', "the time is not a number of the form unix_ms"),
        ('{"at": 99999999999999999, "scope": "/a"}', "the time is before 1970 or after 2262"),
        ('{"at": 1, "scope": "/a", "units": -1}', "units is not a whole number"),
        ('{"at": 1, "scope": "a"}', "no scope for it"),
        (json.dumps({"at": 1, "x": "x" * 70_000}), "the line is too long"),
    ]
    for line, reason in bad:
        replayed = traffic(f"{good}\n\n{line}\n{good}\n".encode(), JSONL)
        assert len(calls(replayed)) == 2
        ((number, found, text),) = replayed.reading.examples
        assert (number, found, text) == (3, reason, line[:200])
        unmapped = reason == "no scope for it"
        reading = replayed.reading
        assert (reading.lines, reading.malformed, reading.unmapped) == (3, not unmapped, unmapped)


def test_csv_with_a_header() -> None:
    text = (
        "\ufeffid,when,who\r\n1,2026-01-05T00:00:00Z,acme\r\n\r\n"
        '2,2026-01-05T01:00:01+01:00,"a, b"\n3,2026-01-05 00:00:02,\n'
    )
    replayed = traffic(text.encode(), CSV)
    assert calls(replayed) == [
        (START * NS, "/api", {"tenant": "acme"}, 1),
        ((START + 1) * NS, "/api", {"tenant": "a, b"}, 1),
        ((START + 2) * NS, "/api", {}, 1),
    ]
    assert replayed.reading.lines == 3


def test_csv_lines_that_cannot_be_used() -> None:
    lines = ["when,who", "2026-01-05T00:00:00Z,acme", "a,b,c", '"open', "yesterday,acme", ",acme"]
    replayed = traffic("\n".join(lines).encode(), CSV)
    assert len(calls(replayed)) == 1
    assert [(number, reason) for number, reason, _ in replayed.reading.examples] == [
        (3, "3 cells under 2 columns"),
        (4, "not CSV"),
        (5, "the time is not of the form iso"),
        (6, "it has no time"),
    ]


def test_a_csv_header_must_have_the_columns_of_the_map() -> None:
    cases = {
        "when,tenant": "the log has no column 'who', which the map uses: it has when, tenant",
        "when,who,who": "the log has more than one column 'who', which the map uses: "
        "it has when, who, who",
        '"when': "the first line of the log is not a CSV header",
    }
    for header, message in cases.items():
        with pytest.raises(UsageError) as raised:
            calls(traffic(f"{header}\n".encode(), CSV))
        assert str(raised.value) == message


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        ("clf", "05/Jan/2026:01:00:00 +0100", START * NS),
        ("clf", "04/Jan/2026:22:30:00 -0130", START * NS),
        ("clf", "31/Feb/2026:00:00:00 +0000", None),
        ("clf", "05/Foo/2026:00:00:00 +0000", None),
        ("iso", "2026-01-05T00:00:00.250Z", START * NS + 250_000_000),
        ("iso", "1969-12-31T23:59:59Z", None),
        ("unix", "1767571200", START * NS),
        ("unix", "1767571200.000000001", START * NS + 1),
        ("unix_us", "1767571200000001", START * NS + 1000),
        ("unix_ns", "1767571200000000001", START * NS + 1),
        ("unix", "1e9", None),
    ],
)
def test_times(form: str, text: str, expected: int | None) -> None:
    from ratectl.simulate.calls import Unusable

    read = reader_of(form)  # type: ignore[arg-type]
    if expected is None:
        with pytest.raises(Unusable):
            read(text)
    else:
        assert read(text) == expected


# Bytes ------------------------------------------------------------------------------------------


class Dripping:
    """Pipe that returns few bytes at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        self._file = io.BytesIO(data)
        self._size = size

    def read(self, _size: int, /) -> bytes:
        return self._file.read(self._size)


def lines_of(data: bytes, size: int = 1 << 20) -> tuple[list[str], list[str], int]:
    damaged: list[str] = []
    passed: list[int] = []
    blocks = read_lines(Dripping(data, size), damaged.append, passed.append)
    return [line for block in blocks for line in block], damaged, sum(passed)


def test_gzip_is_recognised_by_its_first_bytes_in_blocks_of_any_size() -> None:
    text = generated(300)
    expected = text.decode().splitlines()
    packed = gzip.compress(text[:9000]) + gzip.compress(text[9000:]) + b"\0" * 512
    for data in (text, packed):
        for size in (1, 7, 1 << 20) if data is packed else (61, 1 << 20):
            assert lines_of(data, size) == (expected, [], len(data))


def test_damaged_gzip_is_read_as_far_as_it_goes() -> None:
    packed = gzip.compress(b"one\ntwo\n") + gzip.compress(b"three\n")
    assert lines_of(packed[:-4])[:2] == (
        ["one", "two", "three"], ["the gzip data ends too early"]
    )  # fmt: skip
    corrupt = gzip.compress(b"one\n") + b"\x1f\x8b\x08" + b"\xff" * 30
    assert lines_of(corrupt)[0] == ["one"]
    _, damaged, _ = lines_of(corrupt)
    assert damaged == ["the gzip data is corrupt"]
    replayed = traffic(gzip.compress(log(1, 2, 3))[:-8])
    assert len(calls(replayed)) == 3
    assert replayed.reading.damaged == "the gzip data ends too early"


def test_bytes_that_are_not_text_and_endless_lines() -> None:
    assert lines_of(b"a\xff\nb")[0] == ["a\ufffd", "b"]
    found, _, _ = lines_of(b"x" * 3_000_000 + b"\nlast\n")
    assert found[-1] == "last"
    assert 65_536 < len(found[0]) < 1_500_000
    replayed = traffic(b"\xff\xfe\0\n" + b"x" * 3_000_000 + b"\n" + log(1))
    assert len(calls(replayed)) == 1
    assert replayed.reading.malformed == 2


def test_calls_do_not_depend_on_the_size_of_blocks() -> None:
    lines = generated(9000, rate=50).splitlines(keepends=True)
    random.Random(1).shuffle(lines)
    data = b"".join(lines)
    made = read_map(ONE.encode(), "map.yaml")
    from ratectl.simulate import Traffic

    found = [calls(Traffic(Dripping(data, size), made, window_ns=NS)) for size in (997, 1 << 18)]
    assert found[0] == found[1]
    assert sorted(found[0], key=lambda call: call[0]) == found[0]
