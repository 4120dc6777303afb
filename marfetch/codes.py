"""The words of verification and of bundles: the codes of the Notary Project's checks, of Helm provenance, and of what is carried over, as
rows of `errors.CODES`.

Those of verification are written as they are because users compare them with those of `notation` and with each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

REFUSALS: Final[Mapping[str, tuple[str, str, str]]] = {
    "POLICY_MISSING": (
        "InputError",
        "there is no trust policy",
        "`marfetch trust add-microsoft` makes one; `--trust-policy FILE` names another",
    ),
    "POLICY_INVALID": (
        "InputError",
        "the trust policy breaks a rule of the Notary Project",
        "mend it as the message says; `marfetch trust check` reads it again",
    ),
    "NO_APPLICABLE_POLICY": (
        "InputError",
        "no statement of the trust policy covers the repository",
        "add the repository to the scopes of a statement",
    ),
    "TRUST_STORE_INVALID": (
        "InputError",
        "a trust store that the policy names is missing, or holds what has no place in one",
        "put the roots there as files, PEM or DER; `marfetch trust show` tells where",
    ),
    "KEYRING_INVALID": (
        "InputError",
        "the keyring cannot be read, or holds no OpenPGP keys",
        "give a file that `gpg --export` has written; `pubring.kbx` itself cannot be read",
    ),
    "NO_SIGNATURE": (
        "SignatureError",
        "no signature refers to the artifact",
        "not everything on MAR is signed: take another version, or a policy whose level is `skip` for this repository",
    ),
    "REGISTRY_ERROR": (
        "SignatureError",
        "a signature could not be fetched",
        "try again; if it stays, the registry has lost it",
    ),
    "SIGNATURE_MANIFEST_INVALID": (
        "SignatureError",
        "the manifest of a signature is not that of one",
        "the publisher has to sign anew",
    ),
    "ENVELOPE_TYPE_UNSUPPORTED": (
        "SignatureError",
        "the envelope is neither COSE nor JWS",
        "the publisher has to sign anew",
    ),
    "ENVELOPE_MALFORMED": (
        "SignatureError",
        "the envelope breaks the rules of its form",
        "do not use the artifact; tell the publisher",
    ),
    "CERT_CHAIN_MISSING": (
        "SignatureError",
        "the envelope holds no certificate",
        "the publisher has to sign anew",
    ),
    "CERT_CHAIN_INVALID": (
        "SignatureError",
        "the certificates of the envelope are no chain from a signer to a root",
        "do not use the artifact; tell the publisher",
    ),
    "CERT_INVALID": (
        "SignatureError",
        "a certificate breaks the rules for signing",
        "do not use the artifact; tell the publisher",
    ),
    "KEY_UNSUPPORTED": (
        "SignatureError",
        "a key of a sort or size that the Notary Project does not allow",
        "the publisher has to sign with another key",
    ),
    "ALG_MISMATCH": (
        "SignatureError",
        "the envelope names another algorithm than the one of its key",
        "do not use the artifact; tell the publisher",
    ),
    "SIGNATURE_INVALID": (
        "SignatureError",
        "the signature does not belong to what is signed",
        "do not use the artifact: it or its signature was changed",
    ),
    "HEADER_INVALID": (
        "SignatureError",
        "a header of the envelope is missing, misplaced or wrong",
        "the publisher has to sign anew",
    ),
    "CRIT_INVALID": (
        "SignatureError",
        "the critical headers are not marked as they must be",
        "the publisher has to sign anew",
    ),
    "CRIT_UNKNOWN": (
        "SignatureError",
        "a critical header is not understood",
        "a newer marfetch may understand it",
    ),
    "SIGNING_SCHEME_UNSUPPORTED": (
        "SignatureError",
        "a signing scheme that is not known",
        "a newer marfetch may know it",
    ),
    "CONTENT_TYPE_UNSUPPORTED": (
        "SignatureError",
        "what is signed is of another type than the Notary Project's payload",
        "the publisher has to sign anew",
    ),
    "PAYLOAD_INVALID": (
        "SignatureError",
        "what is signed does not say which artifact it means",
        "the publisher has to sign anew",
    ),
    "SUBJECT_MISMATCH": (
        "SignatureError",
        "the signature is of another artifact",
        "do not use the artifact: a signature was moved to it",
    ),
    "PLUGIN_REQUIRED": (
        "SignatureError",
        "the signature can only be verified by a plugin",
        "verify it with `notation`, which runs plugins",
    ),
    "TRUST_STORE_EMPTY": (
        "SignatureError",
        "no store of the sort that the signature needs has a certificate",
        "add a store of that sort to the policy, and its root to the store",
    ),
    "UNTRUSTED_ROOT": (
        "SignatureError",
        "the chain leads to a root that is not in the trust stores",
        "compare the root's SHA-256 with what its owner publishes, then add it to the store",
    ),
    "IDENTITY_MISMATCH": (
        "SignatureError",
        "somebody else has signed than the policy trusts",
        "add the subject to `trustedIdentities` if that is who should sign",
    ),
    "SIGNATURE_EXPIRED": (
        "SignatureError",
        "the signature has expired",
        "take a newer version, or override `expiry` with `log`",
    ),
    "CERT_EXPIRED": (
        "SignatureError",
        "a certificate was not valid any more when it counted",
        "check the clock of this machine; take a newer version, or ask the publisher for a signature with a timestamp",
    ),
    "CERT_NOT_YET_VALID": (
        "SignatureError",
        "a certificate was not valid yet when it counted",
        "check the clock of this machine",
    ),
    "TIMESTAMP_MISSING": (
        "SignatureError",
        "the policy asks for a timestamp, and there is none",
        "ask the publisher for a signature with a timestamp",
    ),
    "TIMESTAMP_MALFORMED": (
        "SignatureError",
        "the timestamp cannot be read",
        "the publisher has to sign anew",
    ),
    "TIMESTAMP_INVALID": (
        "SignatureError",
        "the timestamp breaks a rule of RFC 3161 or of the Notary Project",
        "the publisher has to sign anew",
    ),
    "TIMESTAMP_MISMATCH": (
        "SignatureError",
        "the timestamp is of another signature",
        "do not use the artifact; tell the publisher",
    ),
    "UNTRUSTED_TSA": (
        "SignatureError",
        "no root of the `tsa` stores vouches for the timestamp",
        "add the root of the timestamping authority to a `tsa` store",
    ),
    "REVOKED": (
        "SignatureError",
        "a certificate was revoked",
        "do not use the artifact; its publisher has to sign anew",
    ),
    "REVOCATION_UNKNOWN": (
        "SignatureError",
        "whether a certificate was revoked could not be found out",
        "give the revocation lists with `--crl DIR`, let marfetch ask for them, or say `--revocation log`",
    ),
    "ANNOTATION_MISMATCH": (
        "SignatureError",
        "the signature does not carry the annotation that was asked for",
        "compare `--user-metadata` with what the publisher says",
    ),
    "PROV_MISSING": (
        "SignatureError",
        "the chart has no provenance",
        "leave `--keyring` out, or ask the publisher to sign (`helm package --sign`)",
    ),
    "PROV_MALFORMED": (
        "SignatureError",
        "the provenance is not exactly one clear-signed block with a list of files",
        "do not use the chart; tell the publisher",
    ),
    "PROV_SIGNATURE_INVALID": (
        "SignatureError",
        "no key of the keyring has signed the provenance as it is",
        "check that the keyring holds the publisher's key, and that nobody changed the file",
    ),
    "PROV_FILE_NOT_LISTED": (
        "SignatureError",
        "the provenance is of another file",
        "do not use the chart; tell the publisher",
    ),
    "PROV_DIGEST_MISMATCH": (
        "SignatureError",
        "the chart is not the one that was signed",
        "do not use the chart: it was changed",
    ),
    "push-refused": (
        "PolicyError",
        "a registry that marfetch does not write to: MAR is not ours to write to",
        "name a registry of your own, or a folder (`./folder`)",
    ),
    "base-missing": (
        "PolicyError",
        "a delta is to be loaded where the bundle that it goes on from is not",
        "load the bundle that it goes on from first, or make a whole one without `--since`",
    ),
    "bundle-broken": (
        "IntegrityError",
        "a bundle that is not what `marfetch bundle create` writes: something is missing, extra or wrong",
        "do not use it: have it carried over again, and compare the digest of the file with that of the sender",
    ),
    "push-failed": (
        "RemoteError",
        "the registry did not take what was sent to it",
        "look into its log; check that you may write to this repository, and that it takes OCI artifacts",
    ),
}
"""Code → class, what it says, the next thing to try."""
