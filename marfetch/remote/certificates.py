"""The trusted TLS certificates. There is no option to turn verification off."""

from __future__ import annotations

import os
import ssl
import threading

from ..errors import InputError


class TrustedCertificates:
    """The trusted certificates and the TLS context that uses them.

    Args:
        ca_file: a PEM file to use in preference to the system's store. If None: `REQUESTS_CA_BUNDLE`, `SSL_CERT_FILE`, or that store.
    """

    def __init__(self, ca_file: str | None = None) -> None:
        self._ca_file = ca_file
        self._context: ssl.SSLContext | None = None
        self._guard = threading.Lock()

    def context(self) -> ssl.SSLContext:
        """Return the TLS client context, made at the first call.

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
            import truststore  # late: truststore, only with the system's store

            context: ssl.SSLContext = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        else:
            try:
                is_directory = os.path.isdir(path)  # noqa: PTH112
                context = ssl.create_default_context(capath=path) if is_directory else ssl.create_default_context(cafile=path)
            except (OSError, ValueError) as error:
                raise InputError(
                    f"cannot read the certificates of `{path}` ({name}): {str(error).lower()}",
                    code="usage",
                    hint="use a file with certificates in PEM format",
                    path=path,
                ) from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        return context
