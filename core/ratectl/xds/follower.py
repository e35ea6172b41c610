"""Following of a management server: a sidecar enforces the limits that the server sends.

What it sends becomes policies and a mapping. The policies are published to the agent's store, the
agent follows them as any others, and then the sidecar maps descriptors to them.
"""

from __future__ import annotations

import random
import threading
import time
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

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
from ratectl.stores.registry import is_server
from ratectl.xds.configuration import ConfigurationRefused, configuration_of
from ratectl.xds.publication import publish
from ratectl.xds.stream import Server, Stream, StreamEnded

if TYPE_CHECKING:
    from ratectl.agent import Agent
    from ratectl.agent.serving.tls import Tls
    from ratectl.agent.settings import Settings
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
_LOOK: Final = 0.5
"""Seconds between two looks whether to end."""
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

        :raises UsageError: an argument cannot be used, the agent follows no store of its own or
            obeys signatures only, or the sidecar has a mapping of its own.
        """
        settings = agent._following.settings  # noqa: SLF001
        _checked(settings, address, across, quota_mode)
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
        name = sha256(self._url.encode()).hexdigest()[:16]
        self._mapping = settings.state_dir / "xds" / f"{name}.yaml"
        self._restore()
        self._accepted: dict[str, str] | None = None
        """Files of the configuration that this process has put in force last."""
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._is_answered = False
        """True if the server has sent something on this stream."""
        self._stream: Stream | None = None
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
        while True:
            began, self._is_answered = time.monotonic(), False
            try:
                self._serve(self._opened())
                return
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
            if failures > 1 or not self._is_answered:  # servers end streams now and then
                self._problem(why)
            self._stopped.wait(_pause(failures))

    def _opened(self) -> Stream:
        """Return a new stream, which ``close`` ends."""
        stream = self._server.open()
        with self._lock:
            self._stream = stream
        return stream

    def _serve(self, stream: Stream) -> None:
        """Put responses in force, and answer them, until this ends.

        A response that cannot be published yet is refused, so that the server may send a newer one,
        and tried again. Envoy Gateway answers a refusal at once, with the same again: so a response
        like the one before waits a little.

        :raises StreamEnded, DecodeError: the stream is over.
        """
        pending: DiscoveryResponse | None = None
        failed, failures = "", 0
        while not self._stopped.is_set():
            response = stream.receive(_pause(failures) if pending else None)
            if response is not None:
                self._is_answered = True
                if failures and response.version_info == failed:
                    self._stopped.wait(min(_pause(failures), _LONGEST_REFUSAL))
            taken = response or pending
            if taken is None or self._stopped.is_set():
                continue
            refusal = self._taken(taken)
            if refusal is None:
                stream.accept(taken)
                pending, failures = None, 0
                continue
            if self._stopped.is_set():
                return
            failures = failures + 1 if taken.version_info == failed else 1
            failed = taken.version_info
            pending = taken if refusal.may_pass else None
            self._problem(refusal.reason)
            if response is not None:
                stream.refuse(response, refusal.reason)

    def _taken(self, response: DiscoveryResponse) -> _Refusal | None:
        """Put a response in force; return why that is not possible."""
        version, address = response.version_info, self._server.address
        try:
            imported = self._import(response)
        except ConfigurationRefused as refused:
            reason = f"version {version} of {address} is refused, and the limits before it stay"
            return _Refusal(f"{reason}: {refused}", may_pass=False)
        if imported.files != self._accepted:
            try:
                self._put_in_force(imported, f"xDS version {version}")
            except RatectlError as error:
                reason = f"version {version} of {address} cannot be published: {error}"
                return _Refusal(reason, may_pass=True)
            self._accepted = imported.files
            log.info("version %s of %s is in force: %d scopes", version, address, imported.scopes)
            for note in imported.notes:
                log.info("note: %s", note)
        self._problem(None)
        return None

    def _put_in_force(self, imported: Imported, origin: str) -> None:
        """Publish policies, and map by them once the agent enforces them.

        :raises RatectlError: they cannot be published, or the agent does not enforce them.
        """
        text = imported.files[MAPPING]
        mapping = EnvoyMapping(parse_mapping(text.encode(), MAPPING)[0])
        generation = publish(self._url, imported, origin, self._server.address)
        if generation is not None:
            self._await(generation)
        self._use(mapping)
        try:
            make_folder(self._mapping.parent, _PRIVATE)
            write_whole(self._mapping, text.encode())
        except OSError as error:
            log.warning("the mapping is not kept for a restart: %s", error)

    def _await(self, generation: int) -> None:
        """Wait until the agent enforces a generation, so that the mapping names its scopes.

        :raises RatectlError: it does not, or this ends.
        """
        until = time.monotonic() + _ADOPTION
        while not self._state.wait_for_generation(generation, _LOOK):
            if self._stopped.is_set() or time.monotonic() > until:
                raise RatectlError(f"the agent does not enforce generation {generation}")

    def _end_stream(self) -> None:
        with self._lock:
            stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def close(self) -> None:
        """End. Safe to repeat."""
        with self._lock:
            self._stopped.set()
            stream = self._stream
        if stream is not None:
            stream.close()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def in_child(self) -> None:
        """Leave the stream to the parent."""
        self._lock = threading.Lock()
        self._stopped.set()
        self._stream = None


class _Refusal(NamedTuple):
    """Why a response is not in force."""

    reason: str
    may_pass: bool
    """True if it may be put in force later."""


def _checked(settings: Settings, address: str, across: str | None, quota_mode: object) -> None:
    """:raises UsageError: an argument cannot be used, or the agent is of the wrong kind."""
    if across not in (None, "redis"):
        raise UsageError(f"across is 'redis', or None, not {across!r}")
    if quota_mode not in (None, "shadow", "enforce"):
        raise UsageError(f"quota_mode is 'shadow' or 'enforce', or None, not {quota_mode!r}")
    wanted = "a management server is reached by host:port, like envoy-gateway:18001"
    try:
        parsed = parse_address(address)
    except UsageError as error:
        raise UsageError(f"{wanted}; {error}") from None
    if parsed.path or not parsed.port:
        raise UsageError(f"{wanted}, and not by {address}")
    if "://" not in settings.source or is_server(settings.source):
        raise UsageError(
            "a sidecar that follows a management server has a store of its own, which nobody else "
            "publishes to: write --store sqlite:///PATH"
        )
    if settings.trust is not None:
        raise UsageError(
            "an agent with public keys obeys signed policies only, and nobody signs what a "
            "management server sends"
        )


def _pause(failures: int) -> float:
    """Return seconds to wait after so many failures in a row."""
    longest = min(_LONGEST, _SHORTEST * 2.0 ** min(failures, 10))
    return random.uniform(longest / 2, longest)  # noqa: S311 - spreads attempts
