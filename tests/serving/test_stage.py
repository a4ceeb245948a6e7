"""`modelworks serve`: what cannot be is said in one line and ends with 2, before anything is loaded."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the extra serve")

from modelworks.cli import main
from modelworks.core.errors import UserError
from modelworks.serving.server import loopback, named


@pytest.fixture
def run(tmp_path: Path) -> str:
    """The folder of something that looks like a Run."""
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "recipe.yaml").write_text("name: r\n")
    return str(tmp_path / "r")


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--host", "0.0.0.0"], "--api-key-file"),
        (["--host", "192.168.0.1"], "--api-key-file"),
        (["--api-key-file", "nothing"], "nothing"),
        (["--tls-cert", "c.pem"], "go together"),
        (["--tls-cert", "c.pem", "--tls-key", "k.pem"], "--tls-cert"),
        (["--port", "70000"], "1 to 65535"),
        (["--queue", "0"], "more than 0"),
        (["--a.b=1"], "no settings"),
    ],
)
def test_flags_that_cannot_be(run: str, flags: list[str], why: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["serve", run, *flags]) == 2
    assert why in capsys.readouterr().err


def test_a_port_in_use_and_a_run_that_is_none(run: str, capsys: pytest.CaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert main(["serve", run, "--port", str(other.getsockname()[1])]) == 2
    assert "in use" in capsys.readouterr().err
    assert main(["serve", "nothing"]) == 2
    assert "no Run" in capsys.readouterr().err


def test_names(run: str) -> None:
    assert named([run, f"other={run}"]) == {"r": run, "other": run}
    for runs in ([run, run], [f"a/b={run}"], [f"a b\n={run}"]):
        with pytest.raises(UserError):
            named(runs)


def test_loopback() -> None:
    assert [loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost", "0.0.0.0", "::", "example.com")] == [
        True, True, True, True, False, False, False,
    ]  # fmt: skip
