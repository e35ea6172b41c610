"""The message classes that :mod:`~ratectl.stores.etcd.schema` builds, with their types.

A test holds the types below equal to the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.stores.etcd.schema import MESSAGES, message_class

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.message import Message

    class KeyValue(Message):
        key: bytes
        mod_revision: int
        value: bytes
        lease: int

    class Event(Message):
        kind: int
        kv: KeyValue

    class ResponseHeader(Message):
        cluster_id: int
        member_id: int
        revision: int
        raft_term: int

    class RangeRequest(Message):
        key: bytes
        range_end: bytes
        limit: int
        revision: int
        count_only: bool

        def __init__(
            self,
            *,
            key: bytes = ...,
            range_end: bytes = ...,
            limit: int = ...,
            revision: int = ...,
            count_only: bool = ...,
        ) -> None: ...

    class RangeResponse(Message):
        header: ResponseHeader
        kvs: list[KeyValue]
        more: bool
        count: int

    class PutRequest(Message):
        key: bytes
        value: bytes
        lease: int

        def __init__(self, *, key: bytes = ..., value: bytes = ..., lease: int = ...) -> None: ...

    class PutResponse(Message):
        header: ResponseHeader

    class DeleteRangeRequest(Message):
        key: bytes
        range_end: bytes

        def __init__(self, *, key: bytes = ..., range_end: bytes = ...) -> None: ...

    class DeleteRangeResponse(Message):
        header: ResponseHeader
        deleted: int

    class Compare(Message):
        result: int
        target: int
        key: bytes
        mod_revision: int

        def __init__(
            self, *, result: int = ..., target: int = ..., key: bytes = ..., mod_revision: int = ...
        ) -> None: ...

    class RequestOp(Message):
        request_range: RangeRequest
        request_put: PutRequest
        request_delete_range: DeleteRangeRequest

        def __init__(
            self,
            *,
            request_range: RangeRequest = ...,
            request_put: PutRequest = ...,
            request_delete_range: DeleteRangeRequest = ...,
        ) -> None: ...

    class ResponseOp(Message):
        response_range: RangeResponse
        response_put: PutResponse
        response_delete_range: DeleteRangeResponse

    class TxnRequest(Message):
        compare: list[Compare]
        success: list[RequestOp]

        def __init__(
            self, *, compare: Iterable[Compare] = ..., success: Iterable[RequestOp] = ...
        ) -> None: ...

    class TxnResponse(Message):
        header: ResponseHeader
        succeeded: bool
        responses: list[ResponseOp]

    class WatchCreateRequest(Message):
        key: bytes
        range_end: bytes
        start_revision: int
        progress_notify: bool
        fragment: bool

        def __init__(
            self,
            *,
            key: bytes = ...,
            range_end: bytes = ...,
            start_revision: int = ...,
            progress_notify: bool = ...,
            fragment: bool = ...,
        ) -> None: ...

    class WatchProgressRequest(Message):
        def __init__(self) -> None: ...

    class WatchRequest(Message):
        create_request: WatchCreateRequest
        progress_request: WatchProgressRequest

        def __init__(
            self,
            *,
            create_request: WatchCreateRequest = ...,
            progress_request: WatchProgressRequest = ...,
        ) -> None: ...

    class WatchResponse(Message):
        header: ResponseHeader
        watch_id: int
        created: bool
        canceled: bool
        compact_revision: int
        cancel_reason: str
        fragment: bool
        events: list[Event]

    class LeaseGrantRequest(Message):
        ttl: int
        lease_id: int

        def __init__(self, *, ttl: int = ..., lease_id: int = ...) -> None: ...

    class LeaseGrantResponse(Message):
        header: ResponseHeader
        lease_id: int
        ttl: int
        error: str

    class LeaseRevokeRequest(Message):
        lease_id: int

        def __init__(self, *, lease_id: int = ...) -> None: ...

    class LeaseRevokeResponse(Message):
        header: ResponseHeader

    class LeaseKeepAliveRequest(Message):
        lease_id: int

        def __init__(self, *, lease_id: int = ...) -> None: ...

    class LeaseKeepAliveResponse(Message):
        header: ResponseHeader
        lease_id: int
        ttl: int

    class AuthenticateRequest(Message):
        name: str
        password: str

        def __init__(self, *, name: str = ..., password: str = ...) -> None: ...

    class AuthenticateResponse(Message):
        header: ResponseHeader
        token: str

    class StatusRequest(Message):
        def __init__(self) -> None: ...

    class StatusResponse(Message):
        header: ResponseHeader
        version: str
        db_size: int
        leader: int
        errors: list[str]
        db_size_in_use: int
        is_learner: bool

else:
    globals().update({name: message_class(name) for name in MESSAGES})
