"""Certificates and TLS settings for a registry over https."""

from __future__ import annotations

import ssl
from typing import Final

import trustme

DATA_NAME: Final = "eastus.data.mcr.microsoft.com"
"""The name of one of MAR's data hosts."""
OFFICIAL: Final = ("mcr.microsoft.com", "*.data.mcr.microsoft.com", "mcr.azure.cn", "*.data.mcr.azure.cn")
"""The host names in the certificate for the fake MAR."""


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """Return the TLS settings of a server with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context
