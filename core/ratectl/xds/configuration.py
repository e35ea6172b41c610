"""Configurations that a management server sends, as policies and a mapping.

Each is written in the words of envoyproxy/ratelimit's files first, so that it is read, bounded and
moved as those are; and what is wrong with it has a place and a line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message import DecodeError

from ratectl.moving.block_text import block_text
from ratectl.moving.envoy_files import MovingError, read_sources
from ratectl.moving.envoy_import import import_files
from ratectl.policy.loading.files import Sources
from ratectl.xds.messages import RESOURCE_TYPE, decode_config

if TYPE_CHECKING:
    from ratectl.moving.envoy_import import Imported
    from ratectl.moving.envoy_limits import QuotaMode
    from ratectl.xds.messages import Config, Descriptor, DiscoveryResponse, Policy

__all__ = ["ConfigurationRefused", "configuration_of"]

_UNITS: Final = ("", "second", "minute", "hour", "day", "month", "year", "week")
"""Units by their numbers."""


class ConfigurationRefused(Exception):
    """Raised for a response that cannot be put in force; the text says why, for the server."""


def configuration_of(
    response: DiscoveryResponse,
    *,
    across: str | None = None,
    quota_mode: QuotaMode | None = None,
) -> Imported:
    """Return the policies and the mapping that a response says; see ``import_files``.

    :raises ConfigurationRefused: it is no such configuration, or says what cannot be said.
    """
    if response.type_url != RESOURCE_TYPE:
        raise ConfigurationRefused(f"resources of type {response.type_url!r} were not asked for")
    texts: dict[str, bytes] = {}
    for resource in response.resources:
        if resource.type_url != RESOURCE_TYPE:
            raise ConfigurationRefused(f"a resource has the type {resource.type_url!r}")
        try:
            config = decode_config(resource.value)
        except DecodeError as error:
            raise ConfigurationRefused(f"a resource cannot be read: {error}") from None
        name = f"xds:{config.name or config.domain}"
        if name in texts:
            raise ConfigurationRefused(f"two resources have the name {config.name!r}")
        texts[name] = block_text(_file(config)).encode()
    # Servers send them in any order, and more of them later: names of scopes must not change.
    files = Sources.of(dict(sorted(texts.items())))
    options: dict[str, Any] = {"quota_mode": quota_mode, "across": across, "stable": True}
    try:
        return import_files(read_sources(files), **options)
    except MovingError as error:
        raise ConfigurationRefused(_told(error)) from None


def _told(error: MovingError) -> str:
    """Return the first finding, with the line that it is about, and the number of the others."""
    first, *others = error.diagnostics
    line = f": {first.source_line.strip()}" if first.source_line else ""
    more = f"; and {len(others)} more" if others else ""
    return f"{first}{line}{more}"


def _file(config: Config) -> dict[str, Any]:
    """Return a configuration as a file of envoyproxy/ratelimit has it."""
    below = [_descriptor(each) for each in config.descriptors]
    return {"domain": config.domain, **({"descriptors": below} if below else {})}


def _descriptor(descriptor: Descriptor) -> dict[str, Any]:
    written: dict[str, Any] = {"key": descriptor.key}
    if descriptor.value:
        written["value"] = descriptor.value
    if descriptor.HasField("rate_limit"):
        written["rate_limit"] = _rate_limit(descriptor.rate_limit)
    for flag in ("shadow_mode", "detailed_metric", "quota_mode"):
        if getattr(descriptor, flag):
            written[flag] = True
    below = [_descriptor(each) for each in descriptor.descriptors]
    if below:
        written["descriptors"] = below
    return written


def _rate_limit(policy: Policy) -> dict[str, Any]:
    unit = policy.unit
    known = unit if unit not in range(len(_UNITS)) else _UNITS[unit]
    written: dict[str, Any] = {"unit": str(known)} if known != "" else {}
    if policy.unlimited:
        written["unlimited"] = True
    else:
        written["requests_per_unit"] = policy.requests_per_unit
    if policy.name:
        written["name"] = policy.name
    if policy.replaces:
        written["replaces"] = [{"name": each.name} for each in policy.replaces]
    return written
