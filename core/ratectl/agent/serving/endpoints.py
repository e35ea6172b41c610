"""The two endpoints of an agent: metrics and health for probes, usage for operators."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from ratectl.agent.serving.certificate import FileCertificate
from ratectl.agent.serving.queries import query_in
from ratectl.agent.serving.server import Answer, Endpoint, Server
from ratectl.errors import UsageError
from ratectl.runtime.address import is_loopback, parse_address
from ratectl.runtime.cooperative import cooperative, paced

if TYPE_CHECKING:
    import socket

    from ratectl.agent.agent import Agent
    from ratectl.agent.serving.server import Asked
    from ratectl.agent.serving.tls import Tls
    from ratectl.runtime.address import Address

__all__ = ["TOKEN_FORM", "Endpoints", "is_token", "serve"]

_LEAST_TOKEN: Final = 16
"""Least characters of a bearer token."""

TOKEN_FORM: Final = f"a token is a text of at least {_LEAST_TOKEN} ASCII characters without spaces"

_JSON: Final = "application/json; charset=utf-8"


class Endpoints:
    """Endpoints of one agent, until they or the agent are closed."""

    def __init__(self, metrics: Server | None, admin: Server | None) -> None:
        self._servers = {"metrics": metrics, "admin": admin}

    @property
    def metrics(self) -> Address | None:
        """Address of ``/metrics``, ``/healthz`` and ``/readyz``."""
        return self._address("metrics")

    @property
    def admin(self) -> Address | None:
        """Address of ``/``, a page for browsers, and of ``/v1/usage``."""
        return self._address("admin")

    def _address(self, name: str) -> Address | None:
        server = self._servers[name]
        return None if server is None else server.address

    def close(self) -> None:
        """Stop listening. Safe to repeat."""
        for server in filter(None, self._servers.values()):
            server.close()

    def in_child(self) -> None:
        """Leave the addresses to the parent."""
        for server in filter(None, self._servers.values()):
            server.in_child()


def serve(
    agent: Agent,
    metrics: str | None,
    admin: str | None,
    token: str | None,
    tls: Tls | None,
) -> Endpoints:
    """Start the endpoints; see ``Agent.serve``."""
    if admin is None and (token is not None or tls is not None):
        raise UsageError("a token and certificates are for the admin endpoint: name its address")
    if metrics is None and admin is None:
        raise UsageError("name an address: serve(metrics='127.0.0.1:9464')")
    if agent._closed:  # noqa: SLF001
        raise UsageError("the agent is closed")
    certificate = None if tls is None else FileCertificate(tls, "the admin endpoint")
    started: list[Server] = []
    try:
        pages = None if metrics is None else _metrics_pages(agent)
        if metrics is not None and pages is not None:
            address = parse_address(metrics)
            started.append(Server(Endpoint(pages), address, address.listen(), None))
        if admin is not None:
            address = parse_address(admin)
            listener = address.listen()
            try:
                endpoint = _admin(agent, listener, token, tls)
            except BaseException:
                listener.close()
                raise
            started.append(Server(endpoint, address, listener, certificate))
    except BaseException:
        for server in started:
            server.close()
        raise
    one, other = (started[0] if metrics else None), (started[-1] if admin else None)
    endpoints = Endpoints(one, other)
    agent._companions.join(endpoints)  # noqa: SLF001
    return endpoints


# Metrics ----------------------------------------------------------------------------------------


def _metrics_pages(agent: Agent) -> dict[str, Any]:
    """Return the pages for probes and monitoring.

    :raises UsageError: ``prometheus_client`` is not installed.
    """
    try:
        from ratectl.agent.metrics.exposition import exposition
    except ModuleNotFoundError as missing:
        raise UsageError(
            "metrics need the package prometheus-client: pip install 'ratectl[prometheus]'"
        ) from missing

    expose = exposition(agent)

    def show_metrics(asked: Asked) -> Answer:
        body, kind = expose(asked.accept)
        return Answer(body, kind)

    def healthz(_: Asked) -> Answer:
        return Answer(b"ok\n")

    def readyz(_: Asked) -> Answer:
        if agent.generation:
            return Answer(f"generation {agent.generation} is in force\n".encode())
        why = agent.status.error or "no generation is in force"
        return Answer(f"{why}\n".encode(), status=HTTPStatus.SERVICE_UNAVAILABLE)

    return {"/metrics": show_metrics, "/healthz": healthz, "/readyz": readyz}


# Admin ------------------------------------------------------------------------------------------


def _admin(agent: Agent, listener: socket.socket, token: str | None, tls: Tls | None) -> Endpoint:
    """Return the admin endpoint.

    :raises UsageError: others could read it.
    """
    local = is_loopback(listener)
    if token is not None and not is_token(token):
        raise UsageError(TOKEN_FORM)
    mutual = tls is not None and tls.client_ca is not None
    if not local and token is None and not mutual:
        raise UsageError(
            "other machines reach the admin endpoint there: give a token, or certificates with the "
            "authority of its clients; or listen on 127.0.0.1 or a Unix socket"
        )

    from ratectl.agent.serving.live_page import live_page

    def usage(_: Asked) -> Answer:
        with cooperative():
            return _usage_document(agent)

    def explain(asked: Asked) -> Answer:
        try:
            explanation = agent.explain(*query_in(asked.query))
        except UsageError as error:
            return Answer(f"{error}\n".encode(), status=HTTPStatus.BAD_REQUEST)
        data = explanation.as_dict()
        return _json("Explanation", {**data, "text": str(explanation).splitlines()})

    return Endpoint(
        {"/": live_page(agent), "/v1/usage": usage, "/v1/explain": explain}, token, own_host=local
    )


def is_token(token: object) -> bool:
    """Return True if a value can be a bearer token; see ``TOKEN_FORM``."""
    return (
        isinstance(token, str)
        and len(token) >= _LEAST_TOKEN
        and token.isascii()
        and token.isprintable()
        and " " not in token
    )


def _usage_document(agent: Agent) -> Answer:
    """Return the usage as JSON, limit by limit: decisions go on between them."""
    usage = agent.usage()
    head = json.dumps({"apiVersion": "ratectl/v1", "kind": "AgentUsage", **usage.without_limits()})
    limits = [json.dumps(limit.as_dict()) for limit in paced(usage.limits)]
    text = f'{head[:-1]}, "limits": [{", ".join(limits)}]}}'
    return Answer(text.encode() + b"\n", _JSON)


def _json(kind: str, data: dict[str, Any]) -> Answer:
    document = {"apiVersion": "ratectl/v1", "kind": kind, **data}
    return Answer(json.dumps(document).encode() + b"\n", _JSON)
