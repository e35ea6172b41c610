"""A headless Chromium for tests of pages, spoken to over a pipe (Chrome DevTools Protocol)."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Browser", "Tab", "browser", "chromium"]

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_SECONDS: Final = 60
_NO_FAULT: Final = "NavigationEntryMarkedSkippable"
"""A remark about the history of a tab in which nobody has clicked."""

_STARTER: Final = """
import os, sys
import fcntl
ends = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 100) for number in sys.argv[1:3]]
for number, end in zip((3, 4), ends):
    os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Program that gives the browser its pipes as descriptors 3 and 4."""


def chromium() -> str | None:
    """Return the program; None if there is none on this machine."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


_LEAVING = "Not attached to an active page"
"""Error while a page is replaced by the next one."""


@dataclass
class Tab:
    """A page that is open in the browser."""

    browser: Browser
    session: str
    complaints: list[str] = field(default_factory=list)
    """Errors, warnings and violations that the browser has logged."""
    requests: list[str] = field(default_factory=list)
    """URLs that were asked for."""

    def ask(self, method: str, **parameters: Any) -> Any:
        return self.browser.ask(method, self.session, **parameters)

    def look(self, width: int, height: int, *, dark: bool = False, phone: bool = False) -> None:
        """Choose the size of the window and the colours that the user prefers."""
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height,
            deviceScaleFactor=1, mobile=phone,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url: str) -> Self:
        """Load a page, and wait for it."""
        self.browser.events.clear()
        self.ask("Page.navigate", url=url)
        self.browser.wait("Page.loadEventFired", self.session)
        return self

    def value(self, expression: str) -> Any:
        """Return the value of an expression in JavaScript."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Write what the window shows, or the whole page, as PNG."""
        data = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(data["data"]))


class Browser:
    """A running browser."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading = os.fdopen(reading, "rb", buffering=0)
        self._writing = os.fdopen(writing, "wb", buffering=0)
        self._buffer = b""
        self._count = 0
        self._tabs: dict[str, Tab] = {}
        self.events: list[tuple[str | None, str]] = []

    def close(self) -> None:
        with suppress(OSError):
            self._writing.close()
        self._reading.close()

    def tab(self) -> Tab:
        """Open a tab."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        tab = self._tabs[attached["sessionId"]] = Tab(self, attached["sessionId"])
        for domain in ("Page", "Runtime", "Log", "Audits", "Network"):
            tab.ask(f"{domain}.enable")
        return tab

    def ask(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """Return the answer to a command."""
        self._count += 1
        asked = {"id": self._count, "method": method, "params": parameters}
        if session is not None:
            asked["sessionId"] = session
        self._writing.write(json.dumps(asked).encode() + b"\0")
        number = self._count
        while True:
            message = self._next()
            if message.get("id") == number:
                if message.get("error", {}).get("message") == _LEAVING:  # and asked too early
                    time.sleep(0.2)
                    return self.ask(method, session, **parameters)
                assert "error" not in message, message
                return message["result"]

    def wait(self, event: str, session: str) -> None:
        """Wait for an event that has not been seen since the last page was asked for."""
        while (session, event) not in self.events:
            self._next()

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            read = self._reading.read(1 << 16)
            assert read, "the browser has ended"
            self._buffer += read
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        if "method" in message:
            self._note(message)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        session, method = message.get("sessionId"), message["method"]
        self.events.append((session, method))
        tab = self._tabs.get(session or "")
        if tab is None:
            return
        parameters = message["params"]
        if method == "Network.requestWillBeSent":
            tab.requests.append(parameters["request"]["url"])
        elif method in ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
            tab.complaints.append(json.dumps(parameters))
        elif method == "Audits.issueAdded":
            issue = json.dumps(parameters["issue"])
            if _NO_FAULT not in issue:
                tab.complaints.append(issue)


@contextmanager
def browser(home: Path) -> Iterator[Browser]:
    """Run a browser whose files are in a folder of the test."""
    program = chromium()
    assert program is not None
    to_read, to_write = os.pipe(), os.pipe()
    command = [
        program, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
        "--hide-scrollbars", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", f"--user-data-dir={home / 'profile'}",
    ]  # fmt: skip

    process = subprocess.Popen(
        [sys.executable, "-c", _STARTER, str(to_read[0]), str(to_write[1]), *command],
        pass_fds=(to_read[0], to_write[1]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True, env={**os.environ, "HOME": str(home)},
    )  # fmt: skip
    os.close(to_read[0])
    os.close(to_write[1])
    running = Browser(to_write[0], to_read[1])
    previous = signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(_SECONDS)
    try:
        yield running
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
        running.close()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _too_long(*_: object) -> None:
    raise TimeoutError("the browser did not answer in time")
