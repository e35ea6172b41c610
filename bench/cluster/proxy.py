"""Proxies on loopback that hand on bytes late, as a network of some distance does."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import Self

__all__ = ["SlowProxies"]


class SlowProxies:
    """A thread that forwards connections, each byte after half of a round trip.

    Use it as a context manager.
    """

    def __init__(self, round_trip: float) -> None:
        """``round_trip``: seconds."""
        self._delay = round_trip / 2
        self._loop: Future[asyncio.AbstractEventLoop] = Future()
        self._ends = asyncio.Event()
        self._servers: list[asyncio.Server] = []
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.result().call_soon_threadsafe(self._ends.set)
        self._thread.join()

    async def _run(self) -> None:
        self._loop.set_result(asyncio.get_running_loop())
        await self._ends.wait()
        for server in self._servers:
            server.close()

    def before(self, port: int) -> int:
        """Return the port of a new proxy before a server at a port. The server may start later."""
        return asyncio.run_coroutine_threadsafe(self._listen(port), self._loop.result()).result()

    async def _listen(self, port: int) -> int:
        async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                writer.close()
                return
            with suppress(asyncio.CancelledError):  # the proxies end
                await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
            writer.close()
            far_writer.close()

        server = await asyncio.start_server(forward, "127.0.0.1", 0)
        self._servers.append(server)
        number: int = server.sockets[0].getsockname()[1]
        return number

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        later = asyncio.get_running_loop().call_later
        with suppress(OSError):  # a connection that breaks has ended
            while chunk := await reader.read(65_536):
                later(self._delay, writer.write, chunk)
        await asyncio.sleep(self._delay)
        writer.close()
