"""Guard: who may ask. Every route but /v2/health/* wants a key where there are keys; unknown ones too.

    guard = Guard(hosts={"127.0.0.1", "localhost"}, keys=["…"])
    refused = guard.look(scope)          # None, or (status, message, headers)

A key comes as `Authorization: Bearer K`, `X-API-Key: K`, or as the password of HTTP Basic, so that a browser can open
the page. The Host must be a name that the server goes by, against pages that point their own name at 127.0.0.1; an
Origin, where one is sent, must be the Host.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from modelworks.core.errors import UserError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
OPEN = "/v2/health/"
"""Paths that need neither key nor name: a probe asks by address."""
Refusal = tuple[int, str, dict[str, str]]
_WANTED = (b"host", b"origin", b"authorization", b"x-api-key")


def read_keys(path: str) -> list[str]:
    """The keys of a file, one a line; lines that begin with # are left out."""
    try:
        lines = Path(path).expanduser().read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"--api-key-file {path}: {getattr(error, 'strerror', None) or 'is no text'}"
        ) from None
    keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    short = [key for key in keys if len(key) < 8]
    if not keys or short or not all(key.isascii() and key.isprintable() for key in keys):
        raise UserError(
            f"--api-key-file {path}: wants a key of 8 or more plain characters a line",
            'python -c "import secrets; print(secrets.token_urlsafe(32))" makes one',
        )
    return keys


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


class Guard:
    """The checks before any route."""

    def __init__(self, hosts: Collection[str], keys: Iterable[str] = ()) -> None:
        self.hosts = {host.lower().strip("[]") for host in hosts}
        self.keys = [_digest(key.encode()) for key in keys]
        self._known: dict[bytes, bool] = {}

    def look(self, scope: dict[str, Any]) -> Refusal | None:
        """Why a request is refused, or None."""
        if scope["path"].startswith(OPEN):
            return None
        found: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name in _WANTED:
                if name in found:
                    return 400, f"the header {name.decode()} is there twice", {}
                found[name] = value
        host = found.get(b"host", b"")
        known = self._known.get(host)
        if known is None:
            known = name_of(host) in self.hosts
            if len(self._known) < 100:
                self._known[host] = known
        if not known:
            return 400, "the Host is not a name of this server; --allowed-host adds one", {}
        origin = found.get(b"origin")
        if origin is not None and origin.lower() != scope["scheme"].encode() + b"://" + host.lower():
            return 403, "requests of other origins are refused", {}
        if self.keys and not self._admits(found):
            return (
                401,
                "an API key is needed",
                {"WWW-Authenticate": 'Basic realm="modelworks", charset="UTF-8"'},
            )
        return None

    def _admits(self, headers: dict[bytes, bytes]) -> bool:
        given = headers.get(b"x-api-key", b"")
        scheme, _, rest = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"bearer":
            given = rest.strip()
        elif scheme.lower() == b"basic":
            try:
                given = base64.b64decode(rest.strip(), validate=True).partition(b":")[2]
            except (binascii.Error, ValueError):
                return False
        digest = _digest(given)
        # All are compared, each in constant time: how long it takes tells nothing.
        return sum(hmac.compare_digest(digest, key) for key in self.keys) > 0


def name_of(host: bytes) -> str:
    """A Host header without its port."""
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") < 2 else text
