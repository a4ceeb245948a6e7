"""A folder of images, sounds or texts with a class per folder: `data: pets/`.

    pets/cat/1.jpg pets/dog/2.jpg                                     columns image, label
    pets/train/cat/1.jpg pets/val/dog/2.jpg pets/test/cat/3.jpg       and the column split
    pets/1.jpg pets/2.jpg                                             image alone

Rows of images and sounds hold paths relative to the folder; rows of text hold the text. Hidden files are
ignored; files of another kind, links that lead outside and what cannot be opened go to the quarantine.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from modelworks.core.errors import DataError, UserError
from modelworks.core.source import Quarantine, Source

if TYPE_CHECKING:
    import pyarrow as pa

ENDINGS = {
    "image": (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"),
    "audio": (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".opus"),
    "text": (".txt", ".md"),
}
SPLITS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "dev": "valid",
    "test": "test",
    "testing": "test",
}
_LITTER = {"thumbs.db", "desktop.ini", "__macosx"}
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
_TEXT = 16 << 20  # most bytes of one text


class Folder(Source):
    """Files whose folder is their label."""

    path: Path
    """The folder."""
    modality: Literal["auto", "image", "audio", "text"] = "auto"
    """What the files hold; the kind that most of them are when `auto`."""

    @classmethod
    def matches(cls, text: str) -> bool:
        return text.lower().endswith(_ARCHIVES) or os.path.isdir(os.path.expanduser(text))

    def read(self, quarantine: Quarantine) -> Iterator[pa.RecordBatch]:
        root = self._folder()
        modality = self._modality(root)
        splits, classes = _layout(root)
        names = [modality, *(["label"] if classes else []), *(["split"] if splits else [])]
        rows: list[tuple[str, ...]] = []
        size = 0
        for file, fault in _walk(root):
            if not fault and not file.lower().endswith(ENDINGS[modality]):
                fault = f"is no {modality} file ({Path(file).suffix or 'no ending'})"
            parts = file.split("/")
            split = SPLITS[parts.pop(0).lower()] if splits and len(parts) > 1 else ""
            if not fault and splits and not split:
                fault = "is in no split's folder"
            if not fault and classes and len(parts) < 2:
                fault = "is in no class folder"
            value = file
            if not fault and modality == "text":
                value, fault = _content(root / file)
            if fault:
                quarantine.add(_shown(file), fault, kind=fault.split(" (")[0])
                continue
            rows.append((value, *([parts[0]] if classes else []), *([split] if splits else [])))
            size += len(value)
            if len(rows) >= 8192 or size > (4 << 20):
                yield _batch(names, rows)
                rows, size = [], 0
        if rows:
            yield _batch(names, rows)

    def _folder(self) -> Path:
        root = self.path.expanduser()
        if root.is_dir():
            return root
        if root.name.lower().endswith(_ARCHIVES):
            raise UserError(f"{self.path}: archives are not read", "unpack it and give the folder")
        if root.exists():
            raise UserError(f"{self.path}: is not a folder")
        from modelworks.sources._files import nearby

        raise UserError(f"{self.path}: no such folder", nearby(root))

    def _modality(self, root: Path) -> str:
        if self.modality != "auto":
            return self.modality
        counts: Counter[str] = Counter()
        others: Counter[str] = Counter()
        for file, fault in _walk(root):
            lowered = file.lower()
            found = next((name for name, endings in ENDINGS.items() if lowered.endswith(endings)), "")
            if not fault and found:
                counts[found] += 1
            elif not fault:
                others[Path(lowered).suffix or "no ending"] += 1
        if not counts:
            seen = ", ".join(f"{count} {ending}" for ending, count in others.most_common(5)) or "no file"
            raise DataError(f"{self.path}: no image, audio or text file in this folder (there is: {seen})")
        return counts.most_common(1)[0][0]

    def fingerprint(self) -> str:
        root = self._folder()
        digest = hashlib.sha256(self.modality.encode())
        for file, fault in _walk(root):
            digest.update(f"\0{_shown(file)}\0{fault}\0".encode())
            if not fault:
                try:
                    with (root / file).open("rb") as opened:
                        digest.update(hashlib.file_digest(opened, "sha256").digest())
                except OSError as error:
                    digest.update(str(error.strerror).encode())
        return digest.hexdigest()

    @property
    def root(self) -> Path | None:
        return self.path.expanduser()


def _batch(names: list[str], rows: list[tuple[str, ...]]) -> pa.RecordBatch:
    import pyarrow as pa

    columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
    return pa.RecordBatch.from_arrays(columns, names=names)


def _walk(root: Path) -> Iterator[tuple[str, str]]:
    """(path from the root, fault or "") of every file, in order of name. Follows no link to a folder."""
    real = os.path.realpath(root)
    stack = [""]
    while stack:
        folder = stack.pop()
        try:
            with os.scandir(root / folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            if not folder:
                raise DataError(f"{root}: {error.strerror or error}") from None
            yield folder, f"cannot be opened ({error.strerror})"
            continue
        deeper = []
        for entry in entries:
            if entry.name.startswith(".") or entry.name.lower() in _LITTER:
                continue
            path = f"{folder}/{entry.name}" if folder else entry.name
            if not entry.is_symlink() and entry.is_dir():
                deeper.append(path)
            else:
                yield path, _fault(entry, real)
        stack += reversed(deeper)


def _fault(entry: os.DirEntry[str], real: str) -> str:
    try:
        entry.name.encode("utf-8")
    except UnicodeEncodeError:
        return "has a name that is not UTF-8"
    if entry.is_symlink():
        target = os.path.realpath(entry.path)
        if os.path.commonpath([real, target]) != real:
            return "is a link that leads outside the folder"
        if os.path.isdir(target):
            return "is a link to a folder"
        if not os.path.exists(target):
            return "is a link to nothing"
    return "" if entry.is_file() else "is not a plain file"


def _layout(root: Path) -> tuple[bool, bool]:
    """Whether the top folders are splits, and whether there are class folders."""
    tops = _folders(root)
    splits = bool(tops) and all(name.lower() in SPLITS for name in tops)
    splits = splits and any(SPLITS[name.lower()] == "train" for name in tops)
    return splits, any(_folders(root / top) for top in tops) if splits else bool(tops)


def _folders(root: Path) -> list[str]:
    try:
        with os.scandir(root) as found:
            return [
                e.name
                for e in found
                if e.is_dir(follow_symlinks=False) and e.name[0] != "." and e.name.lower() not in _LITTER
            ]
    except OSError:
        return []


def _content(path: Path) -> tuple[str, str]:
    """(text, fault) of one text file."""
    from modelworks.sources._text import as_text

    try:
        with path.open("rb") as file:
            data = file.read(_TEXT + 1)
    except OSError as error:
        return "", f"cannot be opened ({error.strerror})"
    if len(data) > _TEXT:
        return "", f"is over {_TEXT >> 20} MB of text"
    text = as_text(data)
    if text is None:
        return "", "is not text"
    return text, "" if text.strip() else "is empty"


def _shown(file: str) -> str:
    return file.encode("utf-8", "replace").decode("utf-8")
