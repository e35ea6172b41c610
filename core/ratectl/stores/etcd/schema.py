"""The etcd v3 messages that ratectl uses, with etcd's documented field numbers.

Generated code would tie ratectl to one protobuf major version, and etcd's file names in protobuf's
global pool collide with any other etcd client in the process. So the messages are a table here,
with names and a descriptor pool of ratectl's own: only numbers and types are sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

if TYPE_CHECKING:
    from google.protobuf.message import Message

__all__ = ["MESSAGES", "message_class"]

_PACKAGE: Final = "ratectl.stores.etcd"

# One message a block: "name number type"; "*" marks a repeated field, "/group" a member of a oneof.
# Enums are encoded as varints, so int32 is used for them.
_TABLE: Final = """
KeyValue: key 1 bytes, mod_revision 3 int64, value 5 bytes, lease 6 int64
Event: kind 1 int32, kv 2 KeyValue
ResponseHeader: cluster_id 1 uint64, member_id 2 uint64, revision 3 int64, raft_term 4 uint64

RangeRequest: key 1 bytes, range_end 2 bytes, limit 3 int64, revision 4 int64,
  count_only 9 bool
RangeResponse: header 1 ResponseHeader, kvs 2 KeyValue*, more 3 bool, count 4 int64
PutRequest: key 1 bytes, value 2 bytes, lease 3 int64
PutResponse: header 1 ResponseHeader
DeleteRangeRequest: key 1 bytes, range_end 2 bytes
DeleteRangeResponse: header 1 ResponseHeader, deleted 2 int64
Compare: result 1 int32, target 2 int32, key 3 bytes, mod_revision 6 int64 /target_union
RequestOp: request_range 1 RangeRequest /request, request_put 2 PutRequest /request,
  request_delete_range 3 DeleteRangeRequest /request
ResponseOp: response_range 1 RangeResponse /response, response_put 2 PutResponse /response,
  response_delete_range 3 DeleteRangeResponse /response
TxnRequest: compare 1 Compare*, success 2 RequestOp*
TxnResponse: header 1 ResponseHeader, succeeded 2 bool, responses 3 ResponseOp*

WatchCreateRequest: key 1 bytes, range_end 2 bytes, start_revision 3 int64,
  progress_notify 4 bool, fragment 8 bool
WatchProgressRequest:
WatchRequest: create_request 1 WatchCreateRequest /request_union,
  progress_request 3 WatchProgressRequest /request_union
WatchResponse: header 1 ResponseHeader, watch_id 2 int64, created 3 bool, canceled 4 bool,
  compact_revision 5 int64, cancel_reason 6 string, fragment 7 bool, events 11 Event*

LeaseGrantRequest: ttl 1 int64, lease_id 2 int64
LeaseGrantResponse: header 1 ResponseHeader, lease_id 2 int64, ttl 3 int64, error 4 string
LeaseRevokeRequest: lease_id 1 int64
LeaseRevokeResponse: header 1 ResponseHeader
LeaseKeepAliveRequest: lease_id 1 int64
LeaseKeepAliveResponse: header 1 ResponseHeader, lease_id 2 int64, ttl 3 int64

AuthenticateRequest: name 1 string, password 2 string
AuthenticateResponse: header 1 ResponseHeader, token 2 string
StatusRequest:
StatusResponse: header 1 ResponseHeader, version 2 string, db_size 3 int64, leader 4 uint64,
  errors 8 string*, db_size_in_use 9 int64, is_learner 10 bool
"""

_SCALARS: Final = {
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
    "int32": FieldDescriptorProto.TYPE_INT32,
    "int64": FieldDescriptorProto.TYPE_INT64,
    "string": FieldDescriptorProto.TYPE_STRING,
    "uint64": FieldDescriptorProto.TYPE_UINT64,
}


def _parse(table: str) -> dict[str, list[str]]:
    """Message name → its field definitions."""
    blocks = table.replace(",\n", ",").strip().splitlines()
    pairs = (block.split(":", 1) for block in blocks if block)
    return {name: [f.strip() for f in fields.split(",") if f.strip()] for name, fields in pairs}


MESSAGES: Final = _parse(_TABLE)
"""Message name → field definitions, as in the table."""


def _add_field(message: DescriptorProto, definition: str, groups: dict[str, int]) -> None:
    name, number, kind, *group = definition.split()
    field = message.field.add(name=name, number=int(number))
    field.label = (
        FieldDescriptorProto.LABEL_REPEATED
        if kind.endswith("*")
        else FieldDescriptorProto.LABEL_OPTIONAL
    )
    kind = kind.rstrip("*")
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type = FieldDescriptorProto.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{kind}"
    if group:
        union = group[0].lstrip("/")
        if union not in groups:
            groups[union] = len(groups)
            message.oneof_decl.add(name=union)
        field.oneof_index = groups[union]


def _file() -> FileDescriptorProto:
    file = FileDescriptorProto(name="ratectl/stores/etcd.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        groups: dict[str, int] = {}
        for definition in fields:
            _add_field(message, definition, groups)
    return file


_POOL: Final = DescriptorPool()
_POOL.AddSerializedFile(_file().SerializeToString())


def message_class(name: str) -> type[Message]:
    """The class of one message of the table."""
    return GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
