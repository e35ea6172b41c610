"""Following of a management server: a sidecar enforces the limits that the server sends.

What it sends becomes policies and a mapping. The policies are published to the agent's store, the
agent follows them as any others, and then the sidecar maps descriptors to them.
"""

from __future__ import annotations

import random
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from ratectl.agent.log import log
from ratectl.errors import RatectlError, UsageError
from ratectl.moving.envoy_import import MAPPING
from ratectl.runtime.address import parse_address
from ratectl.runtime.closing import Closing
from ratectl.runtime.files import make_folder
from ratectl.runtime.whole_files import write_whole
from ratectl.sidecar.mapping import EnvoyMapping
from ratectl.sidecar.mapping_file import parse_mapping, read_mapping
from ratectl.xds.configuration import ConfigurationRefused, configuration_of
from ratectl.xds.publication import publish
from ratectl.xds.stream import Server, Stream, StreamEnded

if TYPE_CHECKING:
    from ratectl.agent import Agent
    from ratectl.agent.serving.tls import Tls
    from ratectl.moving.envoy_import import Imported
    from ratectl.moving.envoy_limits import QuotaMode
    from ratectl.sidecar import Sidecar
    from ratectl.xds.messages import DiscoveryResponse

__all__ = ["GatewayFollower"]

_NODE: Final = "envoy-ratelimit"
"""Name under which Envoy Gateway has limits for a rate limit service."""

_SHORTEST, _LONGEST = 0.5, 30.0
"""Seconds between two attempts, before chance makes them differ."""

_LONGEST_REFUSAL: Final = 5.0
"""Most seconds that a refusal waits: the server sends nothing new before."""

_ADOPTION: Final = 10.0
"""Seconds in which an agent puts in force what was published."""
_PRIVATE: Final = 0o700


class GatewayFollower(Closing):
    """Lets a sidecar stand where Envoy Gateway expects envoyproxy/ratelimit.

    >>> with Agent("sqlite:////var/lib/ratectl/store.db") as agent, Sidecar(
    ...     agent, "0.0.0.0:8081"
    ... ) as sidecar, GatewayFollower(agent, sidecar, "envoy-gateway:18001", tls=tls):
    ...     wait()                                                       # doctest: +SKIP
    """

    def __init__(
        self,
        agent: Agent,
        sidecar: Sidecar,
        address: str,
        *,
        node: str | None = None,
        tls: Tls | None = None,
        across: str | None = None,
        quota_mode: QuotaMode | None = None,
    ) -> None:
        """Follow the management server at ``address`` (``host:port``), until closed.

        Its limits are published to the agent's store as the set ``xds``, and survive restarts
        there. ``node``: the name under which the server knows rate limit services; default:
        ``envoy-ratelimit``. ``tls``: certificate and key of this client, and the authority of the
        server; None for a connection in plain text. ``across``: who counts the limits (``redis``);
        None: each sidecar. ``quota_mode``: the meaning of limits with ``quota_mode`` (``shadow`` or
        ``enforce``); None: they are refused.

        :raises UsageError: an argument cannot be used, the agent follows no store or obeys
            signatures only, or the sidecar has a mapping of its own.
        """
        if across not in (None, "redis"):
            raise UsageError(f"across is 'redis', or None, not {across!r}")
        if quota_mode not in (None, "shadow", "enforce"):
            raise UsageError(f"quota_mode is 'shadow' or 'enforce', or None, not {quota_mode!r}")
        settings = agent._following.settings  # noqa: SLF001
        parsed = parse_address(address)
        if parsed.path or not parsed.port:
            raise UsageError(f"a management server is reached by host:port, not by {address}")
        if "://" not in settings.source:
            raise UsageError("limits of a management server need an agent that follows a store")
        if settings.trust is not None:
            raise UsageError(
                "an agent with public keys obeys signed policies only, and nobody signs what a "
                "management server sends"
            )
        self._server = Server(address, _NODE if node is None else node, tls)
        try:
            self._server.check()
        except StreamEnded as error:
            raise UsageError(f"the management server {address}: {error}") from None
        self._url = settings.source
        self._state = agent._following.state  # noqa: SLF001
        self._problem = partial(self._state.problem, "xds")
        self._use = sidecar.map_by
        self._import = partial(configuration_of, across=across, quota_mode=quota_mode)
        self._mapping = settings.state_dir / "xds" / f"{address.replace(':', '_')}.yaml"
        self._restore()
        self._stopped = threading.Event()
        self._stream: Stream | None = None
        self._refused = 0
        """Responses refused in a row."""
        self._thread = threading.Thread(target=self._follow, name="ratectl-xds", daemon=True)
        self._thread.start()
        agent._companions.join(self)  # noqa: SLF001

    def _restore(self) -> None:
        """Use the mapping that the process before this one has written."""
        if not self._mapping.exists():
            self._use(EnvoyMapping())
            return
        try:
            self._use(EnvoyMapping(read_mapping(self._mapping)))
        except UsageError as error:
            log.warning("%s; the mapping comes with the server's next answer", error)

    # The thread ---------------------------------------------------------------------------------

    def _follow(self) -> None:
        failures = 0
        while not self._stopped.is_set():
            began, answered = time.monotonic(), False
            try:
                stream = self._stream = self._server.open()
                for response in stream.responses():
                    answered = True
                    self._take(stream, response)
                    if self._stopped.is_set():
                        break
            except (StreamEnded, DecodeError) as error:
                why = f"the management server {self._server.address} is not reached: {error}"
            except Exception as error:  # noqa: BLE001  the thread goes on
                log.exception("following the management server failed")
                why = f"following the management server failed: {error}"
            finally:
                self._end_stream()
            if self._stopped.is_set():
                return
            if time.monotonic() - began > _LONGEST:
                failures = 0
            failures += 1
            if failures > 1 or not answered:  # servers end streams now and then
                self._problem(why)
            self._stopped.wait(_pause(failures))

    def _take(self, stream: Stream, response: DiscoveryResponse) -> None:
        """Put a response in force, and answer it."""
        try:
            imported = self._import(response)
        except ConfigurationRefused as refused:
            self._refuse(stream, response, str(refused))
            return
        if not self._published(imported, response.version_info):
            return
        self._refused = 0
        stream.accept(response)
        self._problem(None)
        log.info(
            "version %s of %s is in force: %d scopes",
            response.version_info, self._server.address, imported.scopes,
        )  # fmt: skip
        for note in imported.notes:
            log.info("note: %s", note)

    def _refuse(self, stream: Stream, response: DiscoveryResponse, reason: str) -> None:
        """Refuse a response; one after another ever slower.

        Envoy Gateway answers a refusal at once, with the same again.
        """
        version = response.version_info
        self._problem(
            f"version {version} of {self._server.address} is refused, and the limits before it "
            f"stay: {reason}"
        )
        if self._refused:
            self._stopped.wait(min(_pause(self._refused), _LONGEST_REFUSAL))
        self._refused += 1
        stream.refuse(response, reason)

    def _published(self, imported: Imported, version: str) -> bool:
        """Publish what a response says, and map by it. Return False if this ends meanwhile."""
        address = self._server.address
        failures = 0
        while not self._stopped.is_set():
            try:
                generation = publish(self._url, imported, f"xDS version {version}", address)
                if generation is not None:
                    self._await(generation)
                self._map(imported.files[MAPPING])
            except RatectlError as error:
                failures += 1
                self._problem(f"version {version} of {address} cannot be published: {error}")
                self._stopped.wait(_pause(failures))
            else:
                return True
        return False

    def _await(self, generation: int) -> None:
        """Wait until the agent enforces a generation, so that the mapping names its scopes."""
        if not self._state.wait_for_generation(generation, _ADOPTION):
            log.warning("generation %d is not in force after %g s", generation, _ADOPTION)

    def _map(self, text: str) -> None:
        model, _ = parse_mapping(text.encode(), MAPPING)
        self._use(EnvoyMapping(model))
        try:
            make_folder(self._mapping.parent, _PRIVATE)
            write_whole(self._mapping, text.encode())
        except OSError as error:
            log.warning("the mapping is not kept for a restart: %s", error)

    def _end_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def close(self) -> None:
        """End. Safe to repeat."""
        self._stopped.set()
        stream = self._stream
        if stream is not None:
            stream.close()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def in_child(self) -> None:
        """Leave the stream to the parent."""
        self._stopped.set()
        self._stream = None


def _pause(failures: int) -> float:
    """Return seconds to wait after so many failures in a row."""
    longest = min(_LONGEST, _SHORTEST * 2.0 ** min(failures, 10))
    return random.uniform(longest / 2, longest)  # noqa: S311 - spreads attempts
