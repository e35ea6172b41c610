"""Messages as bytes: what protobuf reads and writes, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from ratectl.sidecar.messages import (
    Code,
    Descriptor,
    Limit,
    Override,
    Request,
    Response,
    Status,
    Unit,
)
from ratectl.sidecar.wire import (
    MOST_DESCRIPTORS,
    MOST_ENTRIES,
    WireError,
    decode_request,
    encode_response,
)
from sidecar.protobuf_oracle import described, message

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor as MessageType

TEXTS = st.text(max_size=9)
NUMBERS = st.integers(0, 300) | st.integers(0, 2**32 - 1)
LONG = st.integers(0, 300) | st.integers(0, 2**64 - 1)
UNITS = st.integers(0, 9) | st.integers(-(2**31), 2**31 - 1)
OVERRIDES = st.builds(Override, NUMBERS, UNITS, st.none() | NUMBERS)
DESCRIPTORS = st.builds(
    Descriptor,
    st.lists(st.tuples(TEXTS, TEXTS), max_size=4).map(tuple),
    st.none() | LONG,
    st.booleans(),
    st.none() | OVERRIDES,
)
REQUESTS = st.builds(Request, TEXTS, st.lists(DESCRIPTORS, max_size=4).map(tuple), NUMBERS)
LIMITS = st.builds(
    Limit,
    st.integers(0, 2**40),
    st.sampled_from(Unit),
    TEXTS,
    st.none() | st.integers(0, 2**32 - 1),
)
STATUSES = st.builds(
    Status,
    st.sampled_from(Code),
    st.none() | LIMITS,
    st.integers(0, 2**40),
    st.none() | st.integers(0, 2**62),
)
RESPONSES = st.builds(
    Response,
    st.sampled_from(Code),
    st.lists(STATUSES, max_size=4).map(tuple),
    st.lists(st.tuples(TEXTS, TEXTS), max_size=4).map(tuple),
    st.dictionaries(TEXTS, TEXTS | st.integers(-(2**53), 2**53), max_size=4),
)
OK = Response(Code.OK)


def written(request: Request) -> Any:
    """Return protobuf's message with the fields of a request."""
    found = message("Request")(domain=request.domain, hits=request.hits)
    for each in request.descriptors:
        descriptor = found.descriptors.add(is_negative=each.is_negative)
        for key, value in each.entries:
            descriptor.entries.add(key=key, value=value)
        if each.hits is not None:
            descriptor.hits.value = each.hits
        if each.override is not None:
            requests, unit, multiplier = each.override
            descriptor.override.requests, descriptor.override.unit = requests, unit
            descriptor.override.SetInParent()
            if multiplier is not None:
                descriptor.override.multiplier.value = multiplier
    return found


def read(data: bytes) -> Request:
    """Return what protobuf reads in bytes. Texts need not be UTF-8."""
    found = message("Request", "raw").FromString(data)
    descriptors = [
        Descriptor(
            tuple([(text(entry.key), text(entry.value)) for entry in each.entries]),
            each.hits.value if each.HasField("hits") else None,
            each.is_negative,
            override_in(each),
        )
        for each in found.descriptors
    ]
    return Request(text(found.domain), tuple(descriptors), found.hits)


def override_in(descriptor: Any) -> Override | None:
    if not descriptor.HasField("override"):
        return None
    found = descriptor.override
    multiplier = found.multiplier.value if found.HasField("multiplier") else None
    return Override(found.requests, found.unit, multiplier)


def text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


# Requests ---------------------------------------------------------------------------------------


@given(REQUESTS)
def test_what_protobuf_writes_is_read(request: Request) -> None:
    assert decode_request(written(request).SerializeToString()) == request


@given(REQUESTS, REQUESTS)
def test_messages_in_a_row_are_read_as_one(one: Request, other: Request) -> None:
    data = written(one).SerializeToString() + written(other).SerializeToString()
    assert decode_request(data) == read(data)


VARINTS = LONG.map(lambda value: varint(value))
BYTES = st.binary(max_size=6)


def varint(value: int) -> bytes:
    found = b""
    while value > 0x7F:
        found, value = found + bytes([value & 0x7F | 0x80]), value >> 7
    return found + bytes([value])


def field(number: int, kind: int, content: bytes) -> bytes:
    return varint(number << 3 | kind) + content


NUMBERED = st.integers(1, 5) | st.sampled_from([15, 16, 2047, 2**29 - 1])


def fields(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Fields of all kinds and numbers, whose contents may be messages, too."""
    spans = (inner | BYTES).map(lambda content: varint(len(content)) + content)
    each = st.one_of(
        st.builds(field, NUMBERED, st.just(0), VARINTS),
        st.builds(field, NUMBERED, st.just(1), st.binary(min_size=8, max_size=8)),
        st.builds(field, NUMBERED, st.just(2), spans),
        st.builds(
            lambda number, content: field(number, 3, content) + field(number, 4, b""),
            NUMBERED,
            inner,
        ),
        st.builds(field, NUMBERED, st.just(5), st.binary(min_size=4, max_size=4)),
    )
    return st.lists(each, max_size=4).map(b"".join)


MESSAGES = st.recursive(st.just(b""), fields, max_leaves=6)


def same(data: bytes) -> None:
    """Require that bytes mean to us what they mean to protobuf."""
    try:
        expected = read(data)
    except DecodeError:
        with pytest.raises(WireError):
            decode_request(data)
        return
    assert decode_request(data) == expected


@given(MESSAGES)
@example(field(2, 2, varint(2) + field(1, 2, varint(0))))
@example(field(3, 0, varint(2**64 - 1)))
@example(field(3, 0, b"\xff" * 9 + b"\x7f"))
@example(field(1, 0, varint(5)) + field(3, 2, varint(0)))
@example(b"\x12" + b"\x80" * 4 + b"\0")
@example(b"\x12" + b"\x80" * 5 + b"\0")
@example(b"\x98" + b"\x80" * 3 + b"\0\1")
@example(b"\x98" + b"\x80" * 4 + b"\0\1")
def test_any_fields_mean_the_same(data: bytes) -> None:
    same(data)


@given(MESSAGES, st.data())
@example(b"", None)
def test_damaged_messages_mean_the_same(data: bytes, choices: st.DataObject | None) -> None:
    if choices is None:
        return
    damaged = bytearray(data)
    for _ in range(choices.draw(st.integers(0, 3))):
        if damaged:
            damaged[choices.draw(st.integers(0, len(damaged) - 1))] = choices.draw(
                st.integers(0, 255)
            )
    same(bytes(damaged[: choices.draw(st.integers(0, len(damaged)))]))


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a",
        b"\x0a\x05abc",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x00\x00",
        b"\x18" + b"\x80" * 10 + b"\x01",
        b"\x18\x80",
        b"\x0c",
        b"\x0b",
        b"\x0b\x14",
        b"\x0e",
        b"\x0f",
        b"\x09abc",
        b"\x0dabc",
        b"\xff\xff\xff\xff\xff\x01",
        b"\x0b" * 200 + b"\x0c" * 200,
        b"\x12\x02\x0a\x05",
    ],
    ids=lambda data: data[:12].hex(),
)
def test_no_message(data: bytes) -> None:
    with pytest.raises(WireError):
        decode_request(data)
    with pytest.raises(DecodeError):
        read(data)


def test_text_that_is_not_utf8_is_read() -> None:
    """Envoy passes a header on as it is: an error would admit the request."""
    entry = field(1, 2, b"\x01k") + field(2, 2, b"\x02\xff\xfe")
    data = field(2, 2, varint(len(entry) + 2) + field(1, 2, varint(len(entry)) + entry))
    (descriptor,) = decode_request(data).descriptors
    assert descriptor.entries == (("k", "\udcff\udcfe"),)


def test_bounds() -> None:
    entry = field(1, 2, varint(0))
    most = b"".join([field(2, 2, varint(0))] * MOST_DESCRIPTORS)
    assert len(decode_request(most).descriptors) == MOST_DESCRIPTORS
    with pytest.raises(WireError, match="more than 64 descriptors"):
        decode_request(most + field(2, 2, varint(0)))
    full = entry * MOST_ENTRIES
    (descriptor,) = decode_request(field(2, 2, varint(len(full)) + full)).descriptors
    assert len(descriptor.entries) == MOST_ENTRIES
    full += entry
    with pytest.raises(WireError, match="more than 64 entries"):
        decode_request(field(2, 2, varint(len(full)) + full))


# Responses --------------------------------------------------------------------------------------


@given(RESPONSES)
@example(OK)
def test_what_is_written_is_read_by_protobuf(response: Response) -> None:
    found = message("Response").FromString(encode_response(response))
    assert found.code == response.code
    assert [(header.key, header.value) for header in found.headers] == list(response.headers)
    assert dict(found.metadata) == (response.metadata or {})
    assert len(found.statuses) == len(response.statuses)
    for status, expected in zip(found.statuses, response.statuses, strict=True):
        assert status.code == expected.code
        assert status.remaining == min(expected.remaining, 2**32 - 1)
        assert status.HasField("until_reset") == (expected.until_reset is not None)
        assert status.until_reset.ToNanoseconds() == (expected.until_reset or 0)
        assert status.HasField("limit") == (expected.limit is not None)
        if expected.limit is not None:
            limit = status.limit
            multiplier = limit.multiplier.value if limit.HasField("multiplier") else None
            assert (limit.unit, limit.name) == (expected.limit.unit, expected.limit.name)
            assert limit.requests == min(expected.limit.requests, 2**32 - 1)
            assert multiplier == expected.limit.multiplier


def test_lone_surrogates_are_written_as_question_marks() -> None:
    data = encode_response(Response(Code.OK, metadata={"key": "\udcff"}))
    assert dict(message("Response").FromString(data).metadata) == {"key": "?"}


# The definition ---------------------------------------------------------------------------------

NAMES = {
    "Request": "RateLimitRequest",
    "Descriptor": "RateLimitDescriptor",
    "Entry": "RateLimitDescriptor.Entry",
    "Override": "RateLimitDescriptor.RateLimitOverride",
    "Response": "RateLimitResponse",
    "Status": "RateLimitResponse.DescriptorStatus",
    "Limit": "RateLimitResponse.RateLimit",
    "Header": "HeaderValue",
}
FIELDS = {
    "hits": "hits_addend", "is_negative": "is_negative_hits", "override": "limit",
    "requests": "requests_per_unit", "multiplier": "unit_multiplier", "headers":
    "response_headers_to_add", "metadata": "dynamic_metadata", "limit": "current_limit",
    "remaining": "limit_remaining", "until_reset": "duration_until_reset",
}  # fmt: skip
NEWER = {("Descriptor", "is_negative"), ("Override", "multiplier"), ("Limit", "multiplier")}
"""Fields of Envoy 1.40 that the published definitions do not have yet."""


def envoys(name: str) -> MessageType:
    from envoy.config.core.v3 import base_pb2
    from envoy.extensions.common.ratelimit.v3 import ratelimit_pb2
    from envoy.service.ratelimit.v3 import rls_pb2

    outer, _, inner = NAMES[name].partition(".")
    for module in (rls_pb2, ratelimit_pb2, base_pb2):
        kind = getattr(module, outer, None)
        if kind is not None:
            descriptor: MessageType = kind.DESCRIPTOR
            return descriptor.nested_types_by_name[inner] if inner else descriptor
    raise AssertionError(name)


@pytest.mark.parametrize("name", NAMES)
def test_numbers_and_types_are_those_of_envoy(name: str) -> None:
    theirs = envoys(name).fields_by_number
    (ours,) = [each for each in described().message_type if each.name == name]
    for each in ours.field:
        if (name, each.name) in NEWER:
            assert each.number not in theirs
            continue
        their = theirs[each.number]
        expected = FIELDS.get(each.name, each.name)
        if (name, each.name) == ("Response", "code"):
            expected = "overall_code"
        assert (their.name, their.type) == (expected, each.type)
        if each.type_name.startswith(".google"):
            assert their.message_type.full_name == each.type_name[1:]
