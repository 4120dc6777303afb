"""The error codes of signature verification. They are in capitals because users compare them with those of `notation`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

REFUSALS: Final[Mapping[str, tuple[str, str, str]]] = {
    "POLICY_MISSING": (
        "InputError",
        "there is no trust policy",
        "create one with `marfetch trust add-microsoft`, or name a file with `--trust-policy FILE`",
    ),
    "POLICY_INVALID": (
        "InputError",
        "the trust policy breaks a rule of the Notary Project",
        "correct it as the message says, then run `marfetch trust check`",
    ),
    "NO_APPLICABLE_POLICY": (
        "InputError",
        "no statement of the trust policy covers the repository",
        "add the repository to the scopes of a statement",
    ),
    "TRUST_STORE_INVALID": (
        "InputError",
        "a trust store that the policy names is missing or contains invalid files",
        "put the root certificates there as PEM or DER files; `marfetch trust show` shows the directory",
    ),
    "KEYRING_INVALID": (
        "InputError",
        "the keyring cannot be read or contains no OpenPGP keys",
        "use a file that `gpg --export` has written; marfetch cannot read `pubring.kbx`",
    ),
    "NO_SIGNATURE": (
        "SignatureError",
        "the artifact has no signature",
        "not every artifact on MAR is signed: use another version, or set the policy level `skip` for this repository",
    ),
    "REGISTRY_ERROR": (
        "SignatureError",
        "a signature could not be fetched",
        "try again; if it fails again, the registry has lost the signature",
    ),
    "SIGNATURE_MANIFEST_INVALID": (
        "SignatureError",
        "the manifest of a signature is invalid",
        "the publisher has to sign the artifact again",
    ),
    "ENVELOPE_TYPE_UNSUPPORTED": (
        "SignatureError",
        "the signature envelope is neither COSE nor JWS",
        "the publisher has to sign the artifact again",
    ),
    "ENVELOPE_MALFORMED": (
        "SignatureError",
        "the signature envelope breaks the rules of its format",
        "do not use the artifact; tell the publisher",
    ),
    "CERT_CHAIN_MISSING": (
        "SignatureError",
        "the signature envelope contains no certificate",
        "the publisher has to sign the artifact again",
    ),
    "CERT_CHAIN_INVALID": (
        "SignatureError",
        "the certificates of the signature do not form a chain from the signer to a root",
        "do not use the artifact; tell the publisher",
    ),
    "CERT_INVALID": (
        "SignatureError",
        "a certificate breaks the rules for signing certificates",
        "do not use the artifact; tell the publisher",
    ),
    "KEY_UNSUPPORTED": (
        "SignatureError",
        "the key has a type or size that the Notary Project does not allow",
        "the publisher has to sign with another key",
    ),
    "ALG_MISMATCH": (
        "SignatureError",
        "the signature algorithm does not match the key of the certificate",
        "do not use the artifact; tell the publisher",
    ),
    "SIGNATURE_INVALID": (
        "SignatureError",
        "the signature does not match the signed content",
        "do not use the artifact: it or its signature was tampered with",
    ),
    "HEADER_INVALID": (
        "SignatureError",
        "a header of the signature is missing, misplaced or wrong",
        "the publisher has to sign the artifact again",
    ),
    "CRIT_INVALID": ("SignatureError", "the list of critical headers is wrong", "the publisher has to sign the artifact again"),
    "CRIT_UNKNOWN": ("SignatureError", "marfetch does not support a critical header", "a newer marfetch may support it"),
    "SIGNING_SCHEME_UNSUPPORTED": ("SignatureError", "marfetch does not support the signing scheme", "a newer marfetch may support it"),
    "CONTENT_TYPE_UNSUPPORTED": (
        "SignatureError",
        "the content type of the signed payload is not that of the Notary Project",
        "the publisher has to sign the artifact again",
    ),
    "PAYLOAD_INVALID": ("SignatureError", "the signed payload does not name an artifact", "the publisher has to sign the artifact again"),
    "SUBJECT_MISMATCH": (
        "SignatureError",
        "the signature belongs to another artifact",
        "do not use the artifact: the signature was copied from another one",
    ),
    "PLUGIN_REQUIRED": (
        "SignatureError",
        "the signature can only be verified with a plugin",
        "verify it with `notation`, which runs plugins",
    ),
    "TRUST_STORE_EMPTY": (
        "SignatureError",
        "the policy names no trust store with certificates of the type that the signature needs",
        "add a store of that type to the policy, and a root certificate to the store",
    ),
    "UNTRUSTED_ROOT": (
        "SignatureError",
        "the certificate chain ends at a root that is not in the trust stores",
        "compare the root's SHA-256 with the value that its owner publishes, then add it to the store",
    ),
    "IDENTITY_MISMATCH": (
        "SignatureError",
        "the policy does not trust the signer",
        "if the signer is the right one, add its subject to `trustedIdentities`",
    ),
    "SIGNATURE_EXPIRED": ("SignatureError", "the signature has expired", "use a newer version, or set the check `expiry` to `log`"),
    "CERT_EXPIRED": (
        "SignatureError",
        "a certificate had expired at the proven time of signing, or now if no time is proven",
        "check the clock of this machine; use a newer version, or ask the publisher for a signature with a timestamp",
    ),
    "CERT_NOT_YET_VALID": ("SignatureError", "a certificate is not yet valid, or was not when signing", "check the clock of this machine"),
    "TIMESTAMP_MISSING": (
        "SignatureError",
        "the policy requires a timestamp, but the signature has none",
        "ask the publisher for a signature with a timestamp",
    ),
    "TIMESTAMP_MALFORMED": ("SignatureError", "the timestamp cannot be read", "the publisher has to sign the artifact again"),
    "TIMESTAMP_INVALID": (
        "SignatureError",
        "the timestamp breaks a rule of RFC 3161 or of the Notary Project",
        "the publisher has to sign the artifact again",
    ),
    "TIMESTAMP_MISMATCH": ("SignatureError", "the timestamp belongs to another signature", "do not use the artifact; tell the publisher"),
    "UNTRUSTED_TSA": (
        "SignatureError",
        "the timestamp's certificate chain ends at a root that is not in the `tsa` stores",
        "add the root of the timestamping authority to a `tsa` store",
    ),
    "REVOKED": ("SignatureError", "a certificate was revoked", "do not use the artifact; the publisher has to sign it again"),
    "REVOCATION_UNKNOWN": (
        "SignatureError",
        "the revocation status of a certificate is unknown",
        "provide the revocation lists with `--crl DIR`, let marfetch download them, or use `--revocation log`",
    ),
    "ANNOTATION_MISMATCH": (
        "SignatureError",
        "the signature lacks an annotation that `--user-metadata` requires",
        "compare `--user-metadata` with the values that the publisher documents",
    ),
    "PROV_MISSING": (
        "SignatureError",
        "the chart has no provenance",
        "remove `--keyring`, or ask the publisher to sign the chart (`helm package --sign`)",
    ),
    "PROV_MALFORMED": (
        "SignatureError",
        "the provenance is not exactly one clear-signed block with a list of files",
        "do not use the chart; tell the publisher",
    ),
    "PROV_SIGNATURE_INVALID": (
        "SignatureError",
        "the provenance has no valid signature by a key of the keyring",
        "check that the keyring contains the publisher's key and that the file was not changed",
    ),
    "PROV_FILE_NOT_LISTED": ("SignatureError", "the provenance belongs to another file", "do not use the chart; tell the publisher"),
    "PROV_DIGEST_MISMATCH": (
        "SignatureError",
        "the chart is not the one that was signed",
        "do not use the chart: it was changed after signing",
    ),
    "push-refused": (
        "PolicyError",
        "marfetch does not write to this registry, such as MAR",
        "name a registry of your own, or a folder (`./folder`)",
    ),
    "base-missing": (
        "PolicyError",
        "the bundle is a delta, and the target lacks the content of its base bundle",
        "load the base bundle first, or create a full bundle without `--since`",
    ),
    "bundle-broken": (
        "IntegrityError",
        "the bundle is corrupted: content is missing, extra or wrong",
        "do not use it: transfer it again, and compare the digest of the file with the sender's",
    ),
    "push-failed": (
        "RemoteError",
        "the registry rejected an upload",
        "check the registry's log, your write access to the repository, and its support for OCI artifacts",
    ),
}
"""Code → class, meaning, what to do."""
