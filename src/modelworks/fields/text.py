"""A column of text as tokens: characters, words, byte pairs or bytes. Id 0 pads, id 1 is unknown.

    fields: {review: {kind: text, tokens: word, vocabulary: 30000, length: 200}}

Legend: B rows of a batch, T tokens.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pydantic import Field as Limits
from pydantic import PositiveInt, PrivateAttr

from modelworks.core.errors import DataError, need
from modelworks.core.field import Encoded, Field, Layout
from modelworks.fields._cells import is_text, plain
from modelworks.fields._counts import Counts
from modelworks.fields._sample import Sample

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from modelworks.core.profile import ColumnProfile

_SPECIAL = ("<pad>", "<unk>")
_CAPS = {"char": 512, "word": 1024, "bpe": 256, "byte": 1024}
_LONGEST = 100_000  # characters of one text that are looked at; more than any length keeps
_BPE_CHARACTERS = 50_000_000  # what byte pairs are learned from; more hardly changes the merges
_HAN = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# One Chinese or Japanese character, a word (don't, naïve), one other sign, or the end of the text.
_WORDS = re.compile(rf"[{_HAN}]|[^\W{_HAN}]+(?:['’][^\W{_HAN}]+)*|[^\w\s]|\n")
_BETWEEN_HAN = re.compile(rf"(?<=[{_HAN}]) (?=[{_HAN}])")


class Text(Field):
    """Text as tokens."""

    tokens: Literal["char", "word", "bpe", "byte"] = "word"
    """What a token is. char suits Chinese and Japanese; word splits these into characters too; bpe is
    byte-level byte-pair encoding (Sennrich et al. 2016; extra `text`); byte needs no vocabulary."""
    vocabulary: Annotated[int, Limits(ge=3, le=1_000_000)] = 20_000
    """Most tokens kept, padding and unknown included."""
    min_count: PositiveInt = 2
    """Tokens seen fewer times in training are unknown; where none is seen that often, all are kept."""
    lowercase: bool = True
    """Turn to lower case first."""
    normalise: bool = True
    """Unify the forms of characters first (Unicode NFKC: full-width letters become plain)."""
    length: PositiveInt | None = None
    """Most tokens of a text; the rest is cut and counted. None: the 99th percentile of training, at most 512
    characters, 1,024 words, 256 pairs, 1,024 bytes."""
    missing: Literal["keep", "quarantine"] = "keep"
    """A missing or empty text: one unknown token, or its row is left out and counted."""

    _cut: Any = PrivateAttr(default=None)

    # ------------------------------------------------------------------ inference of intent
    @classmethod
    def recognise(cls, profile: ColumnProfile) -> float:
        from modelworks.fields._looks import HOPELESS, distinct_share, hopeless, is_opaque

        if (
            not profile.present
            or is_opaque(profile)
            or "string" not in profile.type
            or (profile.type.startswith(("list", "large_list", "struct")))
        ):
            return 0.0
        if hopeless(profile):
            return HOPELESS
        if profile.share(profile.numeric) >= 0.8 or profile.share(profile.dates) >= 0.8:
            return 0.1
        share = distinct_share(profile)
        if profile.mean_length > 100:
            return 0.9 if share > 0.01 else 0.3
        if share <= 0.05:
            return 0.1
        if profile.cjk > 0.3:
            return 0.9 if profile.mean_length >= 6 else 0.5
        if profile.mean_words >= 4:
            return 0.9
        if profile.mean_words >= 2:
            return 0.8 if share > 0.3 else 0.3
        return 0.5 if share > 0.5 and profile.share(profile.numeric) < 0.3 else 0.2

    @classmethod
    def propose(cls, profile: ColumnProfile, target: bool = False) -> dict[str, Any]:
        # Single words (names, formulas, sequences) say more by their letters than by a code for the whole.
        return {"tokens": "char", "min_count": 1} if profile.cjk > 0.2 or profile.mean_words < 1.5 else {}

    # ------------------------------------------------------------------ learning
    def fit(self, chunks: Iterable[pa.Array], root: Path | None = None) -> Text:
        if self.tokens == "bpe":
            return self._fit_bpe(chunks)
        counts, lengths = Counts(), Sample()
        for chunk in chunks:
            texts, _, _ = self._clean(chunk, _LONGEST)
            texts = texts.filter(pc.greater(pc.binary_length(texts), 0))
            found, lengths_B = _count(texts, self.tokens)
            counts.add(found)
            lengths.add(lengths_B)
        if not len(lengths.values):
            raise DataError("no text in the training split", "leave this column out")
        state: dict[str, Any] = {"length": self._length(lengths.values)}
        if self.tokens != "byte":
            least = self.min_count if max(counts.counter.values(), default=0) >= self.min_count else 1
            state["vocabulary"] = [*_SPECIAL, *counts.frequent(least, self.vocabulary - 2)]
        return self.with_state(state)

    def _fit_bpe(self, chunks: Iterable[pa.Array]) -> Text:
        tokenizers = need("tokenizers", "text", "tokens: bpe")
        lengths, texts = Sample(), Sample(limit=20_000)

        def stream() -> Iterable[list[str]]:
            characters = 0
            for chunk in chunks:
                column, _, _ = self._clean(chunk, _LONGEST)
                column = column.filter(pc.greater(pc.binary_length(column), 0))
                texts.add(pc.utf8_slice_codeunits(column, 0, 20_000).to_numpy(zero_copy_only=False))
                if characters < _BPE_CHARACTERS:
                    characters += pc.sum(pc.utf8_length(column)).as_py() or 0
                    yield column.to_pylist()

        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token=_SPECIAL[1]))
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=self.vocabulary,
            min_frequency=self.min_count,
            special_tokens=list(_SPECIAL),
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(stream(), trainer)
        if not len(texts.values):
            raise DataError("no text in the training split", "leave this column out")
        for start in range(0, len(texts.values), 1000):
            some = tokenizer.encode_batch(
                texts.values[start : start + 1000].tolist(), add_special_tokens=False
            )
            lengths.add(np.array([len(one.ids) for one in some]))
        return self.with_state(
            {
                "length": self._length(lengths.values),
                "tokenizer": tokenizer.to_str(),
                "size": tokenizer.get_vocab_size(),
            }
        )

    def _length(self, lengths: np.ndarray) -> int:
        return self.length or max(1, min(int(np.ceil(np.quantile(lengths, 0.99))), _CAPS[self.tokens]))

    def with_state(self, state: Mapping[str, Any]) -> Text:
        copy = super().with_state(state)
        copy._cut = None
        return copy

    # ------------------------------------------------------------------ the modality
    @property
    def layout(self) -> Layout:
        return Layout("tokens", size=self._size, length=self._state["length"])

    @property
    def _size(self) -> int:
        if self.tokens == "byte":
            return 258
        return self._state["size"] if self.tokens == "bpe" else len(self._state["vocabulary"])

    def encode(self, column: pa.Array, root: Path | None = None) -> Encoded:
        if self._cut is None:
            self._cut = _tokenizer(self.tokens, self._state)
        length = self._state["length"]
        texts, cut, bad = self._clean(column, max(20_000, 64 * length))
        tokens, lengths_B = self._cut(texts)
        starts = np.cumsum(lengths_B) - lengths_B
        long = np.flatnonzero((lengths_B > length) | (cut & (lengths_B >= length)))
        if len(long):
            kept_B = np.minimum(lengths_B, length)
            inside = np.arange(len(tokens)) - np.repeat(starts, lengths_B) < length
            tokens, lengths_B = tokens[inside], kept_B
            starts = np.cumsum(lengths_B) - lengths_B
        empty = np.flatnonzero(lengths_B == 0)
        if len(empty):
            tokens, lengths_B = np.insert(tokens, starts[empty], 1), np.maximum(lengths_B, 1)
        changed = {"truncated": long} if len(long) else {}
        empty = np.array([row for row in empty.tolist() if row not in bad], np.int64)
        if self.missing == "quarantine":
            bad |= dict.fromkeys(empty.tolist(), "empty text")
        elif len(empty):
            changed["empty text"] = empty
        dtype = np.uint16 if self._size < 65_536 else np.int32
        return Encoded(tokens.astype(dtype), lengths_B.astype(np.int64), bad=bad, changed=changed)

    def contract(self) -> dict[str, Any]:
        length = self._state["length"]
        return {
            "tokens": self.tokens,
            "characters": max(20_000, 64 * length),
            "nfkc": self.normalise,
            "lowercase": self.lowercase,
            "trim": True,
            "length": length,
            "pattern": _WORDS.pattern if self.tokens == "word" else None,
            "vocabulary": self._state.get("vocabulary"),
            "tokenizer": self._state.get("tokenizer"),
            "unknown": 1,
            "first": 2,
            "end": -1,
            "empty": 1 if self.missing == "keep" else "refuse",
        }

    def decode(self, values: np.ndarray | Sequence[np.ndarray]) -> list[str]:
        """Rows of ids (padded or not) → texts; padding is left out."""
        rows = [[int(token) for token in np.asarray(row).reshape(-1) if token > 0] for row in values]
        if self.tokens == "byte":
            return [bytes(t - 2 for t in row if t > 1).decode("utf-8", "replace") for row in rows]
        if self.tokens == "bpe":
            tokenizers = need("tokenizers", "text", "tokens: bpe")
            return tokenizers.Tokenizer.from_str(self._state["tokenizer"]).decode_batch(rows)
        names = [*self._state["vocabulary"]]
        names[1] = "\ufffd"
        texts = [("" if self.tokens == "char" else " ").join(names[token] for token in row) for row in rows]
        return texts if self.tokens == "char" else [_BETWEEN_HAN.sub("", text) for text in texts]

    def prepare(self, values: Tensor) -> Tensor:
        return values.to(torch.int64)

    def _clean(self, column: pa.Array, longest: int) -> tuple[pa.Array, np.ndarray, dict[int, str]]:
        """(texts with "" where missing, which were cut at `longest` characters, bad rows)."""
        column = plain(column)
        kind, bad = column.type, {}
        if pa.types.is_binary(kind):
            column = pa.array(
                [v if v is None else v.decode("utf-8", "replace") for v in column.to_pylist()], pa.string()
            )
        elif not is_text(kind):
            if pa.types.is_nested(kind) or isinstance(column, pa.ExtensionArray):
                there = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
                bad = dict.fromkeys(there.tolist(), f"wants text, got {kind}")
                column = pa.nulls(len(column), pa.string())
            else:
                column = pc.if_else(
                    column.is_null(nan_is_null=pa.types.is_floating(kind)), None, column.cast(pa.string())
                )
        texts = pc.fill_null(column, "")
        # A character takes at most 4 bytes, so a column of short texts needs no count of its characters.
        cut = np.zeros(len(texts), bool)
        if len(texts) and (pc.max(pc.binary_length(texts)).as_py() or 0) > longest:
            cut = pc.greater(pc.utf8_length(texts), longest).to_numpy(zero_copy_only=False)
            texts = pc.utf8_slice_codeunits(texts, 0, longest)
        if self.normalise:
            texts = pc.utf8_normalize(texts, form="NFKC")
        texts = pc.utf8_lower(texts) if self.lowercase else texts
        return pc.utf8_trim_whitespace(texts), cut, bad


# ------------------------------------------------------------------------------------------- tokens
Cut = Callable[[pa.Array], tuple[np.ndarray, np.ndarray]]
"""Clean texts → (all ids end to end, number of each text's ids)."""


def _tokenizer(tokens: str, state: Mapping[str, Any]) -> Cut:
    if tokens == "byte":
        return _bytes
    if tokens == "bpe":
        tokenizer = need("tokenizers", "text", "tokens: bpe").Tokenizer.from_str(state["tokenizer"])
        return lambda texts: _pairs(texts, tokenizer)
    if tokens == "char":
        table = np.ones(0x110000, np.int32)
        for code, name in enumerate(state["vocabulary"][2:], 2):
            table[ord(name)] = code
        return lambda texts: (table[_points(texts)], pc.utf8_length(texts).to_numpy(zero_copy_only=False))
    codes = {name: code for code, name in enumerate(state["vocabulary"][2:], 2)}
    codes["\n"] = -1
    return lambda texts: _words(texts, codes)


def _count(texts: pa.Array, tokens: str) -> tuple[dict[str, int], np.ndarray]:
    """(how often each token comes, tokens of each text)."""
    if tokens == "byte":
        return {}, pc.binary_length(texts).to_numpy(zero_copy_only=False)
    if tokens == "char":
        counts = np.bincount(_points(texts))
        lengths = pc.utf8_length(texts).to_numpy(zero_copy_only=False)
        return {chr(point): int(counts[point]) for point in np.flatnonzero(counts)}, lengths
    counter, lengths = Counter(), []
    for start in range(0, len(texts), 1024):
        found = _split(texts[start : start + 1024])
        counter.update(found)
        ends = np.fromiter((at for at, word in enumerate(found) if word == "\n"), np.int64)
        lengths.append(np.diff(ends, prepend=-1) - 1)
    counter.pop("\n", None)
    return counter, np.concatenate(lengths) if lengths else np.zeros(0, np.int64)


def _points(texts: pa.Array) -> np.ndarray:
    """The code points of all texts end to end. uint32."""
    joined = b"".join(_buffer(texts)).decode("utf-8")
    return np.frombuffer(joined.encode("utf-32-le"), np.uint32)


def _buffer(texts: pa.Array) -> list[memoryview]:
    """The bytes of a plain string column, without a copy."""
    if not len(texts):
        return []
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return [memoryview(data)[ends[0] : ends[-1]]] if data is not None else []


def _bytes(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    data = np.frombuffer(b"".join(_buffer(texts)), np.uint8)
    return data.astype(np.int32) + 2, pc.binary_length(texts).to_numpy(zero_copy_only=False).astype(np.int64)


def _split(texts: pa.Array) -> list[str]:
    """The words of some texts, each text's followed by a line break."""
    lines = [text.replace("\n", " ") if "\n" in text else text for text in texts.to_pylist()]
    return _WORDS.findall("\n".join([*lines, ""]))


def _words(texts: pa.Array, codes: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    pieces, lengths = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)]
    for start in range(0, len(texts), 1024):
        found = _split(texts[start : start + 1024])
        ids = np.fromiter((codes.get(word, 1) for word in found), np.int32, len(found))
        ends = np.flatnonzero(ids == -1)
        pieces.append(ids[ids != -1])
        lengths.append(np.diff(ends, prepend=-1) - 1)
    return np.concatenate(pieces), np.concatenate(lengths)


def _pairs(texts: pa.Array, tokenizer: Any) -> tuple[np.ndarray, np.ndarray]:
    pieces, lengths = [], []
    for start in range(0, len(texts), 1024):
        for one in tokenizer.encode_batch(texts[start : start + 1024].to_pylist(), add_special_tokens=False):
            pieces.append(np.array(one.ids, np.int32))
            lengths.append(len(one.ids))
    return np.concatenate([np.zeros(0, np.int32), *pieces]), np.array(lengths, np.int64)
