"""Text encodings: which one a file is in, and its content as UTF-8.

    encoding = detect(path)
    for block in utf8(chunks(path), encoding): ...

Bytes that are not text in that encoding come out as bytes that are not UTF-8 either, so that the row that
holds them can be found and quarantined; the rest of the file stays readable.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from modelworks.core.errors import UserError
from modelworks.sources._files import CutShort, chunks

_SAMPLE = 1 << 20
_SEARCH = 256 << 20  # bytes of plain ASCII after which nothing else is expected
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
BAD = "\udcff"
"""Stands for a byte that could not be decoded; as UTF-8 with `surrogatepass` it is invalid, on purpose."""


def _mark(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return BAD, error.end


codecs.register_error("modelworks.mark", _mark)


def known(encoding: str) -> str:
    """The codec's own name; UserError when there is none such."""
    try:
        if not codecs.lookup(encoding)._is_text_encoding:
            raise LookupError
    except (LookupError, ValueError):
        raise UserError(
            f"encoding: there is no {encoding!r}", "utf-8, utf-16, gb18030, big5, latin-1 …"
        ) from None
    return encoding


def detect(path: Path) -> str:
    """utf-8, utf-8-sig, utf-16, utf-32, gb18030 or, when nothing else fits, latin-1."""
    start, total = b"", 0
    try:
        for block in chunks(path):
            if not total:
                for bom, name in _BOMS:
                    if block.startswith(bom):
                        return name
                if name := _wide(block[:4096]):
                    return name
            total += len(block)
            if not block.isascii():
                # Judge whole lines from the first one that is not plain ASCII.
                start = block[:_SAMPLE]
                break
            if total > _SEARCH:
                break
    except CutShort:
        pass
    return guess(start)


def guess(sample: bytes) -> str:
    """The encoding of some bytes that have no mark at their start."""
    cut = sample.rfind(b"\n")
    sample = sample[: cut + 1] if cut >= 0 and len(sample) >= _SAMPLE // 4 else sample
    if sample.isascii():
        return "utf-8"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
        return "utf-8"
    except UnicodeDecodeError:
        pass
    # A few damaged characters do not make a UTF-8 file another encoding's.
    marked = sample.decode("utf-8", "modelworks.mark")
    bad = marked.count(BAD)
    good = len(re.findall(r"[^\x00-\x7f\udcff]", marked))
    if good >= 10 * bad:
        return "utf-8"
    # Chinese comes in pairs of high bytes; western accents come alone between letters.
    runs = re.findall(rb"[\x80-\xff]+", sample)
    paired = sum(len(run) % 2 == 0 for run in runs)
    if paired >= 0.8 * len(runs):
        decoded = sample.decode("gb18030", "modelworks.mark")
        if decoded.count(BAD) * 50 <= len(decoded):
            return "gb18030"
    return "utf-8" if good >= bad else "latin-1"


def _wide(start: bytes) -> str:
    """UTF-16 without a mark: every second byte of western text is NUL."""
    if len(start) < 4 or start.count(0) < len(start) * 0.3:
        return ""
    odd, even = start[1::2].count(0), start[0::2].count(0)
    if odd > 20 * even and odd > len(start) * 0.3:
        return "utf-16-le"
    return "utf-16-be" if even > 20 * odd and even > len(start) * 0.3 else ""


def utf8(blocks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """The content as UTF-8 without a mark at its start; what cannot be decoded stays invalid."""
    name = codecs.lookup(encoding).name
    if name in ("utf-8", "ascii", "utf-8-sig"):
        first = True
        for block in blocks:
            yield block.removeprefix(codecs.BOM_UTF8) if first else block
            first = False
        return
    decoder = codecs.getincrementaldecoder(name)("modelworks.mark")
    for block in blocks:
        yield decoder.decode(block).encode("utf-8", "surrogatepass")
    yield decoder.decode(b"", True).encode("utf-8", "surrogatepass")


def as_text(data: bytes, encoding: str | None = None) -> str | None:
    """The text of some bytes, or None when they are not text."""
    name = encoding or next((name for bom, name in _BOMS if data.startswith(bom)), "") or _wide(data[:4096])
    try:
        text = data.decode(name or guess(data))
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text.removeprefix("\ufeff")
