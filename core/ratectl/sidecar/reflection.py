"""gRPC's reflection: clients such as grpcurl learn services and messages from the server.

Source: github.com/grpc/grpc, doc/server-reflection.md. Its versions ``v1`` and ``v1alpha`` have the
same messages.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from google.protobuf import descriptor_pb2, duration_pb2, struct_pb2, text_format, wrappers_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

import ratectl.sidecar
from ratectl.stores.protobuf import Messages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor import FileDescriptor

__all__ = ["reflect"]

_MOST_BYTES: Final = 1_024
_NOT_FOUND, _INVALID_ARGUMENT, _UNIMPLEMENTED = 5, 3, 12

_MESSAGES: Final = Messages(
    "ratectl.reflection",
    """
Extension: containing_type 1 string, extension_number 2 int32
Request: host 1 string, file_by_filename 3 string /asked, file_containing_symbol 4 string /asked,
 file_containing_extension 5 Extension /asked, all_extension_numbers_of_type 6 string /asked,
 list_services 7 string /asked
Files: file_descriptor_proto 1 bytes*
Service: name 1 string
Services: service 1 Service*
Error: error_code 1 int32, error_message 2 string
Response: valid_host 1 string, original_request 2 Request, file_descriptor_response 4 Files,
 list_services_response 6 Services, error_response 7 Error
""",
)


def reflect(data: bytes) -> bytes:
    """Answer one ``ServerReflectionRequest`` of a stream."""
    if len(data) > _MOST_BYTES:  # an answer repeats its request
        problem = f"a request has {_MOST_BYTES} bytes at most"
        return _response(error_response=_error(_INVALID_ARGUMENT, problem))
    try:
        request: Any = _MESSAGES.message_class("Request").FromString(data)
    except DecodeError as error:
        return _response(error_response=_error(_INVALID_ARGUMENT, f"no request: {error}"))
    return _response(original_request=request, valid_host=request.host, **_answer(request))


def _answer(request: Any) -> dict[str, Any]:
    asked = request.WhichOneof("asked")
    wanted: Any = None if asked is None else getattr(request, asked)
    if asked == "list_services":
        return {"list_services_response": {"service": [{"name": name} for name in _known()[1]]}}
    pool = _known()[0]
    try:
        if asked == "file_by_filename":
            found = pool.FindFileByName(wanted)
        elif asked == "file_containing_symbol":
            found = _file_with(pool, wanted)
        else:
            problem = "there are no extensions here"
            return {"error_response": _error(_UNIMPLEMENTED, problem)}
    except KeyError:
        return {"error_response": _error(_NOT_FOUND, f"{wanted!r:.200} is not served here")}
    whole = dict.fromkeys(_with_dependencies(found))
    return {"file_descriptor_response": {"file_descriptor_proto": list(whole)}}


def _file_with(pool: DescriptorPool, symbol: str) -> FileDescriptor:
    """Return the file of a service, a method of one, or a message.

    :raises KeyError: there is none.
    """
    try:
        return pool.FindFileContainingSymbol(symbol)
    except KeyError:
        service, _, method = symbol.rpartition(".")
        return pool.FindServiceByName(service).methods_by_name[method].containing_service.file


def _with_dependencies(file: FileDescriptor) -> Iterator[bytes]:
    """Yield a file, and those that it needs."""
    yield file.serialized_pb
    for each in file.dependencies:
        yield from _with_dependencies(each)


@cache
def _known() -> tuple[DescriptorPool, tuple[str, ...]]:
    """Return the files that are served, and the names of their services."""
    pool = DescriptorPool()
    for module in (duration_pb2, struct_pb2, wrappers_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    text = (files(ratectl.sidecar) / "services.textproto").read_text("utf-8")
    own = text_format.Parse(text, descriptor_pb2.FileDescriptorSet()).file
    for file in own:
        pool.Add(file)
    names = [f"{file.package}.{service.name}" for file in own for service in file.service]
    return pool, tuple(sorted(names))


def _error(code: int, message: str) -> dict[str, Any]:
    return {"error_code": code, "error_message": message}


def _response(**fields: Any) -> bytes:
    return _MESSAGES.message_class("Response")(**fields).SerializeToString()
