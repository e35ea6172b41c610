"""Reflection: clients learn the messages from the server, and ask it in JSON, as grpcurl does."""

from __future__ import annotations

import queue
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import grpc
import hpack
import pytest
from envoy.service.ratelimit.v3 import rls_pb2
from google.protobuf import descriptor_pb2, json_format, message_factory, text_format
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from hyperframe.frame import DataFrame, Frame, HeadersFrame, SettingsFrame
from test_rls_attacks import HEADERS, PREFACE, data, headers

import ratectl.sidecar
from etcd_server import wait_for
from ratectl import Agent
from ratectl.sidecar import Sidecar
from ratectl.sidecar.grpcio_server import MOST_STREAMED
from ratectl.sidecar.methods import MOST_BYTES, MOST_MESSAGES, REFLECTION
from ratectl.sidecar.service import METHOD
from ratectl.sidecar.sidecar import SERVERS
from ratectl.sidecar.statuses import CallError
from ratectl.sidecar.streamed_calls import MOST_CALLS
from sidecar.protobuf_oracle import described
from sidecar.servers import ON_THE_LOOP, connection, needed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

POLICIES = """
apiVersion: ratectl/v1
scope: /shop
limits:
  each: {rate: 2/day, burst: 2, per: client}
"""
HEALTH, RLS = "grpc.health.v1.Health", "envoy.service.ratelimit.v3.RateLimitService"
Request, Response = (
    reflection_pb2.ServerReflectionRequest,
    reflection_pb2.ServerReflectionResponse,
)
LIST = Request(list_services="").SerializeToString()

each_version = pytest.mark.parametrize("path", REFLECTION)


@pytest.fixture(params=ON_THE_LOOP)
def looped(request: pytest.FixtureRequest) -> Any:
    return needed(request.param)


@pytest.fixture(params=SERVERS)
def channel(request: pytest.FixtureRequest) -> Iterator[grpc.Channel]:
    with (
        Agent.from_policies(POLICIES) as agent,
        Sidecar(agent, "127.0.0.1:0", server=needed(request.param)) as sidecar,
        grpc.insecure_channel(str(sidecar.rls)) as channel,
    ):
        yield channel


def answers(channel: grpc.Channel, path: str, *requests: bytes) -> list[Any]:
    return [Response.FromString(each) for each in channel.stream_stream(path)(iter(requests))]


def ask(channel: grpc.Channel, method: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Call a method in JSON. Its messages are known from the server alone."""
    pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    service, _, name = method.rpartition("/")
    found = pool.FindServiceByName(service).methods_by_name[name]
    asked = json_format.ParseDict(fields, message_factory.GetMessageClass(found.input_type)())
    data = channel.unary_unary(f"/{method}")(asked.SerializeToString(), timeout=10)
    answer = message_factory.GetMessageClass(found.output_type).FromString(data)
    shown: dict[str, Any] = json_format.MessageToDict(answer, preserving_proto_field_name=True)
    return shown


def test_a_client_without_files_asks_in_json(channel: grpc.Channel) -> None:
    assert ProtoReflectionDescriptorDatabase(channel).get_services() == [RLS, HEALTH]
    assert ask(channel, f"{HEALTH}/Check", {"service": RLS}) == {"status": "SERVING"}
    entries = [{"key": "client", "value": "a"}]
    asked = {"domain": "shop", "descriptors": [{"entries": entries, "hits_addend": "2"}]}
    first, second = (ask(channel, f"{RLS}/ShouldRateLimit", asked) for _ in range(2))
    assert first["overall_code"] == "OK"
    assert second["overall_code"] == "OVER_LIMIT"
    (status,) = second["statuses"]
    assert status["current_limit"] == {"requests_per_unit": 2, "unit": "DAY", "name": "each"}
    assert {each["key"] for each in second["response_headers_to_add"]} >= {"retry-after"}
    assert second["dynamic_metadata"]["limit"] == "each"


@each_version
def test_each_request_of_a_stream_is_answered(channel: grpc.Channel, path: str) -> None:
    symbol = Request(host="here", file_containing_symbol=f"{RLS}.ShouldRateLimit")
    requests = [LIST, symbol.SerializeToString()]
    listed, found = answers(channel, path, *requests)
    assert [each.name for each in listed.list_services_response.service] == [RLS, HEALTH]
    assert found.valid_host == "here"
    assert found.original_request == symbol
    names = [
        descriptor_pb2.FileDescriptorProto.FromString(each).name
        for each in found.file_descriptor_response.file_descriptor_proto
    ]
    assert names[0] == "envoy/service/ratelimit/v3/rls.proto"
    assert set(names[1:]) == {
        f"google/protobuf/{name}.proto" for name in ("duration", "struct", "wrappers")
    }
    name = Request(file_by_filename=names[0]).SerializeToString()
    (again,) = answers(channel, path, name)
    assert again.file_descriptor_response == found.file_descriptor_response
    assert answers(channel, path) == []


@each_version
@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (Request(file_containing_symbol="shop.Shop").SerializeToString(), 5),
        (Request(file_by_filename="x" * 900).SerializeToString(), 5),
        (Request(file_by_filename="x" * 1_100).SerializeToString(), 3),
        (Request(all_extension_numbers_of_type=RLS).SerializeToString(), 12),
        (Request(file_containing_extension={"containing_type": RLS}).SerializeToString(), 12),
        (b"", 12),
        (b"\xff", 3),
        (b"\x1a\x01\xff", 3),
    ],
    ids=["symbol", "file", "long", "extensions", "extension", "nothing", "no message", "no text"],
)
def test_what_is_not_there_is_told(
    channel: grpc.Channel, path: str, asked: bytes, code: int
) -> None:
    wrong, listed = answers(channel, path, asked, LIST)
    assert wrong.error_response.error_code == code
    assert len(wrong.error_response.error_message) < 300
    assert listed.list_services_response.service, "the stream goes on"


@each_version
def test_a_stream_is_bounded(channel: grpc.Channel, path: str) -> None:
    call = channel.stream_stream(path)(iter([LIST] * (MOST_MESSAGES + 5)))
    found = []
    with pytest.raises(grpc.RpcError) as caught:
        found.extend(call)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(found) <= MOST_MESSAGES
    large = Request(file_by_filename="x" * MOST_BYTES).SerializeToString()
    with pytest.raises(grpc.RpcError) as caught:
        answers(channel, path, large)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


class Slow:
    """A call whose client sends a message now and then."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.call = channel.stream_stream(REFLECTION[0])(iter(self._queue.get, None))

    def ask(self, data: bytes | None) -> None:
        self._queue.put(data)


def test_streams_stay_open_and_are_counted(looped: Any) -> None:
    with (
        Agent.from_policies(POLICIES) as agent,
        Sidecar(agent, "127.0.0.1:0", server=looped) as sidecar,
        grpc.insecure_channel(str(sidecar.rls)) as channel,
    ):
        slow = [Slow(channel) for _ in range(MOST_CALLS)]
        for _ in range(2):
            for each in slow:
                each.ask(LIST)
                assert Response.FromString(next(each.call)).list_services_response.service
        with pytest.raises(grpc.RpcError) as caught:
            answers(channel, REFLECTION[0], LIST)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        slow[0].call.cancel()
        slow[1].ask(None)
        assert list(slow[1].call) == []
        wait_for(lambda: _is_answered(channel), "there is room again")
        for each in slow[2:]:
            each.call.cancel()


def test_calls_that_were_ended_by_an_error_count_as_long_as_they_are_open(looped: Any) -> None:
    """A client that does not read its answers must not make new ones without end."""
    fed = connection(looped, {METHOD: bytes}, streams=[METHOD])
    fed.feed(PREFACE + SettingsFrame(0, settings={4: 0}).serialize())
    for stream in range(1, 2 * 60, 2):
        fed.feed(headers(stream).serialize())
        content = whole(*([b"x" * 1_000] * (MOST_MESSAGES + 1)))
        content += b"x" * 20_000  # after the end
        for at in range(0, len(content), 16_000):
            part = content[at : at + 16_000]
            fed.feed(data(stream, part, end=False).serialize())
            fed.to_send()
    assert len(fed._streamed) == MOST_CALLS
    assert not any(call.parts for call in fed._streamed._calls.values())


def test_calls_that_wait_leave_threads_of_grpcio_to_others() -> None:
    with (
        Agent.from_policies(POLICIES) as agent,
        Sidecar(agent, "127.0.0.1:0", server="grpcio") as sidecar,
        grpc.insecure_channel(str(sidecar.rls)) as channel,
    ):
        first, *others = [Slow(channel) for _ in range(MOST_STREAMED)]
        for each in (first, *others):
            each.ask(LIST)
            assert Response.FromString(next(each.call)).list_services_response.service
        for _ in range(10):
            with pytest.raises(grpc.RpcError) as caught:
                answers(channel, REFLECTION[0], LIST)
            assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert channel.unary_unary(f"/{HEALTH}/Check")(b"", timeout=10) == b"\x08\x01"
        first.ask(None)
        assert list(first.call) == []
        wait_for(lambda: _is_answered(channel), "there is room again")
        for each in others:
            each.call.cancel()


def _is_answered(channel: grpc.Channel) -> bool:
    try:
        return bool(answers(channel, REFLECTION[0], LIST))
    except grpc.RpcError:
        return False


# Frames by hand -----------------------------------------------------------------------------------


class Feeding:
    """A connection without a socket, with a method that answers each message by itself."""

    def __init__(self, server: str, begin: HeadersFrame | None = None) -> None:
        self.connection = connection(server, {METHOD: self._answer}, streams=[METHOD])
        self.asked: list[bytes] = []
        settings = SettingsFrame(0).serialize()
        self.connection.feed(PREFACE + settings + (begin or headers(1)).serialize())

    def _answer(self, message: bytes) -> bytes:
        self.asked.append(message)
        if message == b"no":
            raise CallError(9, "not now")
        return message

    def feed(self, content: bytes, *, end: bool = False) -> None:
        self.connection.feed(data(1, content, end=end).serialize())

    def end(self) -> tuple[bytes, str]:
        """Return what was answered, and the status."""
        sent, found, status = self.connection.to_send(), b"", ""
        decoder = hpack.Decoder()
        while sent:
            frame, length = Frame.parse_frame_header(memoryview(sent[:9]))
            frame.parse_body(memoryview(sent[9 : 9 + length]))
            sent = sent[9 + length :]
            if isinstance(frame, DataFrame):
                found += frame.data
            elif isinstance(frame, HeadersFrame):
                status = dict(decoder.decode(frame.data)).get("grpc-status", "")
        return found, status


def whole(*messages: bytes) -> bytes:
    return b"".join(b"\0" + len(each).to_bytes(4, "big") + each for each in messages)


def test_messages_may_come_in_any_parts(looped: Any) -> None:
    content = whole(b"one", b"", b"three" * 100)
    for size in (1, 4, 5, 6, 9, 1_000):
        feeding = Feeding(looped)
        for at in range(0, len(content), size):
            feeding.feed(content[at : at + size])
        assert feeding.asked == [b"one", b"", b"three" * 100]
        feeding.feed(b"", end=True)
        assert feeding.end() == (content, "0")
        assert feeding.connection.calls == 0


def test_only_post_begins_a_call(looped: Any) -> None:
    fields = [(name, "GET" if name == ":method" else value) for name, value in HEADERS]
    begin = HeadersFrame(1, hpack.Encoder().encode(fields, huffman=False))
    begin.flags.add("END_HEADERS")
    feeding = Feeding(looped, begin)
    feeding.feed(whole(b"a"), end=True)
    assert feeding.end() == (b"", "12")
    assert not feeding.asked


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (whole(b"a") + b"\1\0\0\0\1x", "12"),
        (whole(b"a") + b"\0\xff\xff\xff\xff", "8"),
        (whole(b"a") + b"\0\0\0\0\2x", "13"),
        (whole(b"a") + b"\0\0", "13"),
        (whole(b"a", b"no", b"b"), "9"),
    ],
    ids=["compressed", "too large", "not whole", "no length", "an error of the method"],
)
@pytest.mark.parametrize("ends", ["with it", "later", "by trailers"])
def test_a_wrong_message_ends_the_call(looped: Any, content: bytes, status: str, ends: str) -> None:
    feeding = Feeding(looped)
    feeding.feed(content, end=ends == "with it")
    if ends == "later":
        feeding.feed(b"", end=True)
    elif ends == "by trailers":
        trailers = HeadersFrame(1, hpack.Encoder().encode([("x-end", "1")], huffman=False))
        for flag in ("END_HEADERS", "END_STREAM"):
            trailers.flags.add(flag)
        feeding.connection.feed(trailers.serialize())
    assert feeding.end() == (whole(b"a"), status)
    assert not feeding.connection._streamed


# The file that is served --------------------------------------------------------------------------


def served() -> Sequence[descriptor_pb2.FileDescriptorProto]:
    text = (files(ratectl.sidecar) / "services.textproto").read_text("utf-8")
    return text_format.Parse(text, descriptor_pb2.FileDescriptorSet()).file


def shape(file: descriptor_pb2.FileDescriptorProto) -> list[list[tuple[int, int, int]]]:
    """Return numbers, types and labels of the fields of each message, in any order."""
    return sorted(
        sorted((field.number, field.type, field.label) for field in message.field)
        for message in file.message_type
    )


def test_numbers_and_types_are_those_of_our_own_messages() -> None:
    rls, _ = served()
    assert shape(rls) == shape(described())
    ours = {value.name: value.number for enum in described().enum_type for value in enum.value}
    assert {value.name: value.number for enum in rls.enum_type for value in enum.value} == ours


def test_names_and_numbers_are_those_of_envoy() -> None:
    """But for fields that the package of Envoy's messages does not have yet."""
    rls, _ = served()
    newer = {"is_negative_hits", "unit_multiplier"}
    for message in rls.message_type:
        theirs = _theirs(message.name)
        for field in message.field:
            if field.name not in newer:
                assert theirs.fields_by_name[field.name].number == field.number, message.name


def _theirs(name: str) -> Any:
    request = rls_pb2.RateLimitRequest.DESCRIPTOR
    response = rls_pb2.RateLimitResponse.DESCRIPTOR
    descriptor = request.fields_by_name["descriptors"].message_type
    places = {
        "RateLimitRequest": request,
        "RateLimitResponse": response,
        "RateLimitDescriptor": descriptor,
        "Entry": descriptor.nested_types_by_name["Entry"],
        "RateLimitOverride": descriptor.nested_types_by_name["RateLimitOverride"],
        "DescriptorStatus": response.nested_types_by_name["DescriptorStatus"],
        "RateLimit": response.nested_types_by_name["RateLimit"],
        "HeaderValue": response.fields_by_name["response_headers_to_add"].message_type,
    }
    return places[name]
