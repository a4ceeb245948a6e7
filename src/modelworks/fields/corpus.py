"""A column of documents for language models: lossless tokens, nothing truncated. Id 0 pads.

    fields: {text: {kind: corpus, tokens: bpe, vocabulary: 8192, length: 256}}
    field.ids("To be") → [88, 312]; field.decode([[88, 312]]) → ["To be"]

char, byte, bpe and unigram keep every character (char: those seen in training); wordpiece keeps words.
Legend: V tokens of the vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pydantic import Field as Limits
from pydantic import PositiveInt, PrivateAttr, model_validator

from modelworks.core.errors import DataError, UserError
from modelworks.core.field import Encoded, Field, Layout
from modelworks.fields._bytes import as_texts, buffer, points
from modelworks.fields._sample import Sample
from modelworks.fields._tokenizers import Subwords, learn, load

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from modelworks.core.profile import ColumnProfile

PAD, UNKNOWN, END = "<pad>", "<unk>", "<|endoftext|>"
_SUBWORDS = ("bpe", "wordpiece", "unigram", "file")
_LEARN = {"bpe": 20_000_000, "wordpiece": 20_000_000, "unigram": 2_000_000}
"""How much subwords are learned from, in characters of English; a Chinese one counts nine, as it takes so much
more memory. Of a larger corpus, a sample spread evenly over it."""
_LITTLE = 3_000_000  # characters of a corpus below which characters are its tokens
_SHEET = 4096  # what is sampled together, in the same unit
_ENDS = (END, "</s>", "<eos>", "<|end_of_text|>", "<|im_end|>", "<|end|>", "[SEP]")


class Corpus(Field):
    """Documents as tokens."""

    tokens: Literal["char", "byte", "bpe", "wordpiece", "unigram", "file"] = "bpe"
    """What a token is: a character; a byte; byte-level byte pairs (GPT-2); BERT's word pieces; unigram
    pieces (Kudo 2018), rare characters as bytes; or as the file `tokenizer` says. All but char and byte need
    the extra `text`."""
    vocabulary: Annotated[int, Limits(ge=3, le=1_000_000)] = 8192
    """Most tokens, special ones included. byte: 256 and the special ones, whatever this says."""
    length: PositiveInt = 256
    """The context: how many tokens a model sees at once. Documents are not cut to it."""
    cut: bool = False
    """Cut each row to `length` tokens, where rows are answered one by one; each cut is counted."""
    end: bool | str = True
    """Whether an end-of-document token follows each row; tokenizer files: or the token's name there, which is
    otherwise looked up in the tokenizer_config.json beside it."""
    joint: list[str] = []
    """Columns whose texts are learned from too. Two fields that are otherwise set alike, each joint with the other's
    column, have the same tokens: a model of both can have one table of them."""
    specials: list[str] = []
    """More special tokens, such as <|user|>. Where they are written in a text they are that token."""
    tokenizer: Path | None = None
    """tokens: file only: a tokenizer.json. It is stored with the Run. Its id 0 need not be padding."""

    _tool: Any = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _whole(self) -> Corpus:
        least = len(self._reserved()) + {"bpe": 257, "unigram": 300}.get(self.tokens, 1)
        if self.tokens in ("char", "bpe", "wordpiece", "unigram") and self.vocabulary < least:
            raise ValueError(
                f"vocabulary: tokens: {self.tokens} needs at least {least}, got {self.vocabulary}"
            )
        if (self.tokens == "file") != (self.tokenizer is not None):
            raise ValueError("`tokens: file` and `tokenizer: PATH` go together")
        if isinstance(self.end, str) and self.tokens != "file":
            raise ValueError("end: names a token of a tokenizer file; here it is true or false")
        if len(set(self._reserved())) < len(self._reserved()) or "" in self.specials:
            raise ValueError(
                f"specials: {self.specials} has one twice, an empty one or one that is there anyway"
            )
        return self

    def _reserved(self) -> list[str]:
        """The special tokens of a vocabulary learned here, by id."""
        unknown = [UNKNOWN] if self.tokens in ("char", "wordpiece", "unigram") else []
        return [PAD, *unknown, *([END] if self.end else []), *self.specials]

    # ------------------------------------------------------------------ inference of intent
    @classmethod
    def propose(cls, profile: ColumnProfile, target: bool = False) -> dict[str, Any]:
        # A million characters teach a model to spell; subwords need more text than that to be worth their vectors.
        size = profile.present * profile.mean_length
        tokens = (
            {"tokens": "char"} if size < _LITTLE else {"vocabulary": 8192 if size < 100_000_000 else 32_768}
        )
        return {**tokens, "end": not profile.continuous}

    @classmethod
    def inherited(cls, other: Field, packed: bool) -> dict[str, Any]:
        return {**super().inherited(other, packed), "cut": not packed}

    # ------------------------------------------------------------------ learning
    def fit(self, chunks: Iterable[pa.Array], root: Path | None = None) -> Corpus:
        if self.tokens == "file":
            return self.with_state(self._read())
        names = self._reserved()
        state: dict[str, Any] = {"end": names.index(END) if self.end else -1}
        state["specials"] = {name: code for code, name in enumerate(names)}
        if self.tokens in ("char", "byte"):
            counts = np.zeros(0x110000, np.int64)
            for chunk in chunks:
                texts, _ = as_texts(chunk)
                found = np.bincount(points(texts) if self.tokens == "char" else buffer(texts)[:1])
                counts[: len(found)] += found
            if not counts.any():
                raise DataError("no text in the training split")
            if self.tokens == "byte":
                sizes = [1] * 256
            else:
                order = np.lexsort((np.arange(len(counts)), -counts))[: self.vocabulary - len(names)]
                learned = [chr(point) for point in order[counts[order] > 0]]
                state["vocabulary"] = [*names, *learned]
                sizes = [len(name.encode()) for name in learned]
            state["bytes"] = np.array([0] * len(names) + sizes, np.int32)
            return self.with_state(state)
        sheets = list(_spread(chunks, _LEARN[self.tokens] // _SHEET))
        if not sheets:
            raise DataError("no text in the training split")
        state["tokenizer"] = learn(self.tokens, sheets, self.vocabulary, names)
        state["bytes"] = Subwords(state["tokenizer"]).bytes()
        return self.with_state(state)

    def _read(self) -> dict[str, Any]:
        """The state that a tokenizer file gives."""
        import json

        assert self.tokenizer is not None
        path = self.tokenizer.expanduser()
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "is no text"
            raise UserError(f"tokenizer {path}: {reason}") from None
        tokenizer = load(text, f"tokenizer {path}")
        tokenizer.add_special_tokens(self.specials)
        text = tokenizer.to_str()
        tool = Subwords(text)
        end = -1
        if self.end:
            config = path.parent / "tokenizer_config.json"
            told: Any = self.end
            if told is True and config.is_file():
                try:
                    told = json.loads(config.read_text("utf-8")).get("eos_token") or True
                except (OSError, ValueError, AttributeError):
                    raise UserError(f"{config}: is no JSON object") from None
                told = told.get("content", True) if isinstance(told, dict) else told
            names = [told] if isinstance(told, str) else _ENDS
            found = [code for name in names if (code := tokenizer.token_to_id(name)) is not None]
            if not found:
                raise UserError(
                    f"tokenizer {path}: has no token {' or '.join(names)}", "end: NAME, or end: false"
                )
            end = found[0]
        return {"tokenizer": text, "end": end, "specials": tool.specials, "bytes": tool.bytes()}

    def with_state(self, state: Mapping[str, Any]) -> Corpus:
        copy = super().with_state(state)
        copy._tool = None
        return copy

    # ------------------------------------------------------------------ the modality
    @property
    def layout(self) -> Layout:
        return Layout("tokens", size=len(self._state["bytes"]), length=self.length)

    @property
    def special_ids(self) -> dict[str, int]:
        """Special tokens by name; padding and the end of a document are among them."""
        return dict(self._state["specials"])

    def ids(self, text: str, special: bool = False) -> list[int]:
        """The tokens of a text, without an end; `special`: special tokens written in it are those tokens.

        Without it no text can pass itself off as a special token."""
        return self._encode(pa.array([text.encode("utf-8", "replace").decode()]), special)[0].tolist()

    def encode(self, column: pa.Array, root: Path | None = None) -> Encoded:
        texts, bad = as_texts(column)
        tokens, lengths, unknown = self._encode(texts, bool(self.specials))
        changed = {"unknown": unknown} if len(unknown) else {}
        empty = np.flatnonzero(lengths == 0)
        for row in empty.tolist():
            bad.setdefault(row, "no text")
        end = self._state["end"]
        if end >= 0:
            tokens, lengths = np.insert(tokens, np.cumsum(lengths), end), lengths + 1
        elif len(empty):  # filler of rows that are left out
            tokens = np.insert(tokens, (np.cumsum(lengths) - lengths)[empty], 1)
            lengths = np.maximum(lengths, 1)
        if self.cut and (longer := np.flatnonzero(lengths > self.length)).size:
            changed["truncated"] = longer
            place = np.arange(len(tokens)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            tokens, lengths = tokens[place < self.length], np.minimum(lengths, self.length)
        dtype = np.uint16 if self.layout.size <= 65_536 else np.int32
        return Encoded(tokens.astype(dtype), lengths.astype(np.int64), bad=bad, changed=changed)

    def _encode(self, texts: pa.Array, special: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(all ids end to end, number of each text's ids, rows with something unknown)."""
        if self._tool is None:
            self._tool = Subwords(self._state["tokenizer"]) if self.tokens in _SUBWORDS else self._table()
        if self.tokens in _SUBWORDS:
            tokens, lengths = self._tool.encode(texts.to_pylist(), special)
            unknown = self._tool.unknown
        else:
            tokens, lengths = self._plain(texts) if not special else self._written(texts)
            unknown = self._state["specials"].get(UNKNOWN, -1)
        where = np.searchsorted(np.cumsum(lengths), np.flatnonzero(tokens == unknown), side="right")
        return tokens, lengths, np.unique(where)

    def _table(self) -> np.ndarray:
        """Code point, or byte, → id."""
        first = len(self._state["specials"])
        if self.tokens == "byte":
            return np.arange(first, first + 256, dtype=np.int32)
        table = np.full(0x110000, self._state["specials"][UNKNOWN], np.int32)
        for code, name in enumerate(self._state["vocabulary"][first:], first):
            table[ord(name)] = code
        return table

    def _plain(self, texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        if self.tokens == "byte":
            found, lengths = buffer(texts), pc.binary_length(texts)
        else:
            found, lengths = points(texts), pc.utf8_length(texts)
        return self._tool[found], lengths.to_numpy(zero_copy_only=False).astype(np.int64)

    def _written(self, texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """As _plain, with the special tokens that are written in the texts."""
        specials = self._state["specials"]
        names = sorted(specials, key=len, reverse=True)
        cut = re.compile("(" + "|".join(map(re.escape, names)) + ")")
        rows = [cut.split(text) for text in texts.to_pylist()]
        parts = [part for row in rows for part in row]
        tokens, sizes = self._plain(
            pa.array([part if part not in specials else "a" for part in parts], pa.string())
        )
        starts = np.cumsum(sizes) - sizes
        for at, part in enumerate(parts):
            if part in specials:
                tokens[starts[at]] = specials[part]
        owners = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        return tokens, np.bincount(owners, sizes, len(rows)).astype(np.int64)

    def contract(self) -> dict[str, Any]:
        specials = self._state["specials"]
        return {
            "tokens": self.tokens,
            "nfkc": False,
            "lowercase": False,
            "trim": False,
            "length": self.length,
            "vocabulary": self._state.get("vocabulary"),
            "tokenizer": self._state.get("tokenizer"),
            "unknown": specials.get(UNKNOWN, -1),
            "first": len(specials),
            "specials": dict(specials),
            "written_specials": bool(self.specials),
            "end": self._state["end"],
            "empty": "refuse",
        }

    def decode(self, values: np.ndarray | Sequence[Any], special: bool = False) -> list[str]:
        """Rows of ids (padded or not) → texts; special tokens are left out, or written out."""
        rows = [np.asarray(row, np.int64).reshape(-1) for row in values]
        if self.tokens == "file":
            return self._subwords.decode([row.tolist() for row in rows], special)
        rows = [row[row > 0] for row in rows]
        if self.tokens in _SUBWORDS:
            return self._subwords.decode([row.tolist() for row in rows], special)
        names = list(self._state["specials"])
        first = len(names)
        if self.tokens == "char":
            shown = [*(names if special else [""] * first), *self._state["vocabulary"][first:]]
            shown[1] = "\ufffd"
            return ["".join([shown[code] for code in row]) for row in rows]
        pieces = [name.encode() if special else b"" for name in names] + [
            bytes([byte]) for byte in range(256)
        ]
        return [b"".join([pieces[code] for code in row]).decode("utf-8", "replace") for row in rows]

    @property
    def _subwords(self) -> Subwords:
        if self._tool is None:
            self._tool = Subwords(self._state["tokenizer"])
        return self._tool

    def prepare(self, values: Tensor) -> Tensor:
        return values.to(torch.int64)


def _spread(chunks: Iterable[pa.Array], most: int) -> Iterator[list[str]]:
    """Sheets of about the same worth, all or `most` of them spread evenly, however the stream is chunked."""
    sample, sheet, size = Sample(limit=most), [], 0
    for chunk in chunks:
        whole: list[list[str]] = []
        for text in as_texts(chunk)[0].to_pylist():
            for start in range(0, len(text), _SHEET):
                piece = text[start : start + _SHEET]
                sheet.append(piece)
                size += 4 * len(piece.encode()) - 3 * len(piece) if not piece.isascii() else len(piece)
                if size >= _SHEET:
                    whole.append(sheet)
                    sheet, size = [], 0
        held = np.empty(len(whole), object)
        held[:] = whole
        sample.add(held)
    yield from sample.values
    if sheet:
        yield sheet
