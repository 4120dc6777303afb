"""Which certificates are trusted. There is no way to turn the check off."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass

import truststore

from ..errors import InputError


@dataclass(frozen=True, slots=True)
class Trust:
    """The certificates that count.

    Attributes:
        ca_file: a PEM file that replaces the system's store; None: `REQUESTS_CA_BUNDLE`, `SSL_CERT_FILE`, then the system's store.
    """

    ca_file: str | None = None

    def context(self) -> ssl.SSLContext:
        """A context for clients.

        Raises:
            InputError: `usage`: the file cannot be read or holds no certificate.
        """
        named = [("--ca-file", self.ca_file)] + [(name, os.environ.get(name)) for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")]
        context: ssl.SSLContext = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for name, path in named:
            if not path:
                continue
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
            break
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context
