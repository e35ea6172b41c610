"""Sites of a shop in frameworks with asyncio, for real servers."""

from __future__ import annotations

__all__ = ["AIOHTTP", "FASTAPI", "LITESTAR"]

FASTAPI = """
import os

import ratectl
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from ratectl.contrib.asgi import RateLimitMiddleware
from ratectl.contrib.web import by_route, client_ip, header

agent = ratectl.Agent("sqlite:///rates.db")
asgi = app = FastAPI()
attributes = {"tenant": header("x-tenant"), "ip": client_ip()}
app.add_middleware(
    RateLimitMiddleware, agent=agent, scope=by_route("/shop"), attributes=attributes
)


@app.get("/items/{id}")
async def item(id: int):
    return id


@app.get("/stream")
async def stream():
    async def parts():
        for _ in range(200):
            yield b"x" * 1_000

    return StreamingResponse(parts())


@app.get("/login")
def login():
    return "in"


@app.get("/fails")
async def fails():
    return fails.meant


@app.get("/state")
async def state():
    left = agent.check("/shop/stream", {"tenant": "acme"}, cost=0).remaining
    return {"pid": os.getpid(), "left": left, "generation": agent.generation}
"""

LITESTAR = """
import os

import ratectl
from litestar import Litestar, get
from litestar.middleware import DefineMiddleware
from litestar.response import Stream
from ratectl.contrib.asgi import RateLimitMiddleware
from ratectl.contrib.web import by_route, client_ip, header

agent = ratectl.Agent("sqlite:///rates.db")
attributes = {"tenant": header("x-tenant"), "ip": client_ip()}


@get("/items/{id:int}")
async def item(id: int) -> int:
    return id


@get("/stream")
async def stream() -> Stream:
    async def parts():
        for _ in range(200):
            yield b"x" * 1_000

    return Stream(parts())


@get("/login", sync_to_thread=False)
def login() -> str:
    return "in"


@get("/fails")
async def fails() -> None:
    return fails.meant


@get("/state")
async def state() -> dict:
    left = agent.check("/shop/stream", {"tenant": "acme"}, cost=0).remaining
    return {"pid": os.getpid(), "left": left, "generation": agent.generation}


limited = DefineMiddleware(
    RateLimitMiddleware, agent=agent, scope=by_route("/shop"), attributes=attributes
)
routes = [item, stream, login, fails, state]
asgi = Litestar(routes, middleware=[limited], on_shutdown=[agent.close])
"""

AIOHTTP = """
import os

import ratectl
from aiohttp import web
from ratectl.contrib.aiohttp import rate_limit
from ratectl.contrib.web import by_route, client_ip, header

agent = ratectl.Agent("sqlite:///rates.db")
attributes = {"tenant": header("x-tenant"), "ip": client_ip()}
routes = web.RouteTableDef()


@routes.get("/items/{id}")
async def item(request):
    return web.Response(text=request.match_info["id"])


@routes.get("/stream")
async def stream(request):
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(200):
        await response.write(b"x" * 1_000)
    return response


@routes.get("/login")
async def login(request):
    return web.Response(text="in")


@routes.get("/fails")
async def fails(request):
    return fails.meant


@routes.get("/state")
async def state(request):
    left = agent.check("/shop/stream", {"tenant": "acme"}, cost=0).remaining
    return web.json_response(
        {"pid": os.getpid(), "left": left, "generation": agent.generation}
    )


limited = rate_limit(agent, scope=by_route("/shop"), attributes=attributes)
wsgi = web.Application(middlewares=[limited])  # the name that the test serves
wsgi.add_routes(routes)
"""
