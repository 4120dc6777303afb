"""Write the archive of the Helm plugin, its signature, and the checksums of a release.

    python ci/release.py DIRECTORY [--key KEY]

The archive is for Helm 4 (`helm plugin install FILE|https://…|oci://…`, helm/helm, internal/plugin): one folder with the name of the
plugin, `plugin.yaml` before every file of the same name, and no links. It has the same bytes for each build of a commit.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FIRST = "plugin.yaml"
PARTS = (FIRST, "plugin.complete", "LICENSE", "README.md", "fixtures/repositories.jsonl", "requirements/runtime.lock", "marfetch")
"""What the plugin needs: files, and the folder of the package."""
EXECUTABLE = {"plugin.complete", "marfetch/helm/launch", "marfetch/helm/hook", "marfetch/helm/environment"}


def metadata() -> dict[str, str]:
    """Return name and version from `plugin.yaml`."""
    found = re.findall(r"^(name|version): ([\w.+-]+)$", (ROOT / FIRST).read_text(encoding="utf-8"), re.MULTILINE)
    return dict(found)


def sources() -> Iterator[tuple[str, Path]]:
    """Yield path in the plugin and file, `plugin.yaml` first."""
    for part in PARTS:
        place = ROOT / part
        if place.is_dir():
            for path in sorted(place.rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    yield path.relative_to(ROOT).as_posix(), path
        else:
            yield part, place


def archive(name: str, *, when: int) -> bytes:
    """Return the bytes of the archive.

    Args:
        name: the plugin, which is also the folder in the archive.
        when: the modification time of each file, in seconds since 1970.
    """
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, file in sources():
            data = file.read_bytes()
            member = tarfile.TarInfo(f"{name}/{path}")
            member.size, member.mtime, member.mode = len(data), when, 0o755 if path in EXECUTABLE else 0o644
            tar.addfile(member, io.BytesIO(data))
    return gzip.compress(raw.getvalue(), mtime=when)


def message(path: Path) -> bytes:
    """Return the text to sign: the metadata of the plugin and the digest of its archive (helm/helm, pkg/provenance)."""
    found = metadata()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"name: {found['name']}\nversion: {found['version']}\n\n...\nfiles:\n  {path.name}: sha256:{digest}\n".encode()


def signature(path: Path, key: str) -> bytes:
    """Return the provenance of an archive, signed by GnuPG.

    Raises:
        subprocess.CalledProcessError: GnuPG cannot sign; its reason is on stderr.
    """
    line = ["gpg", "--batch", "--yes", "--local-user", key, "--digest-algo", "SHA512", "--clearsign", "--output", "-"]
    return subprocess.run(line, input=message(path), stdout=subprocess.PIPE, check=True).stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--key", help="the signing key, by a name that GnuPG knows; without it, the archive is not signed")
    given = parser.parse_args()
    directory: Path = given.directory
    found = metadata()
    path = directory / f"{found['name']}-{found['version']}.tgz"
    directory.mkdir(parents=True, exist_ok=True)
    path.write_bytes(archive(found["name"], when=int(os.environ.get("SOURCE_DATE_EPOCH", "0"))))
    proof = path.with_name(f"{path.name}.prov")
    proof.unlink(missing_ok=True)
    if given.key:
        try:
            proof.write_bytes(signature(path, given.key))
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"release: cannot sign {path} with `{given.key}`: {error}", file=sys.stderr)
            return 1
    else:
        path.with_name(f"{path.name}.unsigned").write_bytes(message(path))
        print(f"release: {path} is not signed, so Helm 4 refuses it; name a key: make release KEY=…", file=sys.stderr)
    sums = directory / "SHA256SUMS"
    files = sorted(one for one in directory.iterdir() if one.is_file() and one != sums and one.suffix != ".unsigned")
    sums.write_text("".join(f"{hashlib.sha256(one.read_bytes()).hexdigest()}  {one.name}\n" for one in files), encoding="utf-8")
    print(*(one.name for one in (*files, sums)), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
