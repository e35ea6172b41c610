"""URLs and settings of etcd: accepted forms, and the message for each mistake."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ratectl.errors import UsageError
from ratectl.stores.etcd.settings import Settings
from ratectl.stores.locations import Address

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("etcd://localhost/prod", ["localhost:2379"]),
        ("etcd://10.0.0.1:4001/prod", ["10.0.0.1:4001"]),
        ("etcds://a.example:1,b:2,c/prod", ["a.example:1", "b:2", "c:2379"]),
        ("etcd://[::1]:2379/prod", ["[::1]:2379"]),
        ("etcd://[fe80::1]/prod", ["[fe80::1]:2379"]),
        ("etcd://a,a:2379/prod", ["a:2379"]),
    ],
)  # fmt: skip
def test_valid_urls_give_addresses_and_environment(url: str, addresses: list[str]) -> None:
    settings = Settings.from_url(url, {})
    assert [str(address) for address in settings.addresses] == addresses
    assert settings.environment == "prod"
    assert settings.tls == url.startswith("etcds")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://a/prod", "the scheme is not etcd or etcds"),
        ("etcd://a", "names no environment"),
        ("etcd://a/", "names no environment"),
        ("etcd://a/prod/", "its environment may hold only"),
        ("etcd://a/prod?x=1", "'etcd://a/prod?x=…' takes no options"),
        ("etcd:///prod", "an address is not host:port"),
        ("etcd://a,/prod", "an address is not host:port"),
        ("etcd://a:x/prod", "a port is not a number"),
        ("etcd://a:0/prod", "a port is not a number"),
        ("etcd://a:65536/prod", "a port is not a number"),
        ("etcd://a:²/prod", "a port is not a number"),
        ("etcd://::1/prod", "write an IPv6 address in brackets"),
        ("etcd://[a]:1/prod", "what stands in brackets is not an IPv6 address"),
        ("etcd://[::1]x/prod", "is not [host]:port"),
        ("etcd://a b/prod", "an address is not host:port"),
    ],
)
def test_malformed_url_is_refused_with_the_reason(url: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        Settings.from_url(url, {})
    assert message in str(raised.value)


def test_password_in_the_url_is_refused_and_not_shown() -> None:
    with pytest.raises(UsageError, match="RATECTL_ETCD_PASSWORD") as raised:
        Settings.from_url("etcd://root:hunter2@a/prod", {})
    assert "hunter2" not in str(raised.value)


def test_secrets_are_read_from_files_and_not_shown(tmp_path: Path) -> None:
    """A trailing newline is not part of a password; the repr contains no secret."""
    password, pem = tmp_path / "password", tmp_path / "ca.pem"
    password.write_text("hunter2\n")
    pem.write_text("-----BEGIN CERTIFICATE-----\n")
    settings = Settings.from_url(
        "etcds://a/prod",
        {
            "RATECTL_ETCD_USER": "agent",
            "RATECTL_ETCD_PASSWORD_FILE": str(password),
            "RATECTL_ETCD_CA": str(pem),
            "RATECTL_ETCD_SERVER_NAME": "etcd.example",
            "RATECTL_ETCD_KEY": "",  # empty is unset
        },
    )
    assert (settings.user, settings.password) == ("agent", "hunter2")
    assert settings.ca == pem.read_bytes()
    assert settings.server_name == "etcd.example"
    assert "hunter2" not in repr(settings)
    assert "BEGIN" not in repr(settings)


def test_pipes_are_read_once() -> None:
    """A shell gives a password as `<(command)`. A pipe that is opened again may block for ever."""
    variables = {"RATECTL_ETCD_USER": "agent"}
    pipes = []
    for name, content in (
        ("PASSWORD_FILE", b"hunter2\n"),
        ("CA", b"-----BEGIN CERTIFICATE-----\n"),
    ):
        reader, writer = os.pipe()
        os.write(writer, content)
        os.close(writer)
        pipes.append(reader)
        variables[f"RATECTL_ETCD_{name}"] = f"/dev/fd/{reader}"
    settings = Settings.from_url("etcds://localhost/prod", variables).read_again()
    assert (settings.password, settings.ca) == ("hunter2", b"-----BEGIN CERTIFICATE-----\n")
    for reader in pipes:
        os.close(reader)


def test_a_line_end_is_no_part_of_a_variable() -> None:
    """Secrets are made from files, and files end with one."""
    variables = {"RATECTL_ETCD_USER": "agent\n", "RATECTL_ETCD_PASSWORD": "hunter2 \r\n"}
    settings = Settings.from_url("etcd://localhost/prod", variables)
    assert (settings.user, settings.password) == ("agent", "hunter2 ")


@pytest.mark.parametrize(
    ("scheme", "environ", "message"),
    [
        ("etcd", {"USER": "a"}, "together with"),
        ("etcd", {"PASSWORD": "a"}, "together with"),
        ("etcd", {"USER": "a", "PASSWORD": "b", "PASSWORD_FILE": "/c"}, "not both"),
        ("etcd", {"USER": "a", "PASSWORD_FILE": "/nonexistent"}, "cannot read /nonexistent"),
        ("etcd", {"CA": "/etc/ca.pem"}, "use etcds://"),
        ("etcds", {"CA": "/nonexistent"}, "RATECTL_ETCD_CA: cannot read /nonexistent"),
        ("etcds", {"CA": "/dev/null"}, "is not a PEM file"),
    ],
)
def test_contradictory_settings_are_refused(
    scheme: str, environ: dict[str, str], message: str
) -> None:
    variables = {f"RATECTL_ETCD_{name}": value for name, value in environ.items()}
    with pytest.raises(UsageError) as raised:
        Settings.from_url(f"{scheme}://a/prod", variables)
    assert message in str(raised.value)


def test_certificate_without_key_is_refused(tmp_path: Path) -> None:
    pem = tmp_path / "cert.pem"
    pem.write_text("-----BEGIN CERTIFICATE-----\n")
    with pytest.raises(UsageError, match="RATECTL_ETCD_KEY"):
        Settings.from_url("etcds://a/prod", {"RATECTL_ETCD_CERT": str(pem)})


def test_loopback_addresses_are_recognized() -> None:
    texts = ["localhost", "127.0.0.2", "[::1]", "10.0.0.1", "etcd.example"]
    assert [Address.parse(text).is_loopback for text in texts] == [True] * 3 + [False] * 2
