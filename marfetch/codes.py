"""Every error code: the class that is raised with it, what it means, and what to do.

`docs/reference/errors.md` is generated from `CODES`. The codes of signature verification are in capitals because users compare them
with those of `notation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

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
    "REGISTRY_ERROR": ("SignatureError", "a signature could not be fetched", "try again; if it stays, the registry has lost it"),
    "SIGNATURE_MANIFEST_INVALID": ("SignatureError", "the manifest of a signature is not that of one", "the publisher has to sign anew"),
    "ENVELOPE_TYPE_UNSUPPORTED": ("SignatureError", "the envelope is neither COSE nor JWS", "the publisher has to sign anew"),
    "ENVELOPE_MALFORMED": ("SignatureError", "the envelope breaks the rules of its form", "do not use the artifact; tell the publisher"),
    "CERT_CHAIN_MISSING": ("SignatureError", "the envelope holds no certificate", "the publisher has to sign anew"),
    "CERT_CHAIN_INVALID": (
        "SignatureError",
        "the certificates of the envelope are no chain from a signer to a root",
        "do not use the artifact; tell the publisher",
    ),
    "CERT_INVALID": ("SignatureError", "a certificate breaks the rules for signing", "do not use the artifact; tell the publisher"),
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
    "HEADER_INVALID": ("SignatureError", "a header of the envelope is missing, misplaced or wrong", "the publisher has to sign anew"),
    "CRIT_INVALID": ("SignatureError", "the critical headers are not marked as they must be", "the publisher has to sign anew"),
    "CRIT_UNKNOWN": ("SignatureError", "a critical header is not understood", "a newer marfetch may understand it"),
    "SIGNING_SCHEME_UNSUPPORTED": ("SignatureError", "a signing scheme that is not known", "a newer marfetch may know it"),
    "CONTENT_TYPE_UNSUPPORTED": (
        "SignatureError",
        "what is signed is of another type than the Notary Project's payload",
        "the publisher has to sign anew",
    ),
    "PAYLOAD_INVALID": ("SignatureError", "what is signed does not say which artifact it means", "the publisher has to sign anew"),
    "SUBJECT_MISMATCH": ("SignatureError", "the signature is of another artifact", "do not use the artifact: a signature was moved to it"),
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
    "SIGNATURE_EXPIRED": ("SignatureError", "the signature has expired", "take a newer version, or override `expiry` with `log`"),
    "CERT_EXPIRED": (
        "SignatureError",
        "a certificate was not valid any more when it counted",
        "check the clock of this machine; take a newer version, or ask the publisher for a signature with a timestamp",
    ),
    "CERT_NOT_YET_VALID": ("SignatureError", "a certificate was not valid yet when it counted", "check the clock of this machine"),
    "TIMESTAMP_MISSING": (
        "SignatureError",
        "the policy asks for a timestamp, and there is none",
        "ask the publisher for a signature with a timestamp",
    ),
    "TIMESTAMP_MALFORMED": ("SignatureError", "the timestamp cannot be read", "the publisher has to sign anew"),
    "TIMESTAMP_INVALID": (
        "SignatureError",
        "the timestamp breaks a rule of RFC 3161 or of the Notary Project",
        "the publisher has to sign anew",
    ),
    "TIMESTAMP_MISMATCH": ("SignatureError", "the timestamp is of another signature", "do not use the artifact; tell the publisher"),
    "UNTRUSTED_TSA": (
        "SignatureError",
        "no root of the `tsa` stores vouches for the timestamp",
        "add the root of the timestamping authority to a `tsa` store",
    ),
    "REVOKED": ("SignatureError", "a certificate was revoked", "do not use the artifact; its publisher has to sign anew"),
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
    "PROV_FILE_NOT_LISTED": ("SignatureError", "the provenance is of another file", "do not use the chart; tell the publisher"),
    "PROV_DIGEST_MISMATCH": ("SignatureError", "the chart is not the one that was signed", "do not use the chart: it was changed"),
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


class Code(NamedTuple):
    """One stable word for one sort of failure.

    Attributes:
        kind: the class that it is raised with.
        means: what it says.
        do: the next thing to try, where the single case knows nothing better.
    """

    kind: str
    means: str
    do: str


# `docs/reference/errors.md` is generated from this table.
CODES: Mapping[str, Code] = MappingProxyType(
    {
        # 2: what was typed
        "usage": Code(
            "InputError", "options that do not go together, or a value that an option does not take", "see `--help` of the command"
        ),
        "payload-ambiguous": Code(
            "InputError",
            "several payloads where one is asked for",
            "choose one by its media type, or write all of them into a directory with `pull`",
        ),
        "client-closed": Code(
            "InputError",
            "a call of a `marfetch.Client` that was closed",
            "make a new `Client`, or make the call inside of its `with` block",
        ),
        "reference-invalid": Code(
            "InputError",
            "a reference that does not follow the grammar",
            "write `repository`, `repository:tag` or `repository@sha256:…`, each also behind `mcr.microsoft.com/`",
        ),
        "digest-invalid": Code(
            "InputError",
            "a digest that is not `sha256:` or `sha512:` with its lower-case hex digits",
            "copy the digest whole, as `marfetch resolve` prints it",
        ),
        "constraint-invalid": Code(
            "InputError",
            "a version range that Helm would not take either",
            "write a version or a range such as `1.7.12`, `^1.7`, `~1.7.9`, `>=1.7 <2` or `1.7.x`",
        ),
        "endpoint-invalid": Code(
            "InputError",
            "an endpoint that is neither `global`, `china` nor `https://host[:port]`",
            "use `global`, `china`, or `https://host[:port]` for a registry of your own",
        ),
        "platform-invalid": Code(
            "InputError", "a platform that is not `os/architecture[/variant]`", "write `os/architecture`, such as `linux/amd64`"
        ),
        "not-a-layout": Code(
            "InputError",
            "a folder or file that is not an OCI image layout, nor a plain tar of one",
            "name a folder that holds `oci-layout` and `index.json`, or a tar of its content (`tar -cf FILE -C FOLDER .`)",
        ),
        "wanted-invalid": Code(
            "InputError",
            "a wanted file (`marfetch.yaml`) that cannot be read, or that says what none can say",
            "`docs/reference/wanted.md` shows every key; editors complete them by its JSON Schema",
        ),
        "platform-needed": Code("InputError", "the index holds several artifacts and none was chosen", "choose one with `--platform`"),
        "root-mismatch": Code(
            "InputError",
            "a certificate is not the one whose SHA-256 is known",
            "get it anew from Microsoft's own site; nothing was written",
        ),
        # 3: what is not there
        "repository-not-found": Code(
            "NotFoundError",
            "the registry does not know the repository",
            "check the path; MAR's repositories are shown at https://mcr.microsoft.com",
        ),
        "tag-not-found": Code(
            "NotFoundError", "the repository has no manifest under this tag", "list what there is with `marfetch versions REPOSITORY --all`"
        ),
        "manifest-not-found": Code(
            "NotFoundError",
            "the repository has no manifest with this digest",
            "resolve the tag anew; the registry may have removed what it meant",
        ),
        "blob-not-found": Code(
            "NotFoundError",
            "a manifest names a blob that the registry does not have",
            "the artifact is incomplete there: try another version, and report it",
        ),
        "version-not-found": Code(
            "NotFoundError", "no version of the repository is in the range", "list what there is with `marfetch versions REPOSITORY`"
        ),
        "no-versions": Code("NotFoundError", "none of the tags of the repository is a version", "name a tag"),
        "dangling-tag": Code(
            "NotFoundError", "a tag is listed but its manifest is missing", "`--skip-missing` takes the next best version"
        ),
        "platform-not-found": Code("NotFoundError", "the index holds nothing for this platform", "choose a platform that it has"),
        "layer-not-found": Code(
            "NotFoundError", "no layer has the media type that was asked for", "choose with `--media-type GLOB`, or take `--all-layers`"
        ),
        # 4: what is refused
        "host-refused": Code(
            "PolicyError",
            "a host that is neither the registry nor one of its data hosts",
            "`marfetch endpoints` shows the official hosts; a registry of your own is named with `--endpoint` and `--data-host`",
        ),
        "address-refused": Code(
            "PolicyError", "an address whose form can hide its host, or that is not https", "official names and https only"
        ),
        "redirect-refused": Code(
            "PolicyError", "a redirect that leads nowhere, in circles or too far", "the registry or a proxy is broken; report it"
        ),
        "endpoint-disagrees": Code("PolicyError", "`--endpoint` and the reference name different registries", "leave one of the two out"),
        "kind-refused": Code(
            "PolicyError",
            "the artifact is not of the kind or artifact type that was asked for",
            "leave `--kind` and `--artifact-type` out to fetch it",
        ),
        "image-refused": Code(
            "PolicyError",
            "a container image, for which other tools are made",
            "use `docker pull` or `skopeo copy`; `--all-layers` fetches the layers as files",
        ),
        "name-refused": Code(
            "PolicyError", "a title that is not safe as a file name", "choose the layers with `--media-type GLOB`, and tell the publisher"
        ),
        "path-refused": Code(
            "PolicyError",
            "a destination inside `.git`, as it is written or through a symbolic link",
            "choose a destination outside `.git`: git runs what it finds there",
        ),
        "member-refused": Code(
            "PolicyError",
            "an archive holds what is not unpacked: a link, a device, a name that leads elsewhere or that is another one elsewhere",
            "leave `--untar` out to fetch the archive as a file, and tell the publisher",
        ),
        "chart-refused": Code(
            "PolicyError",
            "the chart in the archive is not the one that was asked for",
            "leave `--untar` out to fetch the archive as a file, and tell the publisher",
        ),
        "limit-passed": Code(
            "PolicyError", "an answer or an archive is larger or longer than marfetch takes", "nobody has a reason to send that; report it"
        ),
        "archive-refused": Code(
            "PolicyError",
            "an archive holds what no layout needs: links, devices, sparse files, or names that lead elsewhere",
            "make it anew from the layout's folder (`tar -cf FILE -C FOLDER .`), and do not trust where it came from",
        ),
        "cache-unsafe": Code(
            "PolicyError",
            "the cache directory can be written by everybody",
            "take the right to write away from others (`chmod 700`), or use `--cache-dir` with another directory",
        ),
        "end-of-life": Code(
            "PolicyError",
            "the artifact is past the end of its support, and `--refuse-eol` was given",
            "take a newer version (`marfetch versions REPOSITORY --details`); leave `--refuse-eol` out if the mark is wrong",
        ),
        # 5: what is not what it should be
        "digest-mismatch": Code(
            "IntegrityError",
            "bytes do not have the digest of their descriptor",
            "the registry, a proxy or a mirror gave altered content; try again, and report it if it stays",
        ),
        "size-mismatch": Code(
            "IntegrityError",
            "bytes do not have the size of their descriptor",
            "the registry, a proxy or a mirror gave altered content; try again, and report it if it stays",
        ),
        "tag-moved": Code(
            "IntegrityError",
            "tag and digest of a reference do not belong together",
            "name the digest alone to get what was pinned, or the tag alone to get what is new",
        ),
        "malformed": Code(
            "IntegrityError",
            "an answer is not what the specification says it is",
            "a proxy or a login page may stand in between; try again, and report it if it stays",
        ),
        "lock-malformed": Code(
            "IntegrityError",
            "a lock that is not what `marfetch lock` writes: merge markers, unknown keys, names that stand twice",
            "take the lock of one side (`git checkout --ours marfetch.lock`), then run `marfetch lock`",
        ),
        "lock-edited": Code(
            "IntegrityError",
            "an entry of the lock was changed by something other than marfetch",
            "take the change back, or make the entry anew with `marfetch lock --upgrade NAME`",
        ),
        # 6: signatures
        # 7: what failed on the way
        "unreachable": Code(
            "RemoteError",
            "no connection to the host",
            "check name service and network; `marfetch endpoints` shows what a firewall must let through",
        ),
        "tls": Code(
            "RemoteError",
            "the certificate of the host cannot be trusted",
            "if a proxy of your company stands in between, give its certificate with `--ca-file`; the check is never turned off",
        ),
        "proxy": Code("RemoteError", "the proxy does not let the request through", "check `HTTPS_PROXY` and `NO_PROXY`"),
        "timeout": Code("RemoteError", "no answer, or no data, within the time", "run it again: what was fetched is kept"),
        "cut": Code("RemoteError", "a transfer ended early and could not be brought to its end", "run it again: what was fetched is kept"),
        "blocked": Code(
            "RemoteError",
            "the front door answered with a block page; this says nothing about the repository",
            "try again later or from another network; give support the X-Msedge-Ref",
        ),
        "unauthorized": Code(
            "RemoteError",
            "the registry asks for credentials that are not there or not right",
            "MAR itself is anonymous; for a registry of your own, log in with `helm registry login` or `docker login`",
        ),
        "denied": Code(
            "RemoteError",
            "the registry refuses the request (403)",
            "MAR is public: check the name; for a registry of your own, log in first",
        ),
        "server-error": Code(
            "RemoteError",
            "the registry answered with a failure of its own (5xx)",
            "try again later; `marfetch endpoints` tells where MAR's problems are reported",
        ),
        "unexpected-answer": Code(
            "RemoteError", "the registry answered with a status that has no place here", "a proxy may stand in between; try again later"
        ),
        "offline": Code("RemoteError", "`--offline` was given and the cache does not have it", "run it once without `--offline`"),
        "rate-limited": Code(
            "RateLimitedError",
            "the registry said to come back later",
            "come back later; fewer at a time (`--jobs`) and a kept cache directory help, above all in CI",
        ),
        # 8: the lock does not match
        "lock-missing": Code(
            "LockError", "there is no lock beside the wanted file", "`marfetch lock` makes it; commit it beside the wanted file"
        ),
        "lock-newer": Code(
            "LockError", "the lock was written by a newer marfetch, in a form that this one does not know", "update marfetch"
        ),
        "lock-outdated": Code(
            "LockError", "the lock no longer says what the wanted file asks for", "run `marfetch lock`, and commit the lock"
        ),
        "tag-drifted": Code(
            "LockError",
            "a tag means other content than when it was locked",
            "find out why its publisher moved it; `marfetch lock --upgrade NAME` takes the new content",
        ),
        # 9: the local disk
        "disk-full": Code(
            "StorageError",
            "not enough room on the disk",
            "make room (`marfetch cache prune`), or choose another place with `--destination` or `--cache-dir`",
        ),
        "file-differs": Code(
            "StorageError",
            "a different file of that name is already there",
            "`--force` replaces it; `--destination` takes another directory",
        ),
        "directory-foreign": Code(
            "StorageError",
            "a directory that marfetch did not create has the name of one that is unpacked, with files of its own",
            "move it away, or choose another place with `--destination`; `--force` does not replace it",
        ),
        "name-clash": Code("StorageError", "two payloads have one name", "fetch them into different directories (`--destination`)"),
        "not-fetched": Code(
            "StorageError", "left out, since names of the same call clash", "mend the clash, or fetch it in a call of its own"
        ),
        "file-unusable": Code(
            "StorageError",
            "a local file or directory cannot be read or written",
            "choose a place that can be read and written with `--destination` or `--cache-dir`",
        ),
        "port-unusable": Code(
            "StorageError",
            "the port cannot be listened on: another program has it, or it is one that only root may have",
            "choose another one with `--port`; `--port 0` takes a free one",
        ),
        "cache-damaged": Code(
            "StorageError",
            "the cache holds something that is not what its name says",
            "`marfetch cache verify --fix`, or use `--cache-dir` with another directory",
        ),
        # ended from outside
        "interrupted": Code("Interrupted", "Ctrl-C ended the command", "run it again: what was fetched is kept"),
        "terminated": Code("Terminated", "SIGTERM or SIGHUP ended the command", "run it again: what was fetched is kept"),
    }
    | {name: Code(*row) for name, row in REFUSALS.items()}
)
