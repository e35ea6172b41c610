"""The etcd v3 messages that ratectl uses, with etcd's documented field numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.stores.protobuf import Messages

if TYPE_CHECKING:
    from google.protobuf.message import Message

__all__ = ["MESSAGES", "message_class"]

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

_MESSAGES: Final = Messages("ratectl.stores.etcd", _TABLE)

MESSAGES: Final = _MESSAGES.fields
"""Message name → field definitions, as in the table."""


def message_class(name: str) -> type[Message]:
    """Return the class of one message of the table."""
    return _MESSAGES.message_class(name)
