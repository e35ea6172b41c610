"""The sidecar of ``ratectl agent run``: its options, and its parts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from time import sleep
from typing import TYPE_CHECKING

from ratectl.errors import UsageError
from ratectl_cli.inputs.serving import tls_of

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import ExitStack

    from ratectl import Agent
    from ratectl.agent.serving.tls import Tls
    from ratectl.sidecar import Sidecar
    from ratectl.sidecar.sidecar import Server

__all__ = ["SidecarOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarOptions:
    """Options with the names of their flags; None for one that is not given.

    :raises UsageError: one is given without the one that it is for, or they contradict each other.
    """

    rls: str | None
    rls_server: Server | None
    rls_tls: Sequence[str] | None
    rls_mapping: str | None
    xds: str | None
    xds_tls: Sequence[str] | None
    xds_node: str | None
    xds_across: str | None
    http: str | None
    http_tls: Sequence[str] | None
    drain_seconds: float | None

    def __post_init__(self) -> None:
        self._rls_certificates()
        self._http_certificates()
        self._xds_certificates()
        for_rls = {
            "--rls-server": self.rls_server,
            "--rls-tls": self.rls_tls,
            "--rls-mapping": self.rls_mapping,
            "--xds": self.xds,
        }
        for_xds = {
            "--xds-tls": self.xds_tls,
            "--xds-node": self.xds_node,
            "--xds-across": self.xds_across,
        }
        _check_needs("--rls", self.rls, for_rls)
        _check_needs("--xds", self.xds, for_xds)
        if self.xds is not None and self.rls_mapping is not None:
            raise UsageError("the mapping comes from the server of --xds: leave out --rls-mapping")
        _check_needs("--http", self.http, {"--http-tls": self.http_tls})
        served = self.rls or self.http
        _check_needs("--rls or --http", served, {"--drain-seconds": self.drain_seconds})

    def _rls_certificates(self) -> Tls | None:
        return tls_of("--rls-tls", self.rls_tls)

    def _http_certificates(self) -> Tls | None:
        return tls_of("--http-tls", self.http_tls)

    def _xds_certificates(self) -> Tls | None:
        return tls_of("--xds-tls", self.xds_tls, "of the server")

    def start(self, agent: Agent, running: ExitStack, log: logging.Logger) -> Callable[[], None]:
        """Start the sidecar beside an agent, if an address is given; ``running`` ends it.

        Return a function to call before that: it waits until callers have gone elsewhere.

        :raises UsageError: an address, a certificate or the mapping cannot be used.
        """
        if self.rls is None and self.http is None:
            return lambda: None
        from ratectl.sidecar import Sidecar

        sidecar = Sidecar(
            agent,
            self.rls,
            server=self.rls_server,
            rls_tls=self._rls_certificates(),
            rls_mapping=self.rls_mapping,
            http=self.http,
            http_tls=self._http_certificates(),
        )
        for name, address in running.enter_context(sidecar).addresses.items():
            server = f", by {sidecar.server}" if name == "rls" else ""
            log.info("%s on %s%s", name, address, server)
        if self.xds is not None:
            from ratectl.xds import GatewayFollower

            follower = GatewayFollower(
                agent,
                sidecar,
                self.xds,
                node=self.xds_node,
                tls=self._xds_certificates(),
                across=self.xds_across,
            )
            running.enter_context(follower)
        return partial(self._drain, sidecar, log)

    def _drain(self, sidecar: Sidecar, log: logging.Logger) -> None:
        if self.drain_seconds:
            sidecar.drain()
            log.info(
                "answering for %g s more, while health checks say NOT_SERVING", self.drain_seconds
            )
            sleep(self.drain_seconds)


def _check_needs(option: str, address: str | None, others: Mapping[str, object]) -> None:
    """:raises UsageError: one of the other options is given, and no address that it is for."""
    given = next((name for name, value in others.items() if value is not None), None)
    if address is None and given is not None:
        raise UsageError(f"{given} is for {option}: name its address")
