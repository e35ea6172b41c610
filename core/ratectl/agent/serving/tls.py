"""Certificates of an endpoint, from files."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ratectl.errors import UsageError

if TYPE_CHECKING:
    import os

__all__ = ["Tls", "context_of"]

_MOST_PEM: Final = 1_000_000
"""Most bytes of a PEM file that are read to explain an error."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificate of an endpoint, and the authority of its clients."""

    certificate: str | os.PathLike[str]
    """File with the certificate and its chain (PEM)."""
    key: str | os.PathLike[str]
    """File with the private key (PEM)."""
    client_ca: str | os.PathLike[str] | None = None
    """File with the authorities that sign clients' certificates (PEM). Clients must have one."""


def context_of(tls: Tls, endpoint: str) -> ssl.SSLContext:
    """Return the context of a server.

    :param endpoint: what it is for, in errors.
    :raises UsageError: the files cannot be used, or ``tls`` is something else.
    """
    if not isinstance(tls, Tls):
        raise UsageError(f"tls is ratectl.Tls(certificate, key, client_ca), not {tls!r:.60}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.certificate, tls.key)
        if tls.client_ca is not None:
            context.load_verify_locations(tls.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:  # also of ssl
        refused = UsageError(f"the certificate of {endpoint} cannot be used: {_reason(tls, error)}")
        refused.add_note(
            "the order of the files is certificate, private key, authority of clients' certificates"
        )
        raise refused from None
    return context


def _reason(tls: Tls, error: OSError) -> str:
    """Return why the files cannot be used, with the name of the file that is wrong."""
    for path, label, what in (
        (tls.certificate, b"CERTIFICATE-----", "certificate"),
        (tls.key, b"PRIVATE KEY-----", "private key"),
        (tls.client_ca, b"CERTIFICATE-----", "certificate"),
    ):
        if path is None:
            continue
        try:
            with open(path, "rb") as file:  # noqa: PTH123  of any type of path
                pem = file.read(_MOST_PEM)
        except OSError as unread:
            return f"{path}: {unread.strerror or unread}"
        if label not in pem:
            return f"{path} holds no {what} in PEM"
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return f"{tls.key} is not the private key of {tls.certificate}"
    files = ", ".join(str(each) for each in (tls.certificate, tls.key, tls.client_ca) if each)
    return f"{files}: {error.strerror or error}"
