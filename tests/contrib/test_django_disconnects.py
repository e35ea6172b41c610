"""The Django middleware: clients that go away, in async sites."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from django.core.asgi import get_asgi_application
from django.http import HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, override_settings
from django.urls import path

from contrib.django_support import AS_ACME, OURS, PASSING, SLOW, TENANT, limited_site
from contrib.sites import make_agent, slots_left
from ratectl.contrib.django import limited

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from ratectl import Agent


@pytest.fixture
def agent() -> Iterator[Agent]:
    with make_agent() as agent:
        yield agent


async def endless_parts() -> AsyncIterator[bytes]:
    while True:
        yield b"part"
        await asyncio.sleep(0.001)


async def endless_stream(request: Any) -> StreamingHttpResponse:
    return StreamingHttpResponse(endless_parts())


async def endless_view(request: Any) -> HttpResponse:
    BEGUN.set()
    await asyncio.sleep(60)
    return HttpResponse("late")


BEGUN = threading.Event()


async def ask_and_leave(url: str, agent: Agent) -> int | None:
    """Send a request, leave when the view has begun, and return the slots left before that."""
    seen: list[int | None] = []
    first = asyncio.Event()
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request"}
        while not (first.is_set() or BEGUN.is_set()):
            await asyncio.sleep(0.001)
        seen.append(slots_left(agent))
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            first.set()

    scope = {"type": "http", "method": "GET", "path": url, "headers": [(b"x-tenant", b"acme")]}
    await asyncio.wait_for(get_asgi_application()(scope, receive, send), 20)
    return seen[0]


@pytest.mark.parametrize("view", [endless_stream, endless_view])
def test_a_client_that_goes_away_gives_the_slot_back(agent: Agent, view: Any) -> None:
    BEGUN.clear()
    with limited_site(agent, path("endless", view), **SLOW):
        assert asyncio.run(ask_and_leave("/endless", agent)) == 2
    assert slots_left(agent) == 3


FREE = threading.Event()


def blocking_view(request: Any) -> HttpResponse:
    BEGUN.set()
    FREE.wait(20)
    return HttpResponse("late")


@contextmanager
def blocked() -> Iterator[None]:
    BEGUN.clear()
    FREE.clear()
    try:
        yield
    finally:
        FREE.set()


async def begun(agent: Agent) -> asyncio.Task[int | None]:
    """Return the task of a client that leaves, when the view runs."""
    task = asyncio.create_task(ask_and_leave("/blocking", agent))
    while not BEGUN.is_set():
        await asyncio.sleep(0.001)
    return task


async def left_and_after(task: asyncio.Task[int | None], agent: Agent) -> list[int | None]:
    """Return the slots left while the view runs without its client, and when it has ended."""
    await asyncio.sleep(0.1)  # time to give the slot back too early
    left = [slots_left(agent)]
    FREE.set()
    await asyncio.wait([task], timeout=20)
    until = time.monotonic() + 20
    while slots_left(agent) == left[0] and time.monotonic() < until:
        await asyncio.sleep(0.001)
    return [*left, slots_left(agent)]


STACKS = [[OURS], [OURS, PASSING], [PASSING, OURS]]


@pytest.mark.parametrize("decorated", [False, True])
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("cancels", [0, 2])
@pytest.mark.filterwarnings("ignore:Unclosed file")  # of the body, if Django is cancelled
def test_a_sync_view_holds_its_slot_after_the_client_went_away(
    agent: Agent, stack: list[str], decorated: bool, cancels: int
) -> None:
    async def leave() -> list[int | None]:
        task = await begun(agent)
        for _ in range(cancels):  # the server stops, for example
            await asyncio.sleep(0.05)
            task.cancel()
        return await left_and_after(task, agent)

    with blocked(), limited_site(agent, path("blocking", blocking_view), middleware=stack, **SLOW):
        view = limited("/slow")(blocking_view) if decorated else blocking_view
        with override_settings(ROOT_URLCONF=(path("blocking", view),)):
            assert asyncio.run(leave()) == [2, 3]
    gc.collect()  # within this test: that file


def test_clients_that_leave_cannot_pass_a_limit_of_slots(agent: Agent) -> None:
    running: list[int] = []

    def view(request: Any) -> HttpResponse:
        running.append(1)
        return blocking_view(request)

    async def leave_often() -> None:
        tasks = []
        for _ in range(6):
            BEGUN.clear()
            tasks.append(asyncio.create_task(ask_and_leave("/blocking", agent)))
            await asyncio.sleep(0.1)
        FREE.set()
        await asyncio.wait(tasks, timeout=20)

    with blocked(), limited_site(agent, path("blocking", view), **SLOW):
        asyncio.run(leave_often())
    assert len(running) == 3
    assert slots_left(agent) == 3


@pytest.mark.parametrize("streams", [False, True])
def test_a_limited_sync_view_alone_gives_its_slot_back(agent: Agent, streams: bool) -> None:
    """Django drops the response of a view whose client went away: it closes nothing."""

    def view(request: Any) -> Any:
        request.itself = request  # as a lazy user does
        blocking_view(request)
        return StreamingHttpResponse(iter([b"a"])) if streams else HttpResponse("late")

    async def leave() -> list[int | None]:
        return await left_and_after(await begun(agent), agent)

    with override_settings(RATECTL={"agent": agent}):
        url = path("blocking", limited("/slow", attributes=TENANT)(view))
    with blocked(), limited_site(agent, url, middleware=[]):
        assert asyncio.run(leave()) == [2, 3]


def test_a_response_object_that_is_returned_again_keeps_no_decisions(agent: Agent) -> None:
    again = HttpResponse("again")
    with override_settings(RATECTL={"agent": agent}):
        view = limited("/slow", attributes=TENANT)(lambda request: again)

    async def ask() -> list[int]:
        client = AsyncClient(headers=AS_ACME)
        return [(await client.get("/again")).status_code for _ in range(5)]

    with limited_site(agent, path("again", view), middleware=[]):
        assert asyncio.run(ask()) == [200] * 5
    assert slots_left(agent) == 3
    assert weakref.getweakrefcount(again) == 0
