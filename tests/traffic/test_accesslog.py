"""Reader of access logs: valid and malformed lines."""

from __future__ import annotations

import gzip
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ratectl.traffic import AccessLog, Request, format_line, parse_line
from ratectl.traffic.request import NS

if TYPE_CHECKING:
    from pathlib import Path

T0 = 1_431_857_103 * NS  # 17 May 2015, 10:05:03 UTC
STAMP = "[17/May/2015:10:05:03 +0000]"


def line(
    client: str = "192.0.2.1",
    user: str = "-",
    stamp: str = STAMP,
    asked: str = "GET /files/a.zip HTTP/1.1",
    tail: str = '200 512 "-" "Hare/1.0"',
) -> str:
    return f'{client} - {user} {stamp} "{asked}" {tail}'


def attributes_of(text: str) -> dict[str, str]:
    request = parse_line(text)
    assert request is not None, text
    return dict(request.attributes)


def test_a_combined_line() -> None:
    """The request has every attribute, the time and the size."""
    assert parse_line(line()) == Request(
        T0,
        {
            "client": "192.0.2.1",
            "status": "200",
            "method": "GET",
            "path": "/files/a.zip",
            "route": "/files",
            "agent": "Hare/1.0",
        },
        512,
    )


def test_a_common_line_says_no_agent() -> None:
    """Without the two quoted fields, the attribute is absent."""
    assert "agent" not in attributes_of(line(tail="200 512"))
    assert "agent" not in attributes_of(line(tail='200 512 "-" "-"'))
    assert "agent" not in attributes_of(line(tail='200 512 "-" ""'))


@pytest.mark.parametrize(
    ("stamp", "seconds"),
    [
        ("[17/May/2015:10:05:03 +0000]", 0),
        ("[17/May/2015:12:05:03 +0200]", 0),
        ("[17/May/2015:04:35:03 -0530]", 0),
        ("[18/May/2015:00:05:03 +1400]", 0),
        ("[17/May/2015:10:05:60 +0000]", 57),  # a leap second
        ("[29/Feb/2016:10:05:03 +0000]", 288 * 86_400),
        ("[01/Jan/1970:00:00:00 +0000]", -T0 // NS),
    ],
)
def test_times_are_utc(stamp: str, seconds: int) -> None:
    """This covers zones, leap days and the leap second."""
    request = parse_line(line(stamp=stamp))
    assert request is not None
    assert request.at_ns == T0 + seconds * NS


@pytest.mark.parametrize(
    ("asked", "method", "path", "route"),
    [
        ("GET / HTTP/1.0", "GET", "/", "/"),
        ("GET /", "GET", "/", "/"),
        ("HEAD /a?b=c#d HTTP/1.1", "HEAD", "/a", "/a"),
        ("GET /a/b/c HTTP/2.0", "GET", "/a/b/c", "/a"),
        ("GET /a/ HTTP/3", "GET", "/a/", "/a"),
        ("GET //a HTTP/1.1", "GET", "//a", "/"),
        ("GET http://example.org/x/y?z HTTP/1.1", "GET", "/x/y", "/x"),
        ("GET http://example.org HTTP/1.1", "GET", "/", "/"),
        ("GET ?x HTTP/1.1", "GET", "/", "/"),
        ("OPTIONS * HTTP/1.1", "OPTIONS", "*", "*"),
        ("CONNECT a.example:443 HTTP/1.1", "CONNECT", "a.example:443", "a.example:443"),
        (r"GET /caf\xc3\xa9 HTTP/1.1", "GET", "/café", "/café"),
        (r"GET /a\"b HTTP/1.1", "GET", '/a"b', '/a"b'),
    ],
)
def test_request_lines(asked: str, method: str, path: str, route: str) -> None:
    """The fields are method, path without query, and route."""
    found = attributes_of(line(asked=asked))
    assert (found["method"], found["path"], found["route"]) == (method, path, route)


@pytest.mark.parametrize("asked", ["-", "", r"\x16\x03\x01", "hello", "GET  /two HTTP/1.1", "GET"])
def test_a_request_that_is_not_http_has_no_method_and_path(asked: str) -> None:
    """The line is still traffic: its client and status are known."""
    found = attributes_of(line(asked=asked, tail="400 226"))
    assert found == {"client": "192.0.2.1", "status": "400"}


@pytest.mark.parametrize(
    ("agent", "read"),
    [
        ("Hare/1.0 (X; \\\"quoted\\\")", 'Hare/1.0 (X; "quoted")'),
        ("back\\\\slash", "back\\slash"),
        ("nginx \\x22quoted\\x22", 'nginx "quoted"'),
        ("caf\\xc3\\xa9", "café"),
        ("broken \\xff utf-8", "broken � utf-8"),
        ("tab\\there", "tab\there"),
        ("Mozilla [en] (a;b)", "Mozilla [en] (a;b)"),
        ("\\x", "x"),
    ],
)  # fmt: skip
def test_quotes_and_escapes(agent: str, read: str) -> None:
    """Apache and nginx escape them in this way."""
    assert (
        attributes_of(line(tail=f'200 5 "https://example.org/?q=\\"" "{agent}"'))["agent"] == read
    )


@pytest.mark.parametrize(
    ("client", "user"),
    [
        ("2001:db8::1", "-"),
        ("::ffff:192.0.2.1", "-"),
        ("host.example.org", "frank"),
        ("192.0.2.1", "two words"),
        ("192.0.2.1", "DOMAIN\\user"),
    ],
)
def test_clients_and_users(client: str, user: str) -> None:
    """This covers IPv6, host names, and user names with spaces."""
    assert attributes_of(line(client=client, user=user))["client"] == client


def test_fields_that_a_site_appends_are_ignored() -> None:
    """This covers a duration, a forwarded address, another quoted field and a carriage return."""
    for more in (" 0.012", ' "203.0.113.9"', " 0.1 0.2 -", ' rt=0.1 "x" y', "\r"):
        assert attributes_of(line(tail='200 5 "-" "Hare/1.0"' + more))["agent"] == "Hare/1.0"
    assert attributes_of(line(tail="200 5 0.012"))["status"] == "200"


BAD = [
    "",
    "x",
    "#Fields: date time c-ip",
    line(stamp="[17/May/2015:10:05:03]"),
    line(stamp="[17/Mai/2015:10:05:03 +0000]"),
    line(stamp="[31/Feb/2015:10:05:03 +0000]"),
    line(stamp="[17/May/2015:24:05:03 +0000]"),
    line(stamp="[17/May/2015:10:60:03 +0000]"),
    line(stamp="[17/May/2015:10:05:61 +0000]"),
    line(stamp="[17/May/2015:10:05:03 +2400]"),
    line(stamp="[17/May/2015:10:05:03 +0099]"),
    line(stamp="[00/May/0000:10:05:03 +0000]"),
    line(stamp="[١٧/May/2015:10:05:03 +0000]"),
    line(tail="20 512"),
    line(tail="200"),
    line(tail="200 x"),
    line(tail="200 " + "9" * 5_000),
    line(tail='200 235 "-" "Beetle/2.1 (+https://example.org/cut-off'),
    line(tail='200 235 "-'),
    f"192.0.2.1 {line()[line().index('[') :]}",
    line() + "x" * 70_000,
    '{"time": "2015-05-17", "client": "192.0.2.1"}',
    "\x00\x01\x02",
]


@pytest.mark.parametrize("text", BAD, ids=lambda text: repr(text[-30:]))
def test_malformed_lines(text: str) -> None:
    """The result is None; nothing is raised."""
    assert parse_line(text) is None


def test_a_log_counts_what_it_skips(tmp_path: Path) -> None:
    """Blank lines are ignored; malformed lines are counted, and the first few are kept."""
    path = tmp_path / "access.log"
    bad = [text for text in BAD if text and "\n" not in text and len(text) < 1_000]
    path.write_text("\n\n".join([line(), *bad, line()]) + "\n", encoding="utf-8")
    log = AccessLog(path)
    assert len(list(log)) == 2
    assert (log.report.lines, log.report.malformed) == (len(bad) + 2, len(bad))
    assert log.report.examples[0] == (2, "x")
    assert len(log.report.examples) == 5
    assert len(list(log)) == 2, "from the beginning again"
    assert log.report.malformed == len(bad)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_the_last_line_may_lack_its_break(tmp_path: Path, end: str) -> None:
    """The log may still be growing."""
    path = tmp_path / "access.log"
    path.write_bytes((line() + "\n" + line() + end).encode())
    assert len(list(AccessLog(path))) == 2


def test_gzip_is_recognised_by_its_bytes(tmp_path: Path) -> None:
    """The file name does not matter; a file may have several gzip members."""
    path = tmp_path / "access.log"
    path.write_bytes(gzip.compress(line().encode() + b"\n") * 2)
    assert len(list(AccessLog(path))) == 2


def test_a_damaged_gzip_file_is_read_up_to_the_damage(tmp_path: Path) -> None:
    """The report has the reason: the file is cut off, or a byte is changed."""
    whole = gzip.compress("".join(f"{line(client=f'192.0.2.{n}')}\n" for n in range(9999)).encode())
    for damage in (whole[: len(whole) // 2], whole[:-40] + b"\xff" * 40, whole + b"trailing"):
        path = tmp_path / "access.log.gz"
        path.write_bytes(damage)
        log = AccessLog(path)
        assert len(list(log)) + log.report.malformed <= 9999
        assert log.report.damaged


def test_bytes_that_are_not_text(tmp_path: Path) -> None:
    """Latin-1 in an agent is replaced; an endless line is dropped, not kept in memory."""
    path = tmp_path / "access.log"
    latin = line(tail='200 5 "-" "caf\xe9"').encode("latin-1")
    path.write_bytes(latin + b"\n" + b"\x00" * 3_000_000 + b"\n" + latin)
    log = AccessLog(path)
    assert [request.attributes["agent"] for request in log] == ["caf�"] * 2
    assert log.report.malformed == 1


def test_an_empty_log(tmp_path: Path) -> None:
    """The log has no requests and no malformed lines."""
    (tmp_path / "empty").write_bytes(b"")
    log = AccessLog(tmp_path / "empty")
    assert list(log) == []
    assert (log.report.lines, log.report.damaged) == (0, None)


def test_a_missing_log_is_an_error(tmp_path: Path) -> None:
    """Opening raises an error."""
    with pytest.raises(OSError, match="missing"):
        next(iter(AccessLog(tmp_path / "missing")))


word = st.text(
    st.characters(codec="ascii", exclude_characters=' "\\?#', min_codepoint=33), min_size=1
)


@settings(max_examples=200, deadline=None)
@given(
    at=st.integers(0, 4_000_000_000),
    client=word.map(lambda text: text.replace("[", "x")),
    path=word.map(lambda text: "/" + text.replace(":", "")),
    agent=st.text(min_size=1).filter(lambda text: text != "-"),
    size=st.integers(0, 10**18 - 1),
)
def test_a_written_line_reads_back(at: int, client: str, path: str, agent: str, size: int) -> None:
    """``parse_line`` is the inverse of ``format_line`` for any agent."""
    agent = agent.encode("utf-8", "replace").decode()
    route = path if path.find("/", 1) < 0 else path[: path.find("/", 1)]
    attributes = {"client": client, "status": "200", "method": "GET", "path": path, "route": route}
    request = Request(at * NS, {**attributes, "agent": agent}, size)
    assert parse_line(format_line(request)) == request


@settings(max_examples=300, deadline=None)
@given(st.text() | st.text(st.sampled_from('192.0 -["]\\x/MayGET:+%2015\n')))
def test_no_text_makes_the_reader_fail(text: str) -> None:
    """Any text gives a request or None."""
    request = parse_line(text)
    assert request is None or request.attributes["client"]


def test_hostile_lines_take_no_time() -> None:
    """The expression does not backtrack beyond the length of the line."""
    for text in ('"' * 60_000, "\\" * 60_000, "a " * 30_000, line() + '" "' * 20_000, "[" * 60_000):
        started = time.process_time()
        parse_line(text)
        assert time.process_time() - started < 1
