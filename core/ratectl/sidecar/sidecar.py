"""A running sidecar: an agent, asked by Envoy and by services in any language."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, get_args

from ratectl.errors import UsageError
from ratectl.runtime.address import Address, parse_address
from ratectl.runtime.closing import Closing
from ratectl.sidecar.methods import Methods

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from ratectl.agent import Agent
    from ratectl.agent.serving.tls import Tls
    from ratectl.sidecar.grpcio_server import GrpcioServer
    from ratectl.sidecar.http2 import MakeConnection
    from ratectl.sidecar.listener import Endpoint
    from ratectl.sidecar.loop_server import LoopServer
    from ratectl.sidecar.mapping import EnvoyMapping
    from ratectl.sidecar.mapping_follower import MappingFollower

__all__ = ["SERVERS", "Server", "Sidecar", "connection_type", "servers_here"]

Server = Literal["libnghttp2", "ngh2", "grpcio"]
SERVERS: Final[tuple[Server, ...]] = get_args(Server)
_REMEDIES: Final[Mapping[str, str]] = {
    "libnghttp2": "Install it (Debian: libnghttp2-14), from version 1.61 on",
    "ngh2": "Install it: pip install 'ratectl[sidecar]'",
}


class Sidecar(Closing):
    """Serves Envoy's Rate Limit Service and a JSON API by the limits of an agent, until it or the
    agent is closed.

    >>> with Agent("etcd://etcd:2379/prod") as agent, Sidecar(agent, http="127.0.0.1:8082"):
    ...     wait()                                                       # doctest: +SKIP
    """

    def __init__(
        self,
        agent: Agent,
        rls: str | None = None,
        *,
        server: Server | None = None,
        rls_tls: Tls | None = None,
        rls_mapping: str | os.PathLike[str] | None = None,
        http: str | None = None,
        http_tls: Tls | None = None,
    ) -> None:
        """Listen on ``rls`` for Envoy, on ``http`` for JSON: ``127.0.0.1:8081``, or ``unix:/path``.

        Whoever reaches an address can use up limits: it has no passwords. ``server``: what speaks
        HTTP/2; the first that is here is the default. ``libnghttp2`` is the system's library,
        ``ngh2`` comes with the extra ``ratectl[sidecar]``, and takes about twice the CPU for
        each call; ``grpcio`` takes many times as much. ``http`` needs the extra.
        ``rls_tls``, ``http_tls``: certificate and key, read again when they change, and the
        authority of clients' certificates. ``rls_mapping``: a file that maps Envoy's domains and
        descriptors to scopes (docs/envoy.md), read again when it changes.

        :raises UsageError: an address, a certificate or the mapping cannot be used, or a server is
            not installed.
        """
        if agent._closed:  # noqa: SLF001
            raise UsageError("the agent is closed")
        if rls is None and http is None:
            raise UsageError("name an address: Sidecar(agent, http='127.0.0.1:8082')")
        for_rls = server, rls_tls, rls_mapping
        if rls is None and any(given is not None for given in for_rls):
            raise UsageError("server, rls_tls and rls_mapping are for rls: name its address")
        if http is None and http_tls is not None:
            raise UsageError("http_tls is for http: name its address")
        self._is_parents = False
        """True in a forked child, which has none of the threads."""
        self._methods = Methods(agent)
        self._mapping: MappingFollower | None = None
        self._servers: list[LoopServer | GrpcioServer] = []
        self._addresses: dict[str, Address] = {}
        self._server: Server | None = None
        try:
            if rls_mapping is not None:
                self._follow(agent, rls_mapping)
            endpoints: list[Endpoint] = []
            if rls is not None:
                self._server = _chosen(server)
                endpoints += self._rls(agent, parse_address(rls), self._server, rls_tls)
            if http is not None:
                endpoints.append(self._http(agent, parse_address(http), http_tls))
            if endpoints:
                self._start_loop(endpoints)
        except BaseException:
            self.close(0)
            raise
        agent._companions.join(self)  # noqa: SLF001

    # The parts are imported where they are used: each takes its time at the start.

    def _rls(
        self, agent: Agent, address: Address, server: Server, tls: Tls | None
    ) -> list[Endpoint]:
        """Return what the loop serves to Envoy; nothing if grpcio does, which is started."""
        if server == "grpcio":
            self._start_grpcio(address, tls)
            return []
        from ratectl.sidecar.rls_endpoint import rls_endpoint

        may_wait = partial(getattr, agent, "asks_server")
        return [rls_endpoint(self._methods, address, tls, may_wait, connection_type(server))]

    def _http(self, agent: Agent, address: Address, tls: Tls | None) -> Endpoint:
        from ratectl.sidecar.http_endpoint import http_endpoint

        return http_endpoint(agent, self._methods.health, address, tls)

    def _follow(self, agent: Agent, file: str | os.PathLike[str]) -> None:
        from ratectl.sidecar.mapping_follower import MappingFollower

        problem = partial(agent._following.state.problem, "mapping")  # noqa: SLF001
        self._mapping = MappingFollower(file, self._methods.service.map_by, problem)

    def _start_grpcio(self, address: Address, tls: Tls | None) -> None:
        from ratectl.sidecar.grpcio_server import GrpcioServer

        server = GrpcioServer(self._methods, address, tls)
        self._servers.append(server)
        self._addresses["rls"] = server.address

    def _start_loop(self, endpoints: Sequence[Endpoint]) -> None:
        from ratectl.sidecar.loop_server import LoopServer

        server = LoopServer(endpoints)
        self._servers.append(server)
        for endpoint, listener in zip(endpoints, server.listeners, strict=True):
            self._addresses[endpoint.name] = listener.address

    @property
    def addresses(self) -> Mapping[str, Address]:
        """Addresses by what is served there: ``rls``, ``http``."""
        return self._addresses

    @property
    def server(self) -> Server | None:
        """Name of the server that speaks HTTP/2 with Envoy; None if Envoy has no address here."""
        return self._server

    @property
    def rls(self) -> Address:
        """Address of the Rate Limit Service.

        :raises UsageError: it is not served.
        """
        return self._address("rls")

    @property
    def http(self) -> Address:
        """Address of the JSON API.

        :raises UsageError: it is not served.
        """
        return self._address("http")

    def _address(self, name: str) -> Address:
        address = self._addresses.get(name)
        if address is None:
            raise UsageError(f"this sidecar serves no {name}: write Sidecar(agent, {name}=…)")
        return address

    def map_by(self, mapping: EnvoyMapping) -> None:
        """Map Envoy's descriptors by another mapping from now on.

        :raises UsageError: the sidecar follows a file of mappings.
        """
        if self._mapping is not None:
            raise UsageError("the sidecar follows the mapping in a file: leave out rls_mapping")
        self._methods.service.map_by(mapping)

    def drain(self) -> None:
        """Tell health checks that the sidecar is to end. It goes on answering until it is closed,
        so that callers find others first."""
        self._methods.health.is_draining = True

    def close(self, grace: float = 5.0) -> None:
        """Tell callers to go elsewhere, and answer what they have asked. Safe to repeat.

        :param grace: seconds after which calls are cut off.
        """
        if self._is_parents:
            return
        self.drain()
        for server in self._servers:
            server.end(grace)
        for server in self._servers:
            server.wait()
        if self._mapping is not None:
            self._mapping.close()

    def in_child(self) -> None:
        """Leave the addresses to the parent."""
        self._is_parents = True
        for server in self._servers:
            server.in_child()


def _chosen(server: Server | None) -> Server:
    """Return the server to use.

    :raises UsageError: there is none of this name, or it is not here.
    """
    if server not in (None, *SERVERS):
        raise UsageError(f"there is no server {server!r}: there are {', '.join(SERVERS)}")
    if server is not None:
        if server != "grpcio":
            connection_type(server)
        return server
    return next(servers_here())


def servers_here() -> Iterator[Server]:
    """Yield the servers that can be used on this machine, the fastest first."""
    for server in SERVERS:
        with suppress(UsageError):
            if server != "grpcio":
                connection_type(server)
            yield server


def connection_type(server: Server) -> MakeConnection:
    """Return the type of connections of a server.

    :raises UsageError: it is not here.
    """
    try:
        if server == "libnghttp2":
            from ratectl.sidecar.http2_native import NativeConnection

            return NativeConnection
        from ratectl.sidecar.http2_ngh2 import Ngh2Connection

        return Ngh2Connection
    except ImportError as error:
        raise UsageError(
            f"the server {server} cannot be used: {error}. {_REMEDIES[server]}"
        ) from None
