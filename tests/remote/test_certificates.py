"""The trusted certificates."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest
import trustme

from marfetch.errors import InputError
from marfetch.remote.certificates import TrustedCertificates, named_certificates

NAMES = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE")


def trusted(context: ssl.SSLContext) -> int:
    return context.cert_store_stats()["x509"]


@pytest.mark.parametrize("number", range(len(NAMES)))
def test_the_first_variable_in_order_is_used(number: int) -> None:
    variables = {name: f"/{name}" for name in NAMES[number:]}
    found = [source.name for source in named_certificates(None, variables)]
    assert found == (["SSL_CERT_FILE", "SSL_CERT_DIR"] if NAMES[number] == "SSL_CERT_FILE" else [NAMES[number]])
    assert [source.name for source in named_certificates("/x.pem", variables)] == ["--ca-file"]
    assert named_certificates(None, dict.fromkeys(NAMES, "")) == []


@pytest.mark.parametrize(
    ("name", "is_directory"), [(name, how) for name in NAMES for how in (False, True) if how or name != "SSL_CERT_DIR"]
)
def test_each_variable_may_name_a_directory_too(
    tmp_path: Path, ca_file: str, monkeypatch: pytest.MonkeyPatch, name: str, is_directory: bool
) -> None:
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs" / "corp.crt").write_bytes(Path(ca_file).read_bytes())
    (tmp_path / "certs" / "README").write_text("These are ours.\n")
    monkeypatch.setenv(name, str(tmp_path / "certs") if is_directory else ca_file)
    certificates = TrustedCertificates()
    assert trusted(certificates.context()) == 1
    assert name in certificates.description


def test_all_files_of_a_directory_are_read_with_and_without_hash_links(tmp_path: Path) -> None:
    for name in ("linked", "own"):
        trustme.CA().cert_pem.write_to_path(str(tmp_path / f"{name}.pem"))
    (tmp_path / "0123abcd.0").symlink_to("linked.pem")  # a hash link, as `openssl rehash` creates it; OpenSSL reads it only when needed
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "gone.pem").symlink_to("nothing")
    assert trusted(TrustedCertificates(str(tmp_path)).context()) == 1


def test_a_file_and_several_directories_are_used_together(tmp_path: Path, ca_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        trustme.CA().cert_pem.write_to_path(str(tmp_path / name / "x.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", ca_file)
    monkeypatch.setenv("SSL_CERT_DIR", os.pathsep.join(str(tmp_path / name) for name in ("one", "missing", "two")))
    assert trusted(TrustedCertificates().context()) == 3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", [None, "junk", ""])
def test_certificates_that_cannot_be_read_are_an_input_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str | None
) -> None:
    path = tmp_path / "certs"
    if content is not None:
        path.mkdir() if name == "SSL_CERT_DIR" else path.write_text(content)
    monkeypatch.setenv(name, str(path))
    with pytest.raises(InputError) as caught:
        TrustedCertificates().context()
    assert str(path) in caught.value.message
    assert name in caught.value.message
    assert name in caught.value.hint
    assert "_ssl.c" not in caught.value.message
