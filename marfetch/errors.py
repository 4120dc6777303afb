"""The error tree: what can go wrong, with the exit code that each class owns.

```text
Error                    1   code, hint, context, exit_code; str() is one sentence
├─ InputError            2   a reference, range, address or option that cannot be read
├─ NotFoundError         3   repository, tag, version or blob does not exist
├─ PolicyError           4   host, redirect, scheme, media type or size refused
├─ IntegrityError        5   bytes are not what their descriptor says, or an answer is malformed
├─ SignatureError        6   missing, untrusted or wrong signature
├─ RemoteError           7   the registry failed or cannot be reached
│  └─ RateLimitedError   7   told to come back later, and the time for waiting is used up
├─ LockError             8   the lock does not match what was asked or found
├─ StorageError          9   a local file cannot be written or read
└─ Interrupted         130   Ctrl-C
   └─ Terminated       143   SIGTERM, SIGHUP
```

`code` is one of the stable words of `CODES`; `context` holds the facts of the single case (JSON values only), under the names
that `docs/reference/errors.md` gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, NamedTuple

from .codes import REFUSALS


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


class Error(Exception):
    """What marfetch raises for everything but its own bugs.

    Args:
        message: one sentence in lower case, the value last or in backticks.
        code: one of `CODES`.
        hint: the next thing to try, as a sentence or a command line; None: that of the code.
        context: the facts of this case; values are JSON values.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, code: str, hint: str | None = None, **context: object) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.hint = hint or CODES[code].do
        self.context = {name: value for name, value in context.items() if value is not None}


class InputError(Error):
    """What was typed cannot be read (context: `text`, `part`, `position`)."""

    exit_code = 2


class NotFoundError(Error):
    """What was asked for does not exist (context: `reference`, `nearest`)."""

    exit_code = 3


class PolicyError(Error):
    """A rule of marfetch or of the user refuses it (context: `url` or `reference`, `rule`)."""

    exit_code = 4


class IntegrityError(Error):
    """Bytes are not what their descriptor or specification says (context: `expected`, `actual`, `url`)."""

    exit_code = 5


class SignatureError(Error):
    """A signature or provenance is missing, untrusted or wrong (context: `reference`, `reason`)."""

    exit_code = 6


class RemoteError(Error):
    """The registry failed or cannot be reached (context: `url` without query, `status`, `wire`, `msedge_ref`)."""

    exit_code = 7


class RateLimitedError(RemoteError):
    """The registry said to come back later than we may wait (context also: `retry_after`, seconds; `host`)."""

    def __init__(self, message: str, *, hint: str | None = None, **context: object) -> None:
        super().__init__(message, code="rate-limited", hint=hint, **context)


class LockError(Error):
    """The lock does not match what was asked or found (context: `entry`)."""

    exit_code = 8


class StorageError(Error):
    """A local file cannot be written or read (context: `path`, `needed`, `free` in bytes)."""

    exit_code = 9


class Interrupted(Error):  # noqa: N818 - it is no mistake of anybody
    """Ctrl-C ended the command."""

    exit_code = 130


class Terminated(Interrupted):
    """SIGTERM or SIGHUP ended the command."""

    exit_code = 143
