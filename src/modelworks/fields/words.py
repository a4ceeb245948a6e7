"""A column of texts cut into words, for tasks that say something of each: a list a row, or text that is cut here.

    fields: {tokens: {kind: words, tokens: wordpiece, vocabulary: 8000}}

Each word is one token, or several pieces of which only the first counts as the word: `state["joins"]` says of every
token whether it goes on with the word before it, so that a task finds the words again. Id 0 pads.
V tokens of the vocabulary.
"""

from __future__ import annotations

import heapq
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field as Limits
from pydantic import PositiveInt, PrivateAttr, model_validator

from modelworks.core.errors import DataError, UserError, need
from modelworks.core.field import Encoded, Field, Layout
from modelworks.fields._cells import plain, shown, to_python
from modelworks.fields._counts import Counts
from modelworks.fields._tokenizers import learn, load

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from modelworks.core.profile import ColumnProfile

_PAD, _UNKNOWN = "<pad>", "<unk>"
_LARGEST = 1000
_NAMES = {"tokens", "words", "chars", "characters", "sentence"}
_WORD = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")
_OF_CORPUS = {"char": "word", "wordpiece": "wordpiece", "bpe": "bpe", "file": "file"}
"""Tokens of a corpus → what they are here."""
_CJK = re.compile("[\u3040-\u30ff\u3400-\u9fff]")


class Words(Field):
    """Words, or characters, one after another."""

    adopts: ClassVar[tuple[str, ...]] = ("corpus",)

    tokens: Literal["word", "wordpiece", "bpe", "file"] = "word"
    """What a token is: a word; a piece of one, learned here (both pieces, extra `text`); or as the tokenizer of
    `tokenizer` says. A model that training starts from brings its own; its characters are words of one character."""
    vocabulary: Annotated[int, Limits(ge=3, le=1_000_000)] = 20_000
    """Most tokens kept, padding and unknown included."""
    min_count: PositiveInt = 1
    """tokens: word: those seen fewer times in training are unknown."""
    lowercase: bool = False
    """Turn to lower case first; a tokenizer file does so itself, if it should."""
    cut: Literal["char", "word"] | None = None
    """How a plain text is cut: every character, spaces too, or words and signs. None: as the lists of training, or
    characters where it is mostly Chinese or Japanese."""
    length: PositiveInt | None = None
    """Most tokens of a row; the words beyond are cut off and counted. None: the longest of training, at most 512."""
    tokenizer: Path | None = None
    """tokens: file only: a tokenizer.json. It is stored with the Run."""
    wrap: bool = False
    """tokens: file only: put [CLS] before and [SEP] after, as BERT was trained with."""

    _tool: Any = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _whole(self) -> Words:
        if (self.tokens == "file") != (self.tokenizer is not None):
            raise ValueError("`tokens: file` and `tokenizer: PATH` go together")
        if self.wrap and self.tokens != "file":
            raise ValueError("wrap: is for a tokenizer file")
        return self

    # ------------------------------------------------------------------ inference of intent
    @classmethod
    def recognise(cls, profile: ColumnProfile) -> float:
        """Lists of texts in which a text comes twice are no sets of tags."""
        if not profile.type.startswith(("list", "large_list")) or "string" not in profile.type:
            return 0.0
        parts = [text.split("|") for text in profile.examples]
        again = any(len(set(part)) < len(part) for part in parts)
        return 0.95 if again or profile.name.lower() in _NAMES else 0.0

    # ------------------------------------------------------------------ what a language model has learned
    @classmethod
    def inherited(cls, other: Field, packed: bool) -> dict[str, Any]:
        told = super().inherited(other, packed)
        told.pop("cut", None)  # of a corpus: whether it is cut off
        kind = told.pop("tokens", None)
        if kind not in _OF_CORPUS:
            raise UserError(
                f"words cannot be told apart in tokens: {kind}",
                f"a model whose tokens are {' or '.join(_OF_CORPUS)}",
            )
        return {**told, "tokens": _OF_CORPUS[kind]}

    def adopt(self, other: Field) -> Words:
        """The tokens of a corpus. Its characters are those words that have one character, the others are unknown."""
        state: dict[str, Any] = {"length": self.length or 512, "cut": self.cut or "word"}
        if "tokenizer" in other.state:
            text = other.state["tokenizer"]
            size = len(other.state["bytes"])  # a table of tokens may have more rows than there are tokens
            joins_V = _joins(text)
            return self.with_state(
                state | {"tokenizer": text, "joins": np.pad(joins_V, (0, max(size - len(joins_V), 0)))}
            )
        state["cut"] = self.cut or "char"
        return self.with_state(
            state | {"vocabulary": other.state["vocabulary"], "specials": len(other.state["specials"])}
        )

    # ------------------------------------------------------------------ learning
    def fit(self, chunks: Iterable[pa.Array], root: Path | None = None) -> Words:
        counts, lengths = Counts(), Counter()
        cut, words = self.cut, 0
        # Rows of the most characters, among which are those of the most pieces.
        largest: list[tuple[int, int, list[str]]] = []
        for chunk in chunks:
            values = to_python(plain(chunk))
            if cut is None:
                cut = _guess(values)
            for row in (self._row(value, cut) for value in values):
                if isinstance(row, list):
                    counts.add(Counter(row))
                    lengths[len(row)] += 1
                    words += len(row)
                    entry = (sum(map(len, row)), words, row)
                    (heapq.heappush if len(largest) < _LARGEST else heapq.heappushpop)(largest, entry)
        if not words:
            raise DataError("no words in the training split", "lists of texts, or texts")
        state: dict[str, Any] = {"cut": cut, "length": self.length or min(max(lengths), 512)}
        if self.tokens == "word":
            kept = counts.frequent(self.min_count, self.vocabulary - 2)
            return self.with_state(state | {"vocabulary": [_PAD, _UNKNOWN, *kept]})
        text = self._read() if self.tokens == "file" else self._learn(counts)
        state |= {"tokenizer": text, "joins": _joins(text)}
        if self.length is None:
            found = self.with_state(state)._pieces([row for _, _, row in largest])
            state["length"] = min(max(map(len, found)), 512)
        return self.with_state(state)

    def _learn(self, counts: Counts) -> str:
        if self.tokens == "bpe":
            words = [
                f" {word}" for word, times in sorted(counts.counter.items()) for _ in range(min(times, 1000))
            ]
            return learn("bpe", [words], self.vocabulary, [_PAD, _UNKNOWN])
        library = need("tokenizers", "text", "tokens: wordpiece")
        tokenizer = library.Tokenizer(
            library.models.WordPiece(unk_token=_UNKNOWN, max_input_chars_per_word=100)
        )
        tokenizer.pre_tokenizer = library.pre_tokenizers.WhitespaceSplit()
        trainer = library.trainers.WordPieceTrainer(
            vocab_size=self.vocabulary,
            special_tokens=[_PAD, _UNKNOWN],
            limit_alphabet=max(1, self.vocabulary // 2 - 2),
            show_progress=False,
        )

        def texts() -> Iterator[str]:
            for word, times in sorted(counts.counter.items()):
                yield " ".join([word] * min(times, 1000))

        tokenizer.train_from_iterator(texts(), trainer)
        return tokenizer.to_str()

    def _read(self) -> str:
        assert self.tokenizer is not None
        path = self.tokenizer.expanduser()
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "is no text"
            raise UserError(f"tokenizer {path}: {reason}") from None
        return load(text, f"tokenizer {path}").to_str()

    def with_state(self, state: Mapping[str, Any]) -> Words:
        copy = super().with_state(state)
        copy._tool = None
        return copy

    # ------------------------------------------------------------------ the modality
    @property
    def layout(self) -> Layout:
        size = len(self._state["vocabulary"] if self.tokens == "word" else self._state["joins"])
        return Layout("tokens", size=size, length=self._state["length"])

    def encode(self, column: pa.Array, root: Path | None = None) -> Encoded:
        bad: dict[int, str] = {}
        rows: list[list[str]] = []
        for number, value in enumerate(to_python(plain(column))):
            row = self._row(value, self._state["cut"])
            if isinstance(row, str):
                bad[number], row = row, [_UNKNOWN]
            rows.append(row)
        found = self._known(rows) if self.tokens == "word" else self._pieces(rows)
        longest = self._state["length"]
        long = [number for number, row in enumerate(found) if len(row) > longest]
        found = [row[:longest] for row in found]
        dtype = np.uint16 if self.layout.size <= 65_536 else np.int32
        return Encoded(
            np.concatenate(found).astype(dtype) if found else np.zeros(0, dtype),
            np.array([len(row) for row in found], np.int64),
            bad=bad,
            changed={"truncated": np.array(long)} if long else {},
        )

    def _row(self, value: Any, cut: str | None) -> list[str] | str:
        """The words of a cell, or why it has none."""
        if isinstance(value, str):
            value = list(value) if cut == "char" else _WORD.findall(value)
        if value is None or not isinstance(value, list):
            return "no words" if value is None else f"wants words, got {shown(value)}"
        if not value:
            return "no words"
        if not all(isinstance(word, str) for word in value):
            return f"wants words, got {shown(value)}"
        return [word.lower() for word in value] if self.lowercase else value

    def _known(self, rows: list[list[str]]) -> list[np.ndarray]:
        if self._tool is None:
            first = self._state.get("specials", 0)  # no word passes itself off as a special token
            self._tool = {word: code for code, word in enumerate(self._state["vocabulary"][first:], first)}
        codes = self._tool
        return [np.array([codes.get(word, 1) for word in row], np.int64) for row in rows]

    def _pieces(self, rows: list[list[str]]) -> list[np.ndarray]:
        """Ids of each row's words; a word always has one that begins it, and only one."""
        if self._tool is None:
            self._tool = _whole_words(load(self._state["tokenizer"]))
        tool, joins_V = self._tool, np.asarray(self._state["joins"], bool)
        unknown = next(
            (code for name in (_UNKNOWN, "[UNK]", "<unk>") if (code := tool.token_to_id(name)) is not None), 0
        )
        ends = [tool.token_to_id(name) for name in ("[CLS]", "[SEP]")] if self.wrap else []
        if None in ends:
            raise UserError("wrap: the tokenizer has no [CLS] and [SEP]", "wrap: false")
        found = []
        for row, one in zip(
            rows, tool.encode_batch(rows, is_pretokenized=True, add_special_tokens=False), strict=True
        ):
            ids, owner = np.array(one.ids, np.int64), np.array(one.word_ids, np.int64)
            lost = np.setdiff1d(np.arange(len(row)), owner)  # words of which nothing is left
            if len(lost):
                place = np.searchsorted(owner, lost)
                ids, owner = np.insert(ids, place, unknown), np.insert(owner, place, lost)
            first = np.diff(owner, prepend=-1) > 0
            ids[first & joins_V[ids]] = unknown  # a word that looks like the rest of one
            kept = first | joins_V[ids]
            ids = ids[kept]
            found.append(np.array([ends[0], *ids, ends[1]]) if ends else ids)
        return found

    def contract(self) -> dict[str, Any]:
        state = self._state
        pieces = "tokenizer" in state
        return {
            "tokens": "pieces" if pieces else "words",
            "cut": state["cut"],
            "pattern": _WORD.pattern,
            "lowercase": self.lowercase,
            "length": state["length"],
            "vocabulary": state.get("vocabulary"),
            "first": state.get("specials", 0),
            "unknown": 1,
            "tokenizer": _whole_words(load(state["tokenizer"])).to_str() if pieces else None,
            "joins": np.flatnonzero(state["joins"]).tolist() if pieces else None,
            "wrap": self.wrap,
        }

    def decode(self, values: np.ndarray | Sequence[Any]) -> list[list[str]]:
        """Rows of ids → rows of words; what was unknown is �."""
        rows = [[int(code) for code in np.asarray(row).reshape(-1) if code > 0] for row in values]
        if self.tokens == "word":
            names = ["", "\ufffd", *self._state["vocabulary"][2:]]
            return [[names[code] for code in row] for row in rows]
        tokenizer, joins = load(self._state["tokenizer"]), self._state["joins"]
        texts = []
        for row in rows:
            words: list[list[int]] = []
            for code in row:
                if joins[code] and words:
                    words[-1].append(code)
                else:
                    words.append([code])
            texts.append([tokenizer.decode(word).strip() or "\ufffd" for word in words])
        return texts

    def prepare(self, values: Tensor) -> Tensor:
        return values.to(torch.int64)


def _guess(values: list[Any]) -> Literal["char", "word"]:
    """How a text is cut, by the first rows: as its lists are, or by its letters."""
    rows = [value for value in values[:1000] if value]
    if any(isinstance(value, list) for value in rows):
        words = [word for row in rows if isinstance(row, list) for word in row if isinstance(word, str)]
        return "char" if words and sum(map(len, words)) < 1.1 * len(words) else "word"
    text = "".join(value for value in rows if isinstance(value, str))
    return "char" if 3 * len(_CJK.findall(text)) > len(text) else "word"


def _whole_words(tokenizer: Any) -> Any:
    """The tokenizer, told to take each word as one, whatever signs are in it."""
    pre = need("tokenizers", "text").pre_tokenizers
    tree = json.loads(tokenizer.to_str())
    if tree["model"]["type"] == "WordPiece":
        tokenizer.pre_tokenizer = pre.WhitespaceSplit()
    elif any(token.startswith("\u2581") for token in tokenizer.get_vocab()):
        tokenizer.pre_tokenizer = pre.Metaspace(prepend_scheme="always")
    else:
        tokenizer.pre_tokenizer = pre.ByteLevel(add_prefix_space=True, use_regex=False)
    return tokenizer


def _joins(text: str) -> np.ndarray:
    """Of each token, whether it goes on with a word. Special tokens begin none. uint8 (V,)."""
    tree = json.loads(text)
    tokenizer = load(text)
    names = tokenizer.get_vocab()
    joins_V = np.zeros(max(names.values()) + 1, np.uint8)
    begins = "\u2581" if any(name.startswith("\u2581") for name in names) else "\u0120"
    for name, code in names.items():
        pieces = tree["model"]["type"] == "WordPiece"
        joins_V[code] = name.startswith("##") if pieces else not name.startswith(begins)
    unknown = {_UNKNOWN, tree["model"].get("unk_token")}
    for added in tree["added_tokens"]:
        joins_V[added["id"]] = bool(added["special"]) and added["content"] not in unknown
    return joins_V
