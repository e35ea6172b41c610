"""A sidecar that follows a management server."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from etcd_server import wait_for
from ratectl import Agent
from ratectl.sidecar import Sidecar
from ratectl.xds import GatewayFollower
from sidecar.envoys_messages import OK, asked, descriptor, request

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from google.protobuf.any_pb2 import Any as AnyMessage

    from envoy_gateway.management_server import ManagementServer

__all__ = ["Place", "begun"]


class Place:
    """An agent, its sidecar and its follower; ``close`` ends all."""

    def __init__(self, folder: Path, url: str, address: str, **options: Any) -> None:
        self._stack = ExitStack()
        state = folder / options.pop("state", "state")
        agent = Agent(url, id="edge-1", state_dir=state, ready_timeout=0)
        self.agent = self._stack.enter_context(agent)
        self.sidecar = self._stack.enter_context(Sidecar(self.agent, "127.0.0.1:0"))
        follower = GatewayFollower(self.agent, self.sidecar, address, **options)
        self.follower = self._stack.enter_context(follower)

    def close(self) -> None:
        self._stack.close()

    def ask(self, domain: str, *entries: tuple[str, str], hits: int | None = None) -> bool:
        """Return True if a request of one descriptor is admitted."""
        message = request(domain, descriptor(*entries, hits=hits))
        answer = asked(self.sidecar._methods.service, message)
        return bool(answer.overall_code == OK)

    def admits(self, domain: str, *entries: tuple[str, str]) -> int:
        """Return the number of requests that are admitted, up to 100."""
        return next((number for number in range(100) if not self.ask(domain, *entries)), 100)

    @property
    def problem(self) -> str | None:
        return self.agent.status.problems.get("xds")

    def wait_for_problem(self, words: str) -> str:
        wait_for(lambda: words in (self.problem or ""), f"{words!r} is reported")
        return self.problem or ""

    def wait_until_well(self) -> None:
        wait_for(lambda: self.problem is None, "no problem is left")


def begun(
    start: Callable[..., Place], server: ManagementServer, *resources: AnyMessage, **options: Any
) -> Place:
    """Return a place where version 1 of a server, with these resources, is in force."""
    server.put(1, *resources)
    place = start(server.address, **options)
    wait_for(lambda: server.accepted(1), "version 1 is accepted")
    return place
