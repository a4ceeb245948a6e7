"""Sealed folders: files flushed to disk and vouched for by a manifest of their SHA-256."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from modelworks.core.errors import UserError


def write_bytes(path: Path, data: bytes) -> None:
    """A file, flushed to disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries (renames, new files) to disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def seal(folder: Path, leave_out: Iterable[str] = ()) -> None:
    """Write manifest.json: SHA-256 and size of every file below, but for those in the folders left out."""
    files = {}
    (folder / "manifest.partial").unlink(missing_ok=True)  # of a process killed while it sealed
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != "manifest.json" and name.split("/")[0] not in leave_out:
            files[name] = {"sha256": sha256(path), "bytes": path.stat().st_size}
    write_bytes(folder / "manifest.partial", json.dumps({"files": files}, indent=1).encode())
    (folder / "manifest.partial").replace(folder / "manifest.json")
    sync_folder(folder)


def verify(folder: Path, only: Iterable[str] | None = None) -> None:
    """Compare the files with the manifest; raises UserError naming the first that differs."""
    try:
        listed = json.loads((folder / "manifest.json").read_text("utf-8"))["files"]
        entries = {name: (entry["sha256"], entry["bytes"]) for name, entry in listed.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{folder}: has no readable manifest.json", "it is incomplete or damaged") from None
    for name, (digest, size) in entries.items():
        if only is not None and name not in only:
            continue
        path = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts or path.is_symlink():
            raise UserError(f"{folder}: the manifest names {name!r}, outside the folder")
        if not path.is_file():
            raise UserError(f"{folder}: {name} is missing")
        if path.stat().st_size != size or sha256(path) != digest:
            raise UserError(f"{folder}: {name} differs from its manifest", "the file was changed or damaged")


def sha256(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
