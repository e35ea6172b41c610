"""Messages of xDS that carry rate limits. Sources: the protocol buffers of Envoy's data plane API
(``envoy.service.discovery.v3``) and of ``ratelimit.config.ratelimit.v3``, and
envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ratectl.stores.protobuf import Messages

if TYPE_CHECKING:
    from google.protobuf.message import Message

    class AnyMessage(Message):
        type_url: str
        value: bytes

    class DiscoveryResponse(Message):
        version_info: str
        resources: list[AnyMessage]
        type_url: str
        nonce: str

    class Replaced(Message):
        name: str

    class Policy(Message):
        unit: int
        requests_per_unit: int
        unlimited: bool
        name: str
        replaces: list[Replaced]

    class Descriptor(Message):
        key: str
        value: str
        rate_limit: Policy
        descriptors: list[Descriptor]
        shadow_mode: bool
        detailed_metric: bool
        quota_mode: bool

    class Config(Message):
        name: str
        domain: str
        descriptors: list[Descriptor]


__all__ = ["METHOD", "RESOURCE_TYPE", "decode_config", "decode_response", "encode_request"]

METHOD: Final = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
"""The stream on which Envoy Gateway sends rate limits."""

RESOURCE_TYPE: Final = "type.googleapis.com/ratelimit.config.ratelimit.v3.RateLimitConfig"

_INVALID_ARGUMENT: Final = 3
"""Code of ``google.rpc.Status`` in a refusal."""

_MESSAGES: Final = Messages(
    "ratectl.xds",
    """
Any: type_url 1 string, value 2 bytes
Node: id 1 string
Status: code 1 int32, message 2 string
DiscoveryRequest: version_info 1 string, node 2 Node, type_url 4 string, response_nonce 5 string,
 error_detail 6 Status
DiscoveryResponse: version_info 1 string, resources 2 Any*, type_url 4 string, nonce 5 string
Replaced: name 1 string
Policy: unit 1 int32, requests_per_unit 2 uint64, unlimited 3 bool, name 4 string,
 replaces 5 Replaced*
Descriptor: key 1 string, value 2 string, rate_limit 3 Policy, descriptors 4 Descriptor*,
 shadow_mode 5 bool, detailed_metric 6 bool, quota_mode 7 bool
Config: name 1 string, domain 2 string, descriptors 3 Descriptor*
""",
)


def encode_request(
    node: str, *, version: str = "", nonce: str = "", refusal: str | None = None
) -> bytes:
    """Return a request: the first of a stream, or the answer to a response.

    ``node``: the name under which the server knows this client. ``version``: that of the
    configuration in use. ``nonce``: that of the response. ``refusal``: why it is refused; None if
    it is accepted.
    """
    fields: dict[str, Any] = {
        "version_info": version,
        "node": {"id": node},
        "type_url": RESOURCE_TYPE,
        "response_nonce": nonce,
    }
    if refusal is not None:
        fields["error_detail"] = {"code": _INVALID_ARGUMENT, "message": refusal}
    return _MESSAGES.message_class("DiscoveryRequest")(**fields).SerializeToString()


def decode_response(data: bytes) -> DiscoveryResponse:
    """Read a response.

    :raises google.protobuf.message.DecodeError: the bytes are none.
    """
    return _MESSAGES.message_class("DiscoveryResponse").FromString(data)  # type: ignore[return-value]


def decode_config(data: bytes) -> Config:
    """Read the configuration of one domain.

    :raises google.protobuf.message.DecodeError: the bytes are none.
    """
    return _MESSAGES.message_class("Config").FromString(data)  # type: ignore[return-value]
