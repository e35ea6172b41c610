"""The certificate of a server, which follows its files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.agent.log import log
from ratectl.agent.serving.tls import context_of
from ratectl.errors import UsageError
from ratectl.runtime.file_version import version_of

if TYPE_CHECKING:
    from ssl import SSLContext

    from ratectl.agent.serving.tls import Tls
    from ratectl.runtime.file_version import Version

__all__ = ["FileCertificate"]


class FileCertificate:
    """A context of TLS for one endpoint, with the certificate that its files have now.

    New authorities of clients are trusted beside those that it began with.
    """

    def __init__(self, tls: Tls, endpoint: str, protocol: str | None = None) -> None:
        """Read the files.

        :param endpoint: what it is for, in errors.
        :param protocol: name of the protocol that is spoken (ALPN).
        :raises UsageError: they cannot be used.
        """
        self._tls = tls
        self._endpoint = endpoint
        self.context: SSLContext = context_of(tls, endpoint)
        if protocol is not None:
            self.context.set_alpn_protocols([protocol])
        self._seen = self._version()

    def has_changed(self) -> bool:
        """Use the files for new connections if they have changed since the last call.

        Files that cannot be used are told of, and the certificate before them stays.
        """
        version = self._version()
        if version == self._seen:
            return False
        self._seen = version
        try:
            context_of(self._tls, self._endpoint)  # a certificate without its key changes nothing
            self.context.load_cert_chain(self._tls.certificate, self._tls.key)
            if self._tls.client_ca is not None:
                self.context.load_verify_locations(self._tls.client_ca)
        except (UsageError, OSError) as error:
            log.warning("%s: the one before stays", error)
            return False
        log.info("the certificate of %s is a new one", self._endpoint)
        return True

    def _version(self) -> list[Version]:
        files = (self._tls.certificate, self._tls.key, self._tls.client_ca)
        return [version_of(path) for path in files if path is not None]
