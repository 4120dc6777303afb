"""The library: `Client`, and the values that its methods return (docs/reference/library.md)."""

from .facade import Client
from .values import (
    ArtifactInfo,
    CheckInfo,
    ContentInfo,
    LifecycleInfo,
    PolicyInfo,
    ProvenanceInfo,
    PulledFile,
    ReferrerInfo,
    RepositoryInfo,
    ResolvedReference,
    SignatureInfo,
    TimestampInfo,
    VerifiedArtifact,
    VerifiedPlatform,
    VersionInfo,
)

__all__ = [
    "ArtifactInfo",
    "CheckInfo",
    "Client",
    "ContentInfo",
    "LifecycleInfo",
    "PolicyInfo",
    "ProvenanceInfo",
    "PulledFile",
    "ReferrerInfo",
    "RepositoryInfo",
    "ResolvedReference",
    "SignatureInfo",
    "TimestampInfo",
    "VerifiedArtifact",
    "VerifiedPlatform",
    "VersionInfo",
]
