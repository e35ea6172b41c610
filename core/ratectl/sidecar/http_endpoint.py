"""The side of the sidecar's server for services: JSON over HTTP/1."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from ratectl.errors import UsageError
from ratectl.runtime.address import names_this_machine
from ratectl.sidecar.api import Api
from ratectl.sidecar.listener import Endpoint
from ratectl.sidecar.replies import problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.agent import Agent
    from ratectl.agent.serving.tls import Tls
    from ratectl.runtime.address import Address
    from ratectl.sidecar.health import Health
    from ratectl.sidecar.http1 import Answering, HttpConnection
    from ratectl.sidecar.replies import Request
    from ratectl.sidecar.waiting_calls import WaitingCalls

__all__ = ["http_endpoint"]


def http_endpoint(agent: Agent, health: Health, address: Address, tls: Tls | None) -> Endpoint:
    """Return the endpoint of the JSON API.

    :raises UsageError: httptools is not installed.
    """
    try:
        from ratectl.sidecar.http1 import HttpConnection
    except ModuleNotFoundError:
        raise UsageError(
            "--http needs the package httptools: pip install 'ratectl[sidecar]'"
        ) from None
    api = Api(agent, health)
    is_local = tls is None and names_this_machine(address.host)

    def speaker(threads: WaitingCalls, sent: Callable[[], None]) -> HttpConnection:
        def run(request: Request, answering: Answering) -> None:
            if not api.may_wait(request):
                answering(api.answer(request))
            elif not threads.begin(partial(api.answer, request), answering, sent):
                answering(problem(HTTPStatus.SERVICE_UNAVAILABLE, "too many calls wait"))

        return HttpConnection(run, is_local=is_local)

    return Endpoint("http", address, tls, "http/1.1", speaker)
