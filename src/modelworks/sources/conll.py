"""Sentences with a tag a token, in columns (CoNLL 2003 and its like): `data: news.conll`, or a folder of such files.

    EU       B-ORG
    rejects  O
    ⏎                        a blank line ends a sentence

Each sentence is a row with the lists `tokens` and `tags`. A folder's files are splits by their names: train, dev or
valid, test. A sentence with a line that lacks a tag goes to the quarantine as a whole, with that line's number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from modelworks.core.errors import DataError, UserError
from modelworks.core.source import Quarantine, Source

if TYPE_CHECKING:
    import pyarrow as pa

_ENDINGS = (".conll", ".conll03", ".bio", ".iob", ".iob2", ".bmes", ".bioes")
_SPLITS = {
    "train": "train",
    "dev": "valid",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "test": "test",
}


class Conll(Source):
    """Tokens and their tags, a line each."""

    suffixes: ClassVar[tuple[str, ...]] = (*_ENDINGS, *(f"{ending}.gz" for ending in _ENDINGS))

    path: Path
    """The file (gzip is recognised by content), or a folder of train, dev or valid, and test."""
    token: int = 0
    """Which column is the token, from 0; −1 is the last."""
    tag: int = -1
    """Which column is the tag."""
    placed: bool = False
    """Each token ends with a digit, its place in its word, which is taken off (Weibo NER)."""
    encoding: str | None = None
    """Text encoding; found out when not given."""

    def read(self, quarantine: Quarantine) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        from modelworks.sources._files import ROWS

        tokens: list[list[str]] = []
        tags: list[list[str]] = []
        files = self._files()
        given = 0
        for path, split in files:
            for words, labels in self._sentences(path, quarantine):
                tokens.append(words)
                tags.append(labels)
                if len(tokens) == ROWS:
                    given += len(tokens)
                    yield _batch(pa, tokens, tags, split)
                    tokens, tags = [], []
            if tokens:
                given += len(tokens)
                yield _batch(pa, tokens, tags, split)
                tokens, tags = [], []
        if not given:
            raise DataError(
                f"{self.path}: no sentence with tags",
                "a token and its tag a line, a blank line between sentences",
            )

    def _files(self) -> list[tuple[Path, str]]:
        """(file, its split or nothing)."""
        from modelworks.sources._files import located

        folder = self.path.expanduser()
        if not folder.is_dir():
            return [(located(self.path), "")]
        found: dict[str, Path] = {}
        for path in sorted(folder.iterdir()):
            name = re.split(r"[._-]", path.name.lower())
            splits = {_SPLITS[part] for part in name if part in _SPLITS}
            if len(splits) != 1 or not path.is_file() or not path.name.lower().endswith(self.suffixes):
                continue
            split = splits.pop()
            if split in found:
                raise UserError(f"{folder}: both {found[split].name} and {path.name} are of split {split}")
            found[split] = path
        if "train" not in found:
            raise UserError(
                f"{self.path}: has no file of training sentences", "train.conll, dev.conll, test.conll"
            )
        return [(found[split], split) for split in ("train", "valid", "test") if split in found]

    def _sentences(self, path: Path, quarantine: Quarantine) -> Iterator[tuple[list[str], list[str]]]:
        from modelworks.sources._files import CutShort, chunks, head, lines, refuse_binary
        from modelworks.sources._text import detect, known, utf8

        refuse_binary(path, head(path, 4096))
        encoding = known(self.encoding) if self.encoding else detect(path)
        words: list[str] = []
        labels: list[str] = []
        wrong, number = "", 0
        rows = 0

        def finish(line: int) -> bool:
            nonlocal wrong, rows
            good = bool(words) and not wrong
            if wrong:
                where = f"{path.name} sentence before line {line}"
                quarantine.add(where, wrong, " ".join(words)[:500], "no token and tag in a line", at=rows)
            rows += good
            wrong = ""
            return good

        try:
            for number, line in lines(utf8(chunks(path), encoding)):
                text = None if line is None else line.decode("utf-8", "replace")
                if text is not None and not text.strip():
                    if finish(number):
                        yield words, labels
                    words, labels = [], []
                    continue
                if text is not None and text.startswith(("# ", "-DOCSTART-")):
                    continue
                cells = [] if text is None else text.split("\t") if "\t" in text else text.split()
                try:
                    word, label = cells[self.token].strip(), cells[self.tag].strip()
                except IndexError:
                    word = label = ""
                if self.placed and word[-1:].isdigit():
                    word = word[:-1]
                if len(cells) < 2 or not word or not label:
                    wrong = wrong or f"line {number} has no token and tag: {(text or '')[:80]!r}"
                    continue
                words.append(word)
                labels.append(label)
        except CutShort as error:
            where = f"{path.name} line {number + 1}"
            quarantine.add(where, f"{error}: this line and all after it are lost", kind="file cut short")
        if finish(number + 1):
            yield words, labels

    def fingerprint(self) -> str:
        import hashlib

        from modelworks.sources._files import sha256

        digest = hashlib.sha256()
        for path, split in self._files():
            digest.update(f"{split} {sha256(path, self)}".encode())
        return digest.hexdigest()


def _batch(pa, tokens: list[list[str]], tags: list[list[str]], split: str) -> pa.RecordBatch:  # type: ignore[no-untyped-def]
    columns = {
        "tokens": pa.array(tokens, pa.list_(pa.string())),
        "tags": pa.array(tags, pa.list_(pa.string())),
    }
    if split:
        columns["split"] = pa.array([split] * len(tokens), pa.string())
    return pa.record_batch(columns)
