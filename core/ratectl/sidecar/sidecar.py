"""A running sidecar: an agent, asked by Envoy."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, Literal, get_args

from ratectl.errors import UsageError
from ratectl.runtime.address import Address, parse_address
from ratectl.runtime.closing import Closing
from ratectl.sidecar.methods import Methods

if TYPE_CHECKING:
    import os

    from ratectl.agent import Agent
    from ratectl.agent.serving.tls import Tls
    from ratectl.sidecar.grpcio_server import GrpcioServer
    from ratectl.sidecar.loop_server import LoopServer
    from ratectl.sidecar.mapping_follower import MappingFollower

__all__ = ["SERVERS", "Sidecar"]

Server = Literal["ngh2", "grpcio"]
SERVERS: Final[tuple[Server, ...]] = get_args(Server)


class Sidecar(Closing):
    """Serves Envoy's Rate Limit Service by the limits of an agent, until it or the agent is closed.

    >>> with Agent("etcd://etcd:2379/prod") as agent, Sidecar(agent, "127.0.0.1:8081"):
    ...     wait()                                                       # doctest: +SKIP
    """

    def __init__(
        self,
        agent: Agent,
        rls: str,
        *,
        server: Server | None = None,
        tls: Tls | None = None,
        mapping: str | os.PathLike[str] | None = None,
    ) -> None:
        """Listen on ``rls``: ``127.0.0.1:8081``, or ``unix:/path``.

        Whoever reaches the address can use up limits: it has no passwords. ``server``: what speaks
        HTTP/2. ``ngh2`` needs the extra ``ratectl[sidecar]``, and is the default where that is
        installed; ``grpcio`` takes ten times as long for each call. ``tls``: certificate and key,
        read again when they change, and the authority of clients' certificates. ``mapping``: a file
        that maps domains and descriptors to scopes (docs/envoy.md), read again when it changes.

        :raises UsageError: the address, a certificate or the mapping cannot be used, or the server
            is not installed.
        """
        if agent._closed:  # noqa: SLF001
            raise UsageError("the agent is closed")
        self._agent = agent
        self._methods = Methods(agent)
        address = parse_address(rls)
        self._mapping: MappingFollower | None = None
        if mapping is not None:
            from ratectl.sidecar.mapping_follower import MappingFollower

            problem = partial(agent._following.state.problem, "mapping")  # noqa: SLF001
            self._mapping = MappingFollower(mapping, self._methods.service.map_by, problem)
        try:
            self._server = self._listen(address, server, tls)
        except BaseException:
            self._end_mapping()
            raise
        agent._companions.join(self)  # noqa: SLF001

    def _listen(
        self, address: Address, server: Server | None, tls: Tls | None
    ) -> LoopServer | GrpcioServer:
        if _chosen(server) == "ngh2":
            from ratectl.sidecar.loop_server import LoopServer

            methods, agent = self._methods, self._agent
            return LoopServer(
                methods.by_path, address, tls, methods.waiting, lambda: agent.asks_server
            )
        from ratectl.sidecar.grpcio_server import GrpcioServer

        return GrpcioServer(self._methods.by_path, address, tls)

    def _end_mapping(self) -> None:
        if self._mapping is not None:
            self._mapping.close()

    @property
    def rls(self) -> Address:
        """Address of the Rate Limit Service."""
        return self._server.address

    def close(self, grace: float = 5.0) -> None:
        """Tell callers to go elsewhere, and answer what they have asked. Safe to repeat.

        :param grace: seconds after which calls are cut off.
        """
        self._methods.health.is_draining = True
        self._server.close(grace)
        self._end_mapping()

    def in_child(self) -> None:
        """Leave the address to the parent."""
        self._server.in_child()


def _chosen(server: Server | None) -> Server:
    """Return the server to use.

    :raises UsageError: there is none of this name, or it is not installed.
    """
    if server not in (None, *SERVERS):
        raise UsageError(f"there is no server {server!r}: there are {', '.join(SERVERS)}")
    if server == "grpcio":
        return server
    try:
        import ngh2  # noqa: F401
    except ModuleNotFoundError:
        if server is None:
            return "grpcio"
        raise UsageError(
            "the server ngh2 needs the package of this name: pip install 'ratectl[sidecar]'"
        ) from None
    return "ngh2"
