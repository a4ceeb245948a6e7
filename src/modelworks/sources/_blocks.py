"""A text as consecutive pieces that end at line ends and, joined, are the whole text again.

    for text in blocks(utf8(chunks(path), encoding), 4096, path.name, quarantine): ...

Memory is bounded by the size of what is read at once and of one piece, whatever the file's.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from modelworks.sources._files import CutShort
from modelworks.sources._text import BAD

if TYPE_CHECKING:
    from modelworks.core.source import Quarantine


def blocks(data: Iterable[bytes], size: int, name: str, quarantine: Quarantine) -> Iterator[str]:
    """Pieces of at most `size` characters from UTF-8; lines with bytes that are no text are quarantined."""
    line = 1
    try:
        for piece in _pieces(data, size):
            kept = _kept(piece, line, name, quarantine)
            if kept:
                yield kept
            line += piece.count("\n")
    except CutShort as error:
        quarantine.add(f"{name} line {line}", f"{error}: all after it is lost", kind="file cut short")


def _pieces(data: Iterable[bytes], size: int) -> Iterator[str]:
    """CutShort passes through after all the text that came before it."""
    decoder = codecs.getincrementaldecoder("utf-8")("modelworks.mark")
    held = ""
    cut_short: CutShort | None = None
    source = iter(data)
    while True:
        try:
            block = next(source, None)
        except CutShort as error:
            block, cut_short = None, error
        held += decoder.decode(block or b"", block is None)
        start = 0
        # A piece is given out once the text goes on behind it, so that the same bytes are cut in the same
        # places however they are read.
        while len(held) - start > size:
            end = held.rfind("\n", start, start + size) + 1 or start + size
            yield held[start:end]
            start = end
        held = held[start:]
        if block is None:
            break
    if held:
        yield held
    if cut_short:
        raise cut_short


def _kept(piece: str, line: int, name: str, quarantine: Quarantine) -> str:
    if BAD not in piece:
        return piece
    kept = []
    for number, text in enumerate(re.split(r"(?<=\n)", piece), line):
        if BAD in text:
            reason = "bytes that are no text in this encoding"
            quarantine.add(f"{name} line {number}", reason, ascii(text[:200]))
        else:
            kept.append(text)
    return "".join(kept)
