"""Every error code: the exception class that has it, its meaning, and what to do.

`docs/reference/errors.md` is generated from `CODES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from .refusals import REFUSALS


class Code(NamedTuple):
    """One stable error code.

    Attributes:
        kind: the exception class that has this code.
        means: its meaning.
        do: the default hint.
    """

    kind: str
    means: str
    do: str


# `docs/reference/errors.md` is generated from this table.
CODES: Mapping[str, Code] = MappingProxyType(
    {
        # any: the exit code is that of the command
        "command-failed": Code("Error", "the command of `record` or `replay` failed", "see its own messages"),
        # Exit code 2: invalid input
        "usage": Code("InputError", "options that cannot be combined, or an invalid value of an option", "see the command's `--help`"),
        "helm-failed": Code(
            "InputError",
            "`helm` is not on PATH, or `helm template` could not render a chart",
            "run `helm template` on the chart to see why, or leave out `--rendered`",
        ),
        "payload-ambiguous": Code(
            "InputError",
            "the artifact has several payloads, but only one can be returned",
            "choose one by its media type, or download all of them into a directory with `pull`",
        ),
        "client-closed": Code(
            "InputError",
            "a method of a closed `marfetch.Client` was called",
            "create a new `Client`, or make the call inside its `with` block",
        ),
        "reference-invalid": Code(
            "InputError",
            "a reference that does not follow the grammar",
            "write `repository`, `repository:tag` or `repository@sha256:…`, with or without `mcr.microsoft.com/`",
        ),
        "digest-invalid": Code(
            "InputError",
            "a digest that is not `sha256:` or `sha512:` with its lower-case hex digits",
            "copy the complete digest, as `marfetch resolve` prints it",
        ),
        "not-a-recording": Code("InputError", "the archive has no `recording.json`", "make one with `marfetch record -o FILE -- COMMAND`"),
        "constraint-invalid": Code(
            "InputError",
            "a version range that Helm cannot parse",
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
            "name a folder that contains `oci-layout` and `index.json`, or a tar of its content (`tar -cf FILE -C FOLDER .`)",
        ),
        "wanted-invalid": Code(
            "InputError",
            "the project file (`marfetch.yaml`) cannot be read, or an entry is invalid",
            "see `docs/reference/wanted.md` for every key; editors complete them with the JSON Schema",
        ),
        "platform-needed": Code("InputError", "the index contains several artifacts and none was chosen", "choose one with `--platform`"),
        "root-mismatch": Code(
            "InputError",
            "the SHA-256 of a certificate is not the expected one",
            "nothing was written; download the certificate again from Microsoft's site",
        ),
        # Exit code 3: not found
        "repository-not-found": Code(
            "NotFoundError",
            "the registry has no such repository",
            "check the path; MAR's repositories are listed at https://mcr.microsoft.com",
        ),
        "tag-not-found": Code(
            "NotFoundError", "the repository has no manifest with this tag", "list the tags with `marfetch versions REPOSITORY --all`"
        ),
        "manifest-not-found": Code(
            "NotFoundError",
            "the repository has no manifest with this digest",
            "resolve the tag again; the registry may have removed the old manifest",
        ),
        "blob-not-found": Code(
            "NotFoundError",
            "the registry lacks a blob that a manifest names",
            "the artifact is incomplete: try another version, and report it",
        ),
        "version-not-found": Code(
            "NotFoundError", "no version of the repository is in the range", "list the versions with `marfetch versions REPOSITORY`"
        ),
        "no-versions": Code("NotFoundError", "none of the tags of the repository is a version", "name a tag"),
        "held-back": Code(
            "NotFoundError",
            "every version in the range is younger than the cool-down, or its age is unknown",
            "wait, shorten `--min-age`, or name a version exactly",
        ),
        "dangling-tag": Code(
            "NotFoundError", "a tag is listed but its manifest is missing", "to use the next best version, add `--skip-missing`"
        ),
        "platform-not-found": Code("NotFoundError", "the index has no manifest for this platform", "choose one of its platforms"),
        "layer-not-found": Code(
            "NotFoundError", "no layer has the requested media type", "choose with `--media-type GLOB`, or use `--all-layers`"
        ),
        "part-not-found": Code("NotFoundError", "the artifact has no such part", "choose one of the parts that the message names"),
        # 4: refused
        "host-refused": Code(
            "PolicyError",
            "a host that is neither the registry nor one of its data hosts",
            "`marfetch endpoints` lists the official hosts; for a registry of your own, use `--endpoint` and `--data-host`",
        ),
        "address-refused": Code(
            "PolicyError", "a URL that can disguise its host, or that is not https", "use https and the full name or address of the host"
        ),
        "redirect-refused": Code(
            "PolicyError",
            "a redirect has no valid target, redirects form a loop, or there are too many",
            "the registry or a proxy is broken; report it",
        ),
        "endpoint-disagrees": Code("PolicyError", "`--endpoint` and the reference name different registries", "remove one of the two"),
        "kind-refused": Code(
            "PolicyError",
            "the artifact does not have the requested kind or artifact type",
            "to download it, remove `--kind` and `--artifact-type`",
        ),
        "image-refused": Code(
            "PolicyError",
            "the artifact is a container image, which marfetch does not pull",
            "use `docker pull` or `skopeo copy`; to download the layers as files, add `--all-layers`",
        ),
        "manifest-withdrawn": Code(
            "PolicyError", "a manifest in a withdrawn format, such as Docker schema 1", "the publisher has to push it with a current tool"
        ),
        "name-refused": Code(
            "PolicyError", "a title that is not a safe file name", "choose a name with `pull --output FILE`, and report it to the publisher"
        ),
        "path-refused": Code(
            "PolicyError",
            "a destination inside `.git`, directly or through a symbolic link",
            "choose a destination outside `.git`, because git runs files there",
        ),
        "member-refused": Code(
            "PolicyError",
            "an archive member that marfetch does not unpack: a link, a device, or a name that is unsafe or not portable",
            "to download the archive as a file, remove `--untar`; report it to the publisher",
        ),
        "chart-refused": Code(
            "PolicyError",
            "the chart in the archive is not the requested one",
            "to download the archive as a file, remove `--untar`; report it to the publisher",
        ),
        "limit-passed": Code(
            "PolicyError", "a response or an archive exceeds a size limit of marfetch", "no valid content is that large; report it"
        ),
        "archive-refused": Code(
            "PolicyError",
            "the archive of a layout contains links, devices, sparse files or unsafe names",
            "do not trust its source; create it again from the layout's folder (`tar -cf FILE -C FOLDER .`)",
        ),
        "cache-unsafe": Code(
            "PolicyError",
            "all users can write to the cache directory, or it belongs to another user",
            "remove the write permission of other users (`chmod 700`), or choose another directory with `--cache-dir`",
        ),
        "end-of-life": Code(
            "PolicyError",
            "the artifact is past the end of its support, and `--refuse-eol` was given",
            "use a newer version (`marfetch versions REPOSITORY --details`); if the end-of-life date is wrong, remove `--refuse-eol`",
        ),
        # Exit code 5: corrupted, tampered or malformed content
        "digest-mismatch": Code(
            "IntegrityError",
            "the content does not have the digest of its descriptor",
            "the registry, a proxy or a mirror sent altered content; try again, and report it if it fails again",
        ),
        "size-mismatch": Code(
            "IntegrityError",
            "the content does not have the size of its descriptor",
            "the registry, a proxy or a mirror sent altered content; try again, and report it if it fails again",
        ),
        "tag-moved": Code(
            "IntegrityError",
            "the tag of a reference no longer points to the digest in the reference",
            "use only the digest to get the pinned content, or only the tag to get the new content",
        ),
        "malformed": Code(
            "IntegrityError", "a response does not follow the specification", "try again; if it fails again, report it to the publisher"
        ),
        "lock-malformed": Code(
            "IntegrityError",
            "the lock file is invalid: merge markers, unknown keys or duplicate names",
            "keep one side of the merge (`git checkout --ours marfetch.lock`), then run `marfetch lock`",
        ),
        "lock-edited": Code(
            "IntegrityError",
            "an entry of the lock file was edited by hand or by another program",
            "undo the edit, or lock the artifact again with `marfetch lock --upgrade NAME`",
        ),
        # Exit code 6: most codes of signature checks are in `refusals`
        # Exit code 7: network and registry failures
        "unreachable": Code(
            "RemoteError",
            "no connection to the host",
            "check DNS and the network, or run `marfetch doctor`; `marfetch endpoints` lists the hosts that a firewall must allow",
        ),
        "tls": Code(
            "RemoteError",
            "the host's certificate is not trusted",
            "if your company's proxy or authority signed it, pass its CA certificate with `--ca-file`, or run `marfetch doctor`",
        ),
        "proxy": Code(
            "RemoteError", "the proxy fails, or refuses the connection", "check `HTTPS_PROXY` and `NO_PROXY`, or run `marfetch doctor`"
        ),
        "timeout": Code("RemoteError", "no response or data in time", "run the command again (data is kept), or run `marfetch doctor`"),
        "cut": Code("RemoteError", "a download broke off repeatedly", "run the command again (data is kept), or run `marfetch doctor`"),
        "blocked": Code(
            "RemoteError",
            "MAR's CDN answered with a block page, which says nothing about the repository",
            "try again later or from another network, or run `marfetch doctor`; give the X-Msedge-Ref to Microsoft support",
        ),
        "unauthorized": Code(
            "RemoteError",
            "the registry requires credentials, and they are missing or wrong",
            "MAR needs no login; for a registry of your own, log in with `helm registry login` or `docker login`",
        ),
        "denied": Code(
            "RemoteError",
            "the registry refuses the request (403)",
            "MAR is public: check the name; for a registry of your own, log in first",
        ),
        "server-error": Code(
            "RemoteError",
            "the registry answered with a server error (5xx)",
            "try again later, or run `marfetch doctor`; `marfetch endpoints` shows where to report problems with MAR",
        ),
        "unexpected-answer": Code(
            "RemoteError", "the registry answered with an unexpected status", "try again later; if it fails again, run: marfetch doctor"
        ),
        "offline": Code(
            "RemoteError", "the content is not in the cache, and `--offline` allows no requests", "run the command once without `--offline`"
        ),
        "rate-limited": Code(
            "RateLimitedError",
            "the registry throttles requests (429)",
            "try again later; in CI, reduce `--jobs` and keep the cache directory between runs",
        ),
        # Exit code 8: the lock file does not match
        "lock-missing": Code(
            "LockError", "`marfetch.yaml` has no lock file", "run `marfetch lock`, and commit the lock file with `marfetch.yaml`"
        ),
        "lock-newer": Code(
            "LockError", "a newer marfetch has written the lock file in a format that this one does not know", "update marfetch"
        ),
        "lock-outdated": Code("LockError", "the lock file does not match `marfetch.yaml`", "run `marfetch lock`, and commit the lock file"),
        "not-recorded": Code(
            "LockError",
            "a replayed command asked for something that the recording does not have",
            "record again with `marfetch record`, or allow another host with `--allow HOST`",
        ),
        "tag-drifted": Code(
            "LockError",
            "a tag no longer points to the digest that was locked",
            "find out why its publisher moved it; to accept the new content, run `marfetch lock --upgrade NAME`",
        ),
        # Exit code 9: files and system resources on this machine
        "disk-full": Code(
            "StorageError",
            "not enough disk space",
            "free space (`marfetch cache prune`), or choose another directory with `--destination` or `--cache-dir`",
        ),
        "file-differs": Code(
            "StorageError",
            "a file or directory with the same name but different content exists",
            "to replace it, add `--force`; to keep it, choose another directory with `--destination`",
        ),
        "directory-foreign": Code(
            "StorageError",
            "the directory to unpack to exists and contains files that marfetch did not create",
            "move it, or choose another directory with `--destination`; `--force` does not replace it",
        ),
        "name-clash": Code(
            "StorageError", "two payloads have the same file name", "download them into different directories (`--destination`)"
        ),
        "not-fetched": Code(
            "StorageError",
            "skipped because another file of the same call has the same name, or would overwrite different content",
            "fix the problem of that file, or download this artifact separately",
        ),
        "file-unusable": Code(
            "StorageError",
            "a local file or directory cannot be read or written",
            "check its permissions, or choose another directory with `--destination` or `--cache-dir`",
        ),
        "no-resources": Code("StorageError", "the system refuses a thread or memory", "raise `ulimit -u`, or the container's pids limit"),
        "port-unusable": Code(
            "StorageError",
            "cannot listen on the port: another program uses it, or only root may use it",
            "choose another port with `--port`; `--port 0` picks a free one",
        ),
        "cache-damaged": Code("StorageError", "the cache is corrupted", "run `marfetch cache verify --fix`, or use another `--cache-dir`"),
        # Exit code 70: a bug in marfetch
        "internal": Code("InternalError", "a bug in marfetch", "report it with the traceback: https://github.com/marfetch/marfetch/issues"),
        # interrupted
        "interrupted": Code("Interrupted", "Ctrl-C ended the command", "run the command again; downloaded data is kept"),
        "terminated": Code("Terminated", "SIGTERM or SIGHUP ended the command", "run the command again; downloaded data is kept"),
    }
    | {name: Code(*row) for name, row in REFUSALS.items()}
)
