"""``ratectl agent run`` with endpoints, as a real process that follows a real store."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli_support import PROGRAM, Cli

from etcd_server import wait_for
from ratectl.errors import UsageError
from ratectl.runtime.address import Address
from ratectl.stores import open_store
from ratectl_cli.inputs.serving import token_in
from support import once, policies, publish_policies
from unix_http import ask

if TYPE_CHECKING:
    from collections.abc import Iterator

TREE = policies(**{"/mail": {"limits": {"spike": {"rate": "10/s"}}}})


class Running:
    """A running agent, and what it has logged."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []

    def logged(self, pattern: str) -> re.Match[str]:
        """Wait for a line."""
        assert self.process.stderr is not None
        while True:
            line = self.process.stderr.readline()
            assert line, self.lines
            self.lines.append(line)
            found = re.search(pattern, line)
            if found:
                return found


def agent_run_refuses(tmp_path: Path, *options: str) -> str:
    """Run an agent with wrong options; return what it prints."""
    done = subprocess.run(
        [*PROGRAM, "agent", "run", "--store", f"sqlite:///{tmp_path}/r.db", "--state-dir",
         str(tmp_path), *options],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 64
    return done.stderr


@contextmanager
def agent_run(store: str, tmp_path: Path, *options: str) -> Iterator[Running]:
    words = [*PROGRAM, "agent", "run", "--store", store, "--state-dir", str(tmp_path / "state")]
    with subprocess.Popen([*words, *options], stderr=subprocess.PIPE, text=True) as process:
        try:
            yield Running(process)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0


@once
def test_agent_becomes_ready_and_serves_its_usage(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/rates.db"
    admin = tmp_path / "admin.sock"
    options = ("--metrics", "127.0.0.1:0", "--admin", f"unix:{admin}")
    with open_store(url) as store, agent_run(url, tmp_path, *options) as running:
        at = Address("127.0.0.1", int(running.logged(r"metrics on 127\.0\.0\.1:(\d+)")[1]))
        assert ask(at, "/healthz")[:2] == (200, "ok\n")
        assert ask(at, "/readyz")[0] == 503
        publish_policies(store, TREE)
        wait_for(lambda: ask(at, "/readyz")[0] == 200, "the agent is ready", 20)
        text = ask(at, "/metrics")[1]
        assert "ratectl_generation 1.0" in text
        assert "ratectl_store_connected 1.0" in text
        contact = re.search(r"^ratectl_store_contact_timestamp_seconds (\S+)", text, re.MULTILINE)
        assert contact is not None
        assert abs(float(contact[1]) - time.time()) < 60
        reported = "\nratectl_report_timestamp_seconds "
        wait_for(lambda: reported in ask(at, "/metrics")[1], "the agent has reported", 20)
        assert json.loads(ask(Address("", 0, str(admin)), "/v1/usage")[1])["generation"] == 1
    assert not admin.exists()


@once
def test_admin_with_a_token_from_a_file(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("0123456789abcdef\n")
    url = f"sqlite:///{tmp_path}/rates.db"
    with agent_run(
        url, tmp_path, "--admin", "127.0.0.1:0", "--admin-token-file", str(token)
    ) as running:
        at = Address("127.0.0.1", int(running.logged(r"admin on 127\.0\.0\.1:(\d+)")[1]))
        assert ask(at, "/v1/usage")[0] == 401
        assert ask(at, "/v1/usage", Authorization="Bearer 0123456789abcdef")[0] == 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--metrics", "9464"),
            "'9464' is no address: it has no port\n  hint: write 127.0.0.1:9464, ",
        ),
        (("--metrics", ":9464"), "it has no host"),
        (("--metrics", "127.0.0.1:65536"), "its port is no number from 0 to 65535"),
        (("--admin", "::1:80"), "an IPv6 address needs brackets"),
        (("--admin", "0.0.0.0:0"), "other machines reach the admin endpoint there"),
        (("--admin-token-file", "none"), "--admin-token-file none: No such file or directory"),
        (("--admin", "127.0.0.1:0", "--admin-tls", "a"), "two or three times, not 1"),
        (("--admin-tls", "a", "--admin-tls", "b"), "for the admin endpoint: name its address"),
        (("--admin-tls", "a", "--admin-tls", "b"), "hint: add --admin ADDR"),
        (("--admin-token-file", "token"), "--admin-token-file is for the admin endpoint"),
        (("--admin-token-file", "empty"), "--admin-token-file empty: it is empty\n  hint: write"),
        (("--admin-token-file", "short"), "--admin-token-file short: a token is a text of at "),
        (
            ("--environment", "shop"),
            "--environment needs --public-key: only a signature can prove it\n  hint: add --public",
        ),
        (("--admin", "unix:/nodir/x.sock"), "hint: create the folder /nodir, or name another"),
    ],
)
def test_endpoints_that_cannot_be_served(
    cli: Cli, clean_place: Path, options: tuple[str, ...], message: str
) -> None:
    Path("token").write_text("0123456789abcdef\n")
    Path("short").write_text("0123\n")
    Path("empty").write_text("\n")
    run = cli("agent", "run", "--store", f"sqlite:///{clean_place}/a.db", *options)
    assert run.code == 64
    assert message in run.err


def test_a_token_is_never_cut(clean_place: Path) -> None:
    Path("token").write_text("x" * 4_095 + "\n")
    assert token_in("token") == "x" * 4_095
    Path("token").write_text("x" * 4_096 + "y")
    with pytest.raises(UsageError, match="--admin-token-file token: it has more than 4,096 char"):
        token_in("token")


def test_address_in_use_is_an_error(cli: Cli, clean_place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        store = f"sqlite:///{clean_place}/a.db"
        run = cli("agent", "run", "--store", store, "--metrics", address)
    assert (run.code, f"cannot listen on {address}: Address already in use" in run.err) == (
        64,
        True,
    )
    assert "hint: another process listens there: stop it, or name another port" in run.err


def test_help_leaves_out_the_option_that_an_agent_refuses(cli: Cli) -> None:
    assert "--timeout" not in cli("agent", "run", "--help").out
    assert "--timeout" in cli("usage", "--help").out
    assert "it takes no --timeout" in cli("agent", "run", "--timeout", "9").err
