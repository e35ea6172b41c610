"""Agent processes of the demo, controlled by the process that shows it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from ratectl.errors import RatectlError
from ratectl.runtime.closing import Closing
from ratectl_cli.framework.deadline import tidy

if TYPE_CHECKING:
    from pathlib import Path

    from ratectl_cli.demo.feed import Feed

__all__ = ["AgentProcess", "DemoFailed", "Fleet"]

_START_SECONDS = 20.0
_STOP_SECONDS = 10.0


class DemoFailed(RatectlError):
    """Raised when something that the demo shows did not happen."""


class AgentProcess:
    """A process with an agent that decides its share of the traffic."""

    def __init__(self, name: str, store: str, feed: Feed, folder: Path) -> None:
        self.name = name
        self._errors = folder / f"{name}.err"
        self._messages: SimpleQueue[dict[str, Any]] = SimpleQueue()
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ratectl_cli.demo.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        settings = {
            "store": store, "id": name, "state_dir": str(folder / name), "feed": asdict(feed),
        }  # fmt: skip
        threading.Thread(target=self._listen, daemon=True).start()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # ``hear`` reports that it has ended
            self._process.stdin.write(json.dumps(settings) + "\n")
            self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._messages.put(json.loads(line))

    @property
    def pid(self) -> int:
        return self._process.pid

    def hear(self, seconds: float) -> dict[str, Any]:
        """Return the next message of the process.

        :raises DemoFailed: there is none in time, or the process has died.
        """
        with contextlib.suppress(Empty):
            return self._messages.get(timeout=seconds)
        raise DemoFailed(f"agent process {self.name} gives no answer{self._last_words()}")

    def check(self) -> None:
        """:raises DemoFailed: the process has ended by itself."""
        code = self._process.poll()
        if code is not None:
            raise DemoFailed(f"agent process {self.name} ended with {code}{self._last_words()}")

    def ask_to_end(self) -> None:
        """Close the input of the process: it reports its figures, and ends."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()

    def end(self) -> None:
        """Wait until the process ends; kill it if it does not."""
        self.ask_to_end()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _last_words(self) -> str:
        lines = self._errors.read_text(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""


class Fleet(Closing):
    """All agent processes. They end when the context is left, also after errors."""

    def __init__(self, count: int, store: str, feed: Feed, folder: Path) -> None:
        self.agents: list[AgentProcess] = []
        self._problem: OSError | None = None

        def start() -> None:
            try:
                for share in range(count):
                    part = replace(feed, share=share, shares=count)
                    self.agents.append(AgentProcess(f"web-{share + 1}", store, part, folder))
            except OSError as error:
                self._problem = error

        # Ctrl-C interrupts only the main thread. In this thread it cannot come between the start of
        # a process and the note that it exists.
        self._starting = threading.Thread(target=start)
        self._starting.start()
        try:
            self._hear_all()
        except BaseException:
            self.close()
            raise

    def _hear_all(self) -> None:
        self._starting.join()
        if self._problem is not None:
            raise DemoFailed(f"cannot start a process: {self._problem}")
        for agent in self.agents:
            agent.hear(_START_SECONDS)

    @property
    def names(self) -> list[str]:
        return [agent.name for agent in self.agents]

    def check(self) -> None:
        """:raises DemoFailed: one of the processes has ended by itself."""
        for agent in self.agents:
            agent.check()

    def finish(self) -> dict[str, Any]:
        """End all processes; return the sums of their figures."""
        for agent in self.agents:
            agent.ask_to_end()
        figures = [agent.hear(_STOP_SECONDS) for agent in self.agents]
        self.close()
        total = {
            name: sum(one[name] for one in figures) for name in ("decided", "refused", "errors")
        }
        return {**total, "slowest_ms": round(max(one["slowest_ns"] for one in figures) / 1e6, 3)}

    @tidy
    def close(self) -> None:
        """End all processes, and wait for them."""
        self._starting.join()
        for agent in self.agents:
            agent.ask_to_end()
        for agent in self.agents:
            agent.end()
