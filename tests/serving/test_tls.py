"""TLS: answers for those who trust the certificate, nothing for the others, and files that cannot be are refused."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from modelworks.cli import main

openssl = shutil.which("openssl")
pytestmark = pytest.mark.skipif(openssl is None, reason="makes its certificates with openssl")


def certificate(folder: Path, name: str) -> tuple[str, str]:
    """A certificate of 127.0.0.1 that signs itself, and its key."""
    files = str(folder / f"{name}.pem"), str(folder / f"{name}.key")
    subprocess.run(
        [str(openssl), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-out", files[0], "-keyout", files[1]],
        check=True, capture_output=True,
    )  # fmt: skip
    return files


def test_those_who_trust_the_certificate_are_answered(shelf: Path, tmp_path: Path, start: Any) -> None:
    pem, key = certificate(tmp_path, "own")
    flags = ("--tls-cert", pem, "--tls-key", key)
    with start(shelf / "tiny", tmp_path, *flags, trust=ssl.create_default_context(cafile=pem)) as server:
        status, answer, _ = server.ask("/predict", {"a": 1.0, "b": 3})
        assert status == 200
        assert answer["prediction"] in ("u", "v")
        health = "/v2/health/ready"
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            urllib.request.urlopen(server.url + health, timeout=10)
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((urllib.error.URLError, OSError)):
            urllib.request.urlopen(server.url + health, timeout=10, context=old)
        with pytest.raises(OSError):
            urllib.request.urlopen(server.url.replace("https", "http") + health, timeout=10)
        assert server.ask("/predict", {"a": 1.0, "b": 3})[0] == 200
        assert f"https://127.0.0.1:{server.port}/" in server.log.read_text()


def test_a_key_of_another_certificate(
    shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pem, _), (_, key) = certificate(tmp_path, "one"), certificate(tmp_path, "other")
    assert main(["serve", str(shelf / "tiny"), "--port", "0", "--tls-cert", pem, "--tls-key", key]) == 2
    assert "--tls-cert, --tls-key" in capsys.readouterr().err
