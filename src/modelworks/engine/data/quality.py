"""What is wrong with one document, by counting: the rules of Gopher (Rae et al. 2021, A1.1) and C4, for English
and Chinese.

    fault(text, settings)     # "" or ("repeated lines", 0.42)

A Chinese or Japanese character counts as a word.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelworks.engine.data.corpora import Corpora

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_KANA = "\u3040-\u30ff"
_WORD = re.compile(rf"[{_HAN}{_KANA}]|[^\W{_HAN}{_KANA}]+(?:['’][^\W{_HAN}{_KANA}]+)*")
_SYMBOL = re.compile(r"#|\.\.\.|…|[|{}<>^~\\]")
_BULLET = re.compile(r"\s*[-•*‣●·]")
_STOP = {"the", "be", "to", "of", "and", "that", "have", "with", "is", "are", "was", "in", "it", "for", "on"}
FAULTS = (
    "length",
    "language",
    "symbols",
    "word length",
    "no words",
    "bullets",
    "repeated lines",
    "repeated phrases",
)
"""What can be wrong, in the order in which it is looked for."""


def fault(text: str, settings: Corpora) -> tuple[str, float] | None:
    """The first rule that a document breaks, with what was measured; None where it keeps all."""
    least, most = settings.characters
    if len(text) < least or (most is not None and len(text) > most):
        return "length", float(len(text))
    if settings.languages is None and not settings.quality:
        return None
    words = [found.lower() for found in _WORD.findall(text)]
    if settings.languages is not None:
        spoken = language(text, words)
        if spoken not in settings.languages:
            return "language", 0.0
    return _quality(text, words, settings) if settings.quality else None


def _quality(text: str, words: list[str], settings: Corpora) -> tuple[str, float] | None:
    if not words:
        return "no words", 0.0
    symbols = len(_SYMBOL.findall(text)) / len(words)
    if symbols > settings.symbols:
        return "symbols", symbols
    latin = [word for word in words if len(word) > 1 or word.isascii()]
    if 2 * len(latin) > len(words):  # a language with words of letters
        mean = sum(map(len, latin)) / len(latin)
        if not settings.word_length[0] <= mean <= settings.word_length[1]:
            return "word length", mean
    lettered = sum(any(character.isalpha() for character in word) for word in words) / len(words)
    if lettered < settings.lettered:
        return "no words", lettered
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    bullets = sum(_BULLET.match(line) is not None for line in lines) / len(lines)
    if len(lines) > 3 and bullets > settings.bullets:
        return "bullets", bullets
    repeated = 1 - len(set(lines)) / len(lines)
    if repeated > settings.repeated_lines:
        return "repeated lines", repeated
    phrases = repeated_share(words, settings.phrase)
    if phrases > settings.repeated_phrases:
        return "repeated phrases", phrases
    return None


def repeated_share(words: list[str], size: int) -> float:
    """Share of a document's words that lie in a phrase of `size` words which comes more than once."""
    if len(words) < size:
        return 0.0
    phrases = [tuple(words[at : at + size]) for at in range(len(words) - size + 1)]
    often = Counter(phrases)
    covered = bytearray(len(words))
    for at, phrase in enumerate(phrases):
        if often[phrase] > 1:
            covered[at : at + size] = b"\1" * size
    return sum(covered) / len(words)


def language(text: str, words: list[str] | None = None) -> str:
    """zh, ja, en or other, by script; English also by its commonest words, where there are 20 words to look at."""
    words = [found.lower() for found in _WORD.findall(text)] if words is None else words
    letters = sum(character.isalpha() for character in text)
    if not letters:
        return "other"
    kana = len(re.findall(f"[{_KANA}]", text))
    han = len(re.findall(f"[{_HAN}]", text))
    if kana + han > 0.4 * letters:
        return "ja" if kana > 0.1 * (kana + han) else "zh"
    plain = sum(character.isascii() and character.isalpha() for character in text)
    if plain < 0.9 * letters:
        return "other"
    return "en" if len(words) < 20 or len(_STOP & set(words)) >= 2 else "other"
