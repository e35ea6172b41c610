"""Endpoints of an agent: their answers, who is refused, and how they end."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import stat
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from ratectl import Agent, Tls, UsageError
from ratectl.runtime.address import Address, parse_address
from support import once
from unix_http import ask

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = once

POLICIES = """
apiVersion: ratectl/v1
scope: /mail
limits: {spike: {rate: 10/s, per: tenant}}
"""

TOKEN = "0123456789abcdef"


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent.from_policies(POLICIES) as agent:
        yield agent


# Pages ------------------------------------------------------------------------------------------


def test_metrics_and_health(agent: Agent) -> None:
    served = agent.serve(metrics="127.0.0.1:0")
    agent.check("/mail", {"tenant": "acme"})
    status, body, headers = ask(served.metrics, "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain")
    assert 'ratectl_decisions_total{kind="limit",limit="spike",outcome="allowed"' in body
    assert "process_cpu_seconds_total" in body
    assert ask(served.metrics, "/healthz")[:2] == (200, "ok\n")
    assert ask(served.metrics, "/readyz")[:2] == (200, "generation 1 is in force\n")


def test_openmetrics_if_asked_for(agent: Agent) -> None:
    served = agent.serve(metrics="127.0.0.1:0")
    _, body, headers = ask(served.metrics, "/metrics", Accept="application/openmetrics-text")
    assert headers["Content-Type"].startswith("application/openmetrics-text")
    assert body.endswith("# EOF\n")


def test_not_ready_before_the_first_generation(tmp_path: Path) -> None:
    with Agent(f"sqlite:///{tmp_path}/none.db", state_dir=tmp_path, ready_timeout=0) as agent:
        served = agent.serve(metrics="127.0.0.1:0")
        status, body, _ = ask(served.metrics, "/readyz")
        assert (status, ask(served.metrics, "/healthz")[0]) == (503, 200)
        assert "on_error answers" in body or "none.db" in body


def test_usage_for_operators(agent: Agent, tmp_path: Path) -> None:
    served = agent.serve(admin=f"unix:{tmp_path}/admin.sock")
    agent.check("/mail", {"tenant": "acme"})
    status, body, headers = ask(served.admin, "/v1/usage")
    document = json.loads(body)
    assert status == 200
    assert (document["kind"], document["limits"][0]["allowed"]) == ("AgentUsage", 1)
    assert headers["Cache-Control"] == "no-store"
    assert headers["Access-Control-Allow-Origin"] is None


def test_explanation_of_a_request(agent: Agent, tmp_path: Path) -> None:
    served = agent.serve(admin=f"unix:{tmp_path}/admin.sock")
    while agent.check("/mail", {"tenant": "a b/ü&"}):
        pass
    status, body, _ = ask(served.admin, "/v1/explain?scope=/mail&attr.tenant=a%20b%2F%C3%BC%26")
    document = json.loads(body)
    assert status == 200
    assert (document["kind"], document["allowed"], document["limit"]) == (
        "Explanation",
        False,
        "spike",
    )
    assert document["limits"][0]["key"] == "tenant=a b/ü&"
    assert document["text"][0].startswith("refused: /mail")
    status, body, _ = ask(served.admin, "/v1/explain?scope=/mail&attr.tenant=zeta&cost=11")
    assert json.loads(body)["reason"] == "never"
    status, body, _ = ask(served.admin, "/v1/explain?scope=/mail&cost.tokens=5")
    assert json.loads(body)["allowed"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "the field scope is missing"),
        ("?scope=/a&scope=/b", "the field 'scope' is given twice"),
        ("?scope=/a&tenant=acme", "the field 'tenant' is not known"),
        ("?scope=/a&attr.=acme", "the field 'attr.' is not known"),
        ("?scope=/a&attr.t=1&attr.t=2", "the field 'attr.t' is given twice"),
        ("?scope=/a&cost=-1", "cost is a whole number, 0 or more, not '-1'"),
        ("?scope=/a&cost=1e3", "cost is a whole number"),
        ("?scope=/a&cost=" + "9" * 50, "cost is a whole number"),
        ("?scope=/a&cost=1&cost.tokens=2", "give a cost, or costs in units, not both"),
    ],
)
def test_queries_of_another_form(agent: Agent, query: str, message: str) -> None:
    served = agent.serve(admin="127.0.0.1:0")
    status, body, _ = ask(served.admin, f"/v1/explain{query}")
    assert (status, message in body) == (400, True), body


def test_pages_that_do_not_exist(agent: Agent) -> None:
    served = agent.serve(metrics="127.0.0.1:0", admin="127.0.0.1:0")
    status, body, _ = ask(served.metrics, "/v1/usage")
    assert (status, "/metrics, /healthz, /readyz" in body) == (404, True)
    assert ask(served.admin, "/metrics")[0] == 404


def test_only_reading_is_possible(agent: Agent) -> None:
    served = agent.serve(metrics="127.0.0.1:0")
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "BREW"):
        assert ask(served.metrics, "/metrics", method)[0] == 501
    assert ask(served.metrics, "/healthz", "HEAD")[:2] == (200, "")


def test_page_that_fails_is_an_answer(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    served = agent.serve(admin="127.0.0.1:0")
    monkeypatch.setattr(agent._meter, "read", lambda _: 1 / 0)
    assert ask(served.admin, "/v1/usage")[0] == 500
    monkeypatch.undo()
    assert ask(served.admin, "/v1/usage")[0] == 200


# Who may ask ------------------------------------------------------------------------------------


def test_socket_is_the_owners_alone(agent: Agent, tmp_path: Path) -> None:
    agent.serve(admin=f"unix:{tmp_path}/admin.sock")
    assert stat.S_IMODE(os.lstat(tmp_path / "admin.sock").st_mode) == 0o600


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil", ""]
)
def test_admin_refuses_the_name_of_another_host(agent: Agent, host: str) -> None:
    """A browser can be led here by a name that resolves to this machine."""
    served = agent.serve(admin="127.0.0.1:0")
    assert ask(served.admin, "/v1/usage", Host=host)[0] == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:81", "127.0.0.1", "[::1]:9", "LOCALHOST"])
def test_admin_knows_the_names_of_this_host(agent: Agent, host: str) -> None:
    served = agent.serve(admin="127.0.0.1:0")
    assert ask(served.admin, "/v1/usage", Host=host)[0] == 200


def test_two_host_headers_are_refused(agent: Agent) -> None:
    served = agent.serve(admin="127.0.0.1:0")
    assert served.admin is not None
    with socket.create_connection((served.admin.host, served.admin.port), 10) as raw:
        raw.sendall(b"GET /v1/usage HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.0 403")


def test_admin_beyond_loopback_needs_credentials(agent: Agent) -> None:
    with pytest.raises(UsageError, match="other machines reach the admin endpoint there"):
        agent.serve(admin="0.0.0.0:0")
    agent.serve(admin="0.0.0.0:0", token=TOKEN)


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
        ("Bearer wrong", 401),
        (f"Basic {TOKEN}", 401),
        ("Bearer", 401),
        ("", 401),
        (TOKEN, 401),
    ],
)
def test_bearer_token(agent: Agent, given: str, status: int) -> None:
    served = agent.serve(admin="127.0.0.1:0", token=TOKEN)
    assert ask(served.admin, "/v1/usage", Authorization=given)[0] == status


def test_token_beyond_latin_1_is_refused_and_answered(agent: Agent) -> None:
    served = agent.serve(admin="127.0.0.1:0", token=TOKEN)
    assert served.admin is not None
    with socket.create_connection((served.admin.host, served.admin.port), 10) as raw:
        raw.sendall(
            b"GET /v1/usage HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \xff\xfe\r\n\r\n"
        )
        assert raw.recv(100).startswith(b"HTTP/1.0 401")


@pytest.mark.parametrize("token", ["", "short", "å" * 20])
def test_weak_tokens_are_refused(agent: Agent, token: str) -> None:
    with pytest.raises(UsageError, match="at least 16 ASCII characters without spaces"):
        agent.serve(admin="127.0.0.1:0", token=token)


def test_clients_need_a_certificate_with_mutual_tls(agent: Agent, tmp_path: Path) -> None:
    authority = trustme.CA()
    server, client = authority.issue_cert("localhost"), authority.issue_cert("operator")
    files = {name: tmp_path / name for name in ("cert", "key", "ca")}
    server.cert_chain_pems[0].write_to_path(files["cert"])
    server.private_key_pem.write_to_path(files["key"])
    authority.cert_pem.write_to_path(files["ca"])
    served = agent.serve(admin="0.0.0.0:0", tls=Tls(files["cert"], files["key"], files["ca"]))
    assert served.admin is not None

    def status(context: ssl.SSLContext) -> int:
        authority.configure_trust(context)
        connection = http.client.HTTPSConnection(
            "localhost", served.admin.port, context=context, timeout=10  # type: ignore[union-attr]
        )  # fmt: skip
        with closing(connection):
            connection.request("GET", "/v1/usage")
            return connection.getresponse().status

    known = ssl.create_default_context()
    client.configure_cert(known)
    assert status(known) == 200
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
        status(ssl.create_default_context())

    renewed = trustme.CA().issue_cert("localhost")
    renewed.cert_chain_pems[0].write_to_path(files["cert"])
    renewed.private_key_pem.write_to_path(files["key"])
    with pytest.raises(ssl.SSLCertVerificationError):  # of an authority that is not known here
        status(known)


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (("none", "key", "cert"), "none: No such file or directory"),
        (("cert", "none", "cert"), "none: No such file or directory"),
        (("cert", "key", "none"), "none: No such file or directory"),
        (("key", "cert", None), "key holds no certificate in PEM"),
        (("cert", "cert", None), "cert holds no private key in PEM"),
        (("cert", "key", "key"), "key holds no certificate in PEM"),
        (("cert", "other", None), "other is not the private key of cert"),
        (("damaged", "key", None), "damaged, key: "),
    ],
)
def test_certificates_that_cannot_be_used_are_named(
    agent: Agent,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    names: tuple[str, str, str | None],
    why: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    issued, other = (trustme.CA().issue_cert("localhost") for _ in range(2))
    issued.cert_chain_pems[0].write_to_path("cert")
    issued.private_key_pem.write_to_path("key")
    other.private_key_pem.write_to_path("other")
    Path("damaged").write_text("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")
    with pytest.raises(UsageError) as caught:
        agent.serve(admin="127.0.0.1:0", tls=Tls(*names))
    told = str(caught.value)
    assert told.startswith(f"the certificate of the admin endpoint cannot be used: {why}")
    assert "the order of the files is certificate, private key" in caught.value.__notes__[0]


# Bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["", "9464", ":9464", "localhost", "localhost:", "localhost:99999", "localhost:-1", "::1:80",
     "localhost:8o", "localhost:" + "9" * 5_000, "unix:", "unix:a\0b", "[::1]"],
)  # fmt: skip
def test_addresses_of_another_form(text: str) -> None:
    with pytest.raises(UsageError, match="write"):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", Address("127.0.0.1", 80)),
        ("[::1]:0", Address("::1", 0)),
        ("unix:/run/x.sock", Address("", 0, "/run/x.sock")),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


def test_address_in_use(agent: Agent) -> None:
    served = agent.serve(metrics="127.0.0.1:0")
    with pytest.raises(UsageError, match=rf"cannot listen on {served.metrics}: Address already"):
        agent.serve(metrics=str(served.metrics))


@pytest.mark.parametrize("host", ["127.0.0.", "127.0.0..1", "x" * 70])
def test_invalid_host_names_are_refused(agent: Agent, host: str) -> None:
    with pytest.raises(UsageError, match="cannot listen on"):
        agent.serve(metrics=f"{host}:9464")


def test_name_that_does_not_resolve(agent: Agent) -> None:
    with pytest.raises(UsageError, match="cannot listen on no-such-host"):
        agent.serve(metrics="no-such-host.invalid:80")


def test_socket_of_an_ended_process_is_replaced(agent: Agent, tmp_path: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "a.sock"))
    left.close()
    served = agent.serve(admin=f"unix:{tmp_path}/a.sock")
    assert ask(served.admin, "/v1/usage")[0] == 200


def test_socket_of_a_living_process_and_other_files_stay(agent: Agent, tmp_path: Path) -> None:
    agent.serve(admin=f"unix:{tmp_path}/a.sock")
    with pytest.raises(UsageError, match="another process listens there"):
        agent.serve(admin=f"unix:{tmp_path}/a.sock")
    precious = tmp_path / "precious"
    precious.write_text("data")
    with pytest.raises(UsageError, match="a file that is no socket is there"):
        agent.serve(admin=f"unix:{precious}")
    assert precious.read_text() == "data"


def test_arguments_that_do_not_go_together(agent: Agent) -> None:
    with pytest.raises(UsageError, match="name an address"):
        agent.serve()
    with pytest.raises(UsageError, match="for the admin endpoint"):
        agent.serve(metrics="127.0.0.1:0", token=TOKEN)
    with pytest.raises(UsageError, match="the certificate of the admin endpoint"):
        agent.serve(admin="127.0.0.1:0", tls=Tls("none.pem", "none.key"))


def test_nothing_listens_after_a_bad_argument(agent: Agent) -> None:
    before = threading.active_count()
    with pytest.raises(UsageError):
        agent.serve(metrics="127.0.0.1:0", admin="0.0.0.0:0")
    assert threading.active_count() == before


@pytest.mark.parametrize("token", [b"0123456789abcdef", 1234567890123456, " 0123456789abcdef "])
def test_tokens_of_another_form(agent: Agent, token: Any) -> None:
    with pytest.raises(UsageError, match="a token is a text"):
        agent.serve(admin="127.0.0.1:0", token=token)


def test_certificates_of_another_form(agent: Agent) -> None:
    with pytest.raises(UsageError, match=r"tls is ratectl\.Tls"):
        agent.serve(admin="127.0.0.1:0", tls="cert.pem")  # type: ignore[arg-type]


# Ends -------------------------------------------------------------------------------------------


def test_endpoints_end_with_the_agent(tmp_path: Path) -> None:
    with Agent.from_policies(POLICIES) as agent:
        served = agent.serve(metrics="127.0.0.1:0", admin=f"unix:{tmp_path}/a.sock")
        address = served.metrics
    with pytest.raises(OSError, match="refused"):
        ask(address, "/healthz")
    assert not (tmp_path / "a.sock").exists()


def test_closing_twice_and_a_second_serve(agent: Agent) -> None:
    served = agent.serve(metrics="127.0.0.1:0")
    served.close()
    served.close()
    again = agent.serve(metrics=str(served.metrics))
    assert ask(again.metrics, "/healthz")[0] == 200


def test_forked_child_leaves_the_address_to_its_parent(agent: Agent, tmp_path: Path) -> None:
    served = agent.serve(metrics="127.0.0.1:0", admin=f"unix:{tmp_path}/a.sock")
    child = os.fork()
    if not child:
        agent.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert ask(served.metrics, "/healthz")[0] == 200
    assert ask(served.admin, "/v1/usage")[0] == 200


def test_closed_agent_does_not_serve() -> None:
    agent: Any = Agent.from_policies(POLICIES)
    agent.close()
    with pytest.raises(UsageError, match="closed"):
        agent.serve(metrics="127.0.0.1:0")
