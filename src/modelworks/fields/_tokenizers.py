"""Subword tokenizers: learning one from texts, and how many bytes of text each of its tokens stands for.

    json = learn("bpe", rows, 8192, ["<pad>", "<|endoftext|>"])
    Subwords(json).encode(texts)

byte pairs  byte-level (Radford et al. 2019), with GPT-2's pre-tokenisation, which every runtime knows
unigram     of characters (Kudo 2018), spaces among them; rare characters are written as bytes
word pieces BERT's (Devlin et al. 2019), case kept: spaces are normalised, rare characters are unknown

All of it is by the tokenizers library (extra `text`); its JSON is what Hugging Face calls tokenizer.json.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from modelworks.core.errors import UserError, need

HAN = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
RUN = 4
"""Most Chinese or Japanese characters that are learned from together. GPT-2's rule takes a whole clause for one
word, and learning would hold every clause there is. In use, words are GPT-2's. People's Daily, 8,000 tokens,
characters a token: 1.02 (1 together), 1.36 (2), 1.43 (4), 1.45 (8), 1.45 (GPT-2's) at 2, 4, 5 and 10 times the
time and memory of 1."""
_PIECES = rf"[{HAN}]{{1,{RUN}}}|[^\s{HAN}]{{64}}"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_CUT = re.compile(r"(?<=\S)(?=[ \n\r\t])")
LONGEST = 50_000
"""Characters beyond which a text is cut for encoding, where byte-level pre-tokenisation cuts it anyway."""
_BATCH = 512
_BESIDE_HAN = re.compile(rf"(?<=[{HAN}\u3000-\u303f\uff00-\uffef]) | (?=[{HAN}\u3000-\u303f\uff00-\uffef])")


def learn(kind: str, texts: Sequence[Sequence[str]], vocabulary: int, specials: Sequence[str]) -> str:
    """A tokenizer's JSON; the special tokens get the first ids, in this order."""
    library = need("tokenizers", "text", f"tokens: {kind}")
    pre, models, trainers = library.pre_tokenizers, library.models, library.trainers
    common: dict[str, Any] = {
        "vocab_size": vocabulary,
        "special_tokens": list(specials),
        "show_progress": False,
    }
    if kind == "wordpiece":
        return _word_pieces(library, texts, vocabulary, specials)
    pieces = pre.Split(library.Regex(_PIECES), "isolated")
    if kind == "unigram":
        words = pre.Split(library.Regex(_GPT2), "isolated")
        tokenizer = library.Tokenizer(models.Unigram())
        common["vocab_size"] = vocabulary - 256
        trainer = trainers.UnigramTrainer(
            **common, unk_token=specials[1], initial_alphabet=sorted(set("<0x123456789ABCDEF>"))
        )
        tokenizer.pre_tokenizer = pre.Sequence([pieces, words])
        tokenizer.train_from_iterator(texts, trainer)
        tokenizer.pre_tokenizer = words
        return _with_bytes(json.loads(tokenizer.to_str()))
    words = pre.ByteLevel(add_prefix_space=False)
    tokenizer = library.Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(**common, min_frequency=2, initial_alphabet=pre.ByteLevel.alphabet())
    tokenizer.pre_tokenizer = pre.Sequence([pieces, words])
    tokenizer.decoder = library.decoders.ByteLevel()
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.pre_tokenizer = words
    return tokenizer.to_str()


def _word_pieces(
    library: Any, texts: Sequence[Sequence[str]], vocabulary: int, specials: Sequence[str]
) -> str:
    """BERT's tokenizer. The trainer numbers what it meets in the order of a hash table; so that two trainings
    agree, the characters and their forms within words are numbered here."""
    counts = Counter()
    for sheet in texts:
        for text in sheet:
            counts.update(unicodedata.normalize("NFC", text))
    # A quarter at least is left for pieces of several characters.
    known = sorted(counts, key=lambda one: (-counts[one], one))
    known = sorted(known[: max(1, vocabulary * 3 // 4 - len(specials))])
    within = ["##" + one for one in known if one.isalnum() and not _is_han(one)]
    trainer = library.trainers.WordPieceTrainer(
        vocab_size=max(vocabulary, len(specials) + len(within) + len(known)),
        special_tokens=[*specials, *within],
        initial_alphabet=known,
        limit_alphabet=len(known),
        show_progress=False,
    )
    tokenizer = library.Tokenizer(
        library.models.WordPiece(unk_token=specials[1], max_input_chars_per_word=100)
    )
    tokenizer.normalizer = library.normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = library.decoders.WordPiece(cleanup=True)
    tokenizer.train_from_iterator(texts, trainer)
    tree = json.loads(tokenizer.to_str())
    tree["added_tokens"] = tree["added_tokens"][: len(specials)]
    return json.dumps(tree, ensure_ascii=False)


def _with_bytes(tree: Any) -> str:
    """A unigram tokenizer that writes characters it has not learned as bytes, so that nothing is unknown."""
    model = tree["model"]
    # A byte is never a better reading of the text "<0x41>" than its characters, which are all known.
    kept = len(tree["added_tokens"])
    learned = [[piece, round(score, 6)] for piece, score in model["vocab"] if not _BYTE.fullmatch(piece)]
    # Scores are sums in no fixed order: their last digits differ from one training to the next.
    learned[kept:] = sorted(learned[kept:], key=lambda pair: (-pair[1], pair[0]))
    least = min(score for _, score in learned)
    model["vocab"] = [*learned, *([f"<0x{byte:02X}>", 20 * least - 1000] for byte in range(256))]
    model["byte_fallback"] = True
    tree["decoder"] = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]}
    return json.dumps(tree, ensure_ascii=False)


def load(text: str, where: str = "tokenizer") -> Any:
    """A tokenizer from its JSON; UserError in one line where it is none."""
    library = need("tokenizers", "text", "a tokenizer file")
    try:
        tokenizer = library.Tokenizer.from_str(text)
    except Exception as error:  # the library raises plain Exception
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UserError(f"{where}: is no tokenizer.json: {reason}") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


class Subwords:
    """A tokenizer in use: plain text, and text in which special tokens are written out."""

    def __init__(self, text: str) -> None:
        self._plain, self._special = load(text), load(text)
        self._plain.encode_special_tokens = True
        # As the library writes it: a file of others may leave out what it has nothing to say of.
        tree = json.loads(self._special.to_str())
        self.size = max(self._plain.get_vocab().values(), default=-1) + 1
        self.specials = {one["content"]: one["id"] for one in tree["added_tokens"] if one["special"]}
        model = tree["model"]
        unknown = model.get("unk_token") or _at(model.get("vocab"), model.get("unk_id"))
        self.unknown: int = -1 if unknown is None else (self._plain.token_to_id(unknown) or 0)
        """Id of what the vocabulary cannot write; -1 where there is nothing such."""
        self._byte_level = _is_byte_level(tree)
        self._word_pieces = model["type"] == "WordPiece"
        self._lower_bar = "\u2581" in json.dumps([tree["normalizer"], tree["decoder"]], ensure_ascii=False)
        self.tree = tree

    def ids(self, text: str, special: bool = False) -> list[int]:
        """One text's ids; `special`: special tokens written in it count as such."""
        with _sound():
            return (self._special if special else self._plain).encode(text, add_special_tokens=False).ids

    def encode(self, texts: Sequence[str], special: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """(all ids end to end int32, number of each text's ids int64)."""
        tokenizer = self._special if special else self._plain
        pieces, owners = self._cut(texts)
        found, lengths = [np.zeros(0, np.int32)], np.zeros(len(texts), np.int64)
        for start in range(0, len(pieces), _BATCH):
            with _sound():
                batch = tokenizer.encode_batch_fast(pieces[start : start + _BATCH], add_special_tokens=False)
            for owner, one in zip(owners[start : start + _BATCH], batch, strict=True):
                ids = np.array(one.ids, np.int32)
                found.append(ids)
                lengths[owner] += len(ids)
        return np.concatenate(found), lengths

    def begin(self) -> int:
        """The token that the file itself puts before a text; −1 where there is none."""
        plain, whole = (self._special.encode("a", add_special_tokens=added).ids for added in (False, True))
        return whole[0] if whole[:1] != plain[:1] else -1

    def _cut(self, texts: Sequence[str]) -> tuple[Sequence[str], Sequence[int]]:
        """Long texts in several pieces, where that changes no token: no word goes on over a space."""
        if not self._byte_level or not any(len(text) > LONGEST for text in texts):
            return texts, range(len(texts))
        pieces, owners = [], []
        for owner, text in enumerate(texts):
            start = 0
            while len(text) - start > LONGEST:
                place = _CUT.search(text, start + LONGEST)
                if place is None:
                    break
                pieces.append(text[start : place.start()])
                owners.append(owner)
                start = place.start()
            pieces.append(text[start:])
            owners.append(owner)
        return pieces, owners

    def decode(self, rows: Sequence[Sequence[int]], special: bool = False) -> list[str]:
        """Texts; special tokens are left out, or written out."""
        with _sound():
            texts = self._plain.decode_batch([list(row) for row in rows], skip_special_tokens=not special)
        # Word pieces know no spaces; between Chinese characters there were none.
        return [_BESIDE_HAN.sub("", text) for text in texts] if self._word_pieces else texts

    def bytes(self) -> np.ndarray:
        """UTF-8 bytes of text that each token stands for, 0 for special ones. int32 (V,).

        Exact where tokens keep every byte. Word pieces: a word that letters begin counts its space."""
        sizes = np.zeros(self.size, np.int32)
        added = {one["id"]: one for one in self.tree["added_tokens"]}
        for token, code in self._plain.get_vocab().items():
            if code in added:
                sizes[code] = 0 if added[code]["special"] else len(added[code]["content"].encode())
            elif self._byte_level:
                sizes[code] = len(token)
            elif _BYTE.fullmatch(token):
                sizes[code] = 1
            elif self._word_pieces:
                more = 0 if token.startswith("##") or not token[:1].isalnum() or _is_han(token[0]) else 1
                sizes[code] = len(token.removeprefix("##").encode()) + more
            else:
                sizes[code] = len((token.replace("\u2581", " ") if self._lower_bar else token).encode())
        if self.unknown >= 0:
            sizes[self.unknown] = 0
        return sizes


@contextmanager
def _sound() -> Iterator[None]:
    """A tokenizer of others may hold a regular expression that some text makes explode: the library gives up on it
    by a panic, which is no Exception."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        reason = str(error).splitlines()[0][:200]
        raise UserError(
            f"the tokenizer breaks down on this text: {reason}",
            "a regular expression of its pre-tokenizer is at fault: take another tokenizer.json",
        ) from None


def _at(vocabulary: Any, index: Any) -> str | None:
    """Unigram names its unknown token by its place."""
    return vocabulary[index][0] if isinstance(index, int) and isinstance(vocabulary, list) else None


def _is_han(character: str) -> bool:
    return re.match(f"[{HAN}]", character) is not None


def _is_byte_level(tree: Any) -> bool:
    """Whether tokens are written in GPT-2's 256 letters for bytes."""
    decoder = tree.get("decoder") or {}
    kinds = [decoder.get("type"), *(one.get("type") for one in decoder.get("decoders", []))]
    return "ByteLevel" in kinds
