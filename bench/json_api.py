"""The sidecar's JSON API, asked by h2load, beside a service of uvicorn and Starlette that asks the
same agent.

The rounds alternate; the figures are medians. The server has one core and h2load another, where
there are two.
"""

from __future__ import annotations

import shutil
from typing import Final

from bench.rls import POLICIES
from bench.rls_rounds import ROUNDS, Rounds, measure, shown, started

CALLS: Final = {"ratectl": 40_000, "uvicorn": 10_000}
LOADS: Final = {"1 connection": (1, 1), "32 connections": (32, 1)}
"""Connections, and calls of each that are open at once."""
ASKED: Final = b'{"scope": "/shop", "attributes": {"client": "customer-0000-4711"}}'
OPTIONS: Final = ("--h1", "-H", "content-type: application/json")

_CORE: Final = """
import json, os, socket, sys
cores = os.sched_getaffinity(0)
if len(cores) > 1:
    os.sched_setaffinity(0, {min(cores)})
from ratectl import Agent
"""
SERVERS: Final = {
    "ratectl": _CORE + """
from ratectl.sidecar import Sidecar
with Agent.from_policies(sys.argv[1]) as agent, Sidecar(agent, http="127.0.0.1:0") as sidecar:
    print(sidecar.http, flush=True)
    sys.stdin.read()
""",
    "uvicorn": _CORE + """
import threading
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from ratectl.contrib.web.answers import headers_of

async def check(request):
    asked = await request.json()
    scope, attributes = asked["scope"], asked["attributes"]
    decision = agent.check(scope, attributes)
    headers = dict(headers_of(decision, agent, scope, attributes))
    body = {"allowed": decision.allowed, "limit": decision.limit, "left": decision.remaining}
    return JSONResponse(body, 200 if decision else 429, headers)

at = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
at.bind(("127.0.0.1", 0))
at.listen(64)
with Agent.from_policies(sys.argv[1]) as agent:
    app = Starlette(routes=[Route("/v1/check", check, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, http="httptools", log_level="error"))
    running = threading.Thread(target=server.run, args=[[at]])
    running.start()
    print("127.0.0.1:%d" % at.getsockname()[1], flush=True)
    sys.stdin.read()
    server.should_exit = True
    running.join()
""",
}  # fmt: skip


def run() -> dict[str, object]:
    """Measure each server under each load."""
    h2load = shutil.which("h2load")
    if h2load is None:
        print("    skipped: h2load is not installed (Debian: nghttp2-client)")
        return {}
    servers = {name: started(SERVERS[name], POLICIES) for name in CALLS}
    rounds = {(load, name): Rounds() for load in LOADS for name in CALLS}
    try:
        for load, shape in LOADS.items():
            for _ in range(ROUNDS):
                for name, (process, address) in servers.items():
                    calls = CALLS[name] if shape != (1, 1) else CALLS[name] // 4
                    url = f"http://{address}/v1/check"
                    measure(
                        h2load, process.pid, url, ASKED, OPTIONS, calls, shape,
                        rounds[load, name],
                    )  # fmt: skip
    finally:
        for process, _ in servers.values():
            process.communicate()
    return {f"{load}, {name}": shown(load, name, found) for (load, name), found in rounds.items()}
