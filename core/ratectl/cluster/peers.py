"""Links between the members of a cluster: Unix sockets on one machine, or mutual TLS."""

from __future__ import annotations

import logging
import os
import re
import ssl
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from ratectl.cluster.sockets import SocketPlace
from ratectl.cluster.transport.identity import TlsContexts, certificate_names
from ratectl.cluster.transport.links import Links
from ratectl.errors import UsageError
from ratectl.runtime.address import Address, parse_address
from ratectl.runtime.file_version import version_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from ratectl.runtime.file_version import Version

__all__ = ["VARIABLES", "Peers", "TlsPeers", "UnixPeers", "peers_of"]

log = logging.getLogger("ratectl.cluster")

VARIABLES: Final = {
    "RATECTL_CLUSTER_LISTEN": "address for peers, such as 10.0.0.5:7946",
    "RATECTL_CLUSTER_ADDRESS": "address at which peers reach it, if that is another one",
    "RATECTL_CLUSTER_CA": "PEM file of the authorities of the peers' certificates",
    "RATECTL_CLUSTER_CERT": "PEM file of this member's certificate, for both sides of TLS",
    "RATECTL_CLUSTER_KEY": "PEM file of its private key",
}
"""Variables of the environment. Certificates are by default those of RATECTL_ETCD_*."""

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,60}")


class Peers(Protocol):
    """Way in which members reach each other."""

    @property
    def problem(self) -> str | None:
        """Why peers refuse this process, as far as it knows that by itself."""

    def member(self, agent_id: str, suffix: str) -> str:
        """Return the id of a new member of this process."""

    def links(
        self, member: str, environment: str, is_unused: Callable[[], bool]
    ) -> AbstractContextManager[tuple[Links, str]]:
        """Return a context manager with links, and the address at which peers reach them.

        :param is_unused: called at the end; returns False if the member's share may still be used.
        """


class UnixPeers:
    """Members on one machine, of one user."""

    problem: Final = None

    def member(self, agent_id: str, suffix: str) -> str:
        return f"{agent_id[:60]}.{suffix}"

    @contextmanager
    def links(
        self, member: str, environment: str, is_unused: Callable[[], bool] = lambda: True
    ) -> Iterator[tuple[Links, str]]:
        place = SocketPlace()
        try:
            with Links(member, environment, Address("", 0, place.path)) as links:
                yield links, str(links.address)
        finally:
            place.close(is_unused=is_unused())


class _Files(NamedTuple):
    ca: str
    cert: str
    key: str


class _FileTls:
    """Contexts of the files as they are when a connection begins: certificates are renewed."""

    def __init__(self, files: _Files) -> None:
        self._files = files
        self._seen = self._versions()
        self._contexts = _contexts(files)
        own = _own_certificate(self._contexts)
        self.name: Final = own.name
        """Name in the certificate, which is part of the member's id."""
        self._ends = own.ends

    @property
    def server(self) -> ssl.SSLContext:
        return self._newest().server

    @property
    def client(self) -> ssl.SSLContext:
        return self._newest().client

    @property
    def problem(self) -> str | None:
        """That the certificate has ended; None if it has not."""
        if time.time() < self._ends:
            return None
        self._newest()
        if time.time() < self._ends:
            return None  # it was renewed
        at = datetime.fromtimestamp(self._ends, UTC).isoformat(" ", "seconds")
        return f"peers refuse the certificate {self._files.cert}, which ended at {at}: renew it"

    def _newest(self) -> TlsContexts:
        """Return the contexts; files that cannot be used are told of, and those before stay."""
        versions = self._versions()
        if versions != self._seen:
            self._seen = versions
            try:
                contexts = _contexts(self._files)
                name, ends = _own_certificate(contexts)
            except UsageError as error:
                log.warning("%s: the certificate before stays", error)
            else:
                if name == self.name:
                    self._contexts, self._ends = contexts, ends
                    log.info("the certificate of this member is a new one")
                else:
                    log.warning(
                        "the new certificate names %s, and this process has joined as %s: the "
                        "certificate before stays until a restart",
                        name,
                        self.name,
                    )
        return self._contexts

    def _versions(self) -> list[Version]:
        return [version_of(path) for path in self._files]


class TlsPeers:
    """Members on several machines. Their certificates name them.

    :raises UsageError: an address or a file cannot be used; the message names the variable.
    """

    def __init__(self, listen: Address, address: str | None, files: _Files) -> None:
        self._listen = listen
        self._address = address
        self._tls = _FileTls(files)

    @property
    def problem(self) -> str | None:
        return self._tls.problem

    def member(self, agent_id: str, suffix: str) -> str:
        return f"{agent_id[:50]}.{suffix}@{self._tls.name}"

    @contextmanager
    def links(
        self,
        member: str,
        environment: str,
        is_unused: Callable[[], bool] = lambda: True,  # noqa: ARG002  nobody finds out here
    ) -> Iterator[tuple[Links, str]]:
        with Links(member, environment, self._listen, tls=self._tls) as links:
            yield links, self._address or str(links.address)


def peers_of(*, server: bool, variables: Mapping[str, str] = os.environ) -> Peers | None:
    """Return how members reach each other, by the environment's variables.

    :param server: other machines use the same store.
    :return: None if other machines do, and nothing says at which address they reach this process.
    :raises UsageError: a variable cannot be used.
    """
    if not server:
        return UnixPeers()
    listen = variables.get("RATECTL_CLUSTER_LISTEN")
    if not listen:
        unused = [name for name in VARIABLES if variables.get(name)]
        if unused:
            raise UsageError(f"{unused[0]} is set, and RATECTL_CLUSTER_LISTEN is not: set both")
        return None
    where = _address("RATECTL_CLUSTER_LISTEN", listen)
    address = variables.get("RATECTL_CLUSTER_ADDRESS") or None
    if address is None and where.host in {"", "0.0.0.0", "::"}:  # noqa: S104  a comparison
        raise UsageError(
            f"RATECTL_CLUSTER_LISTEN={listen} is no address for peers: name one in "
            "RATECTL_CLUSTER_ADDRESS"
        )
    if address is not None:
        _address("RATECTL_CLUSTER_ADDRESS", address)
    return TlsPeers(where, address, _Files(*(_file(variables, of) for of in ("CA", "CERT", "KEY"))))


def _address(variable: str, text: str) -> Address:
    try:
        address = parse_address(text)
    except UsageError as error:
        raise UsageError(f"{variable}: {error}") from None
    if address.path:
        raise UsageError(f"{variable}: other machines cannot reach {text}: name a host and a port")
    return address


def _file(variables: Mapping[str, str], what: str) -> str:
    names = f"RATECTL_CLUSTER_{what}", f"RATECTL_ETCD_{what}"
    path = next((variables[name] for name in names if variables.get(name)), None)
    if path is None:
        raise UsageError(
            f"RATECTL_CLUSTER_LISTEN needs certificates: set {names[0]} (or {names[1]})"
        )
    return path


def _contexts(files: _Files) -> TlsContexts:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False  # certificates name members, which may move
    for context in (server, client):
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_cert_chain(files.cert, files.key)
        except OSError as error:  # an error of TLS is one, too
            raise UsageError(
                f"the certificate {files.cert} with the key {files.key} of the cluster cannot be "
                f"used: {_why(error)}"
            ) from None
        try:
            context.load_verify_locations(files.ca)
        except OSError as error:
            raise UsageError(
                f"the authorities {files.ca} of the cluster cannot be used: {_why(error)}"
            ) from None
    return TlsContexts(server, client)


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "it is no PEM file"
    return error.strerror or str(error)


class _Own(NamedTuple):
    """This member's certificate."""

    name: str
    ends: float
    """Seconds since 1970."""


def _own_certificate(tls: TlsContexts) -> _Own:
    """Return what a peer would read in this member's certificate.

    A handshake with itself: it fails now, and not at each peer, if the certificate is not for both
    sides, has expired, or comes from another authority.
    """
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = tls.server.wrap_bio(to_server, to_client, server_side=True)
    client = tls.client.wrap_bio(to_client, to_server)
    try:
        for _ in range(8):
            for side in (client, server):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
    except ssl.SSLError as error:
        raise UsageError(
            "peers would not accept this member's certificate: "
            f"{getattr(error, 'verify_message', '') or error.reason or error}"
        ) from None
    names = [name for name in sorted(certificate_names(client)) if _NAME.fullmatch(name)]
    if not names:
        raise UsageError(
            "the certificate of this member has no name of 1 to 60 characters A-Z a-z 0-9 . _ -"
        )
    end = (client.getpeercert() or {}).get("notAfter")
    return _Own(names[0], ssl.cert_time_to_seconds(end) if isinstance(end, str) else inf)
