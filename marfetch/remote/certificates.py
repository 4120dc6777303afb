"""Which certificates are trusted. There is no way to turn the check off."""

from __future__ import annotations

import os
import ssl
import threading

from ..errors import InputError


class TrustedCertificates:
    """The certificates that count.

    Args:
        ca_file: a PEM file that replaces the system's store; None: `REQUESTS_CA_BUNDLE`, `SSL_CERT_FILE`, then the system's store.
    """

    def __init__(self, ca_file: str | None = None) -> None:
        self._ca_file = ca_file
        self._context: ssl.SSLContext | None = None
        self._guard = threading.Lock()

    def context(self) -> ssl.SSLContext:
        """The one context for clients, made when it is first needed.

        Raises:
            InputError: `usage`: the file cannot be read or holds no certificate.
        """
        with self._guard:
            if self._context is None:
                self._context = self._make()
            return self._context

    def _make(self) -> ssl.SSLContext:
        named = [("--ca-file", self._ca_file)] + [(name, os.environ.get(name)) for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")]
        name, path = next(((name, path) for name, path in named if path), ("", None))
        if path is None:
            import truststore  # late: truststore, only where the system's store counts

            context: ssl.SSLContext = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        else:
            try:
                is_directory = os.path.isdir(path)  # noqa: PTH112
                context = ssl.create_default_context(capath=path) if is_directory else ssl.create_default_context(cafile=path)
            except (OSError, ValueError) as error:
                raise InputError(
                    f"the certificates of `{path}` ({name}) cannot be read: {str(error).lower()}",
                    code="usage",
                    hint="give a file with certificates in PEM form",
                    path=path,
                ) from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        return context
