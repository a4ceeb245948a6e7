"""Constrained output: every answer matches a JSON schema or a regular expression, by the library llguidance.

    grammar = Grammar(field, json_schema='{"type": "object"}')
    state = grammar.start()
    state.allowed()      # bool (V,): tokens that may come next
    state.took(token)

B bytes of a token, V vocabulary.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modelworks.core.errors import UserError, need

_LETTERS: list[int] = [*range(33, 127), *range(161, 173), *range(174, 256)]


def byte_letters() -> dict[str, int]:
    """GPT-2's letters for bytes: printable ones stand for themselves, the others for 256 and on."""
    letters = {chr(byte): byte for byte in _LETTERS}
    rest = [byte for byte in range(256) if byte not in _LETTERS]
    return letters | {chr(256 + place): byte for place, byte in enumerate(rest)}


def token_bytes(field: Any) -> list[bytes]:
    """What each token of a fitted corpus field writes; empty for special tokens. (V,)"""
    state, size = field.state, field.layout.size
    specials = set(field.special_ids.values())
    if "tokenizer" not in state:
        texts = state.get("vocabulary")
        first = len(state["specials"])
        written = [b""] * first + [bytes([byte]) for byte in range(256)]
        if texts is not None:
            written = [text.encode() for text in texts]
        return [b"" if code in specials else one for code, one in enumerate(written)]
    tree = json.loads(state["tokenizer"])
    decoder = tree.get("decoder") or {}
    kinds = {decoder.get("type"), *(one.get("type") for one in decoder.get("decoders", []))}
    if tree["model"]["type"] == "WordPiece":
        raise UserError("answers of word pieces cannot be constrained: spaces are not theirs", "tokens: bpe")
    vocabulary = tree["model"]["vocab"]
    if isinstance(vocabulary, list):  # unigram: [piece, score]
        vocabulary = {piece: code for code, (piece, _) in enumerate(vocabulary)}
    written, letters = [b""] * size, byte_letters()
    for piece, code in vocabulary.items():
        if code in specials or code >= size:
            continue
        if "ByteLevel" in kinds:
            written[code] = bytes(letters[letter] for letter in piece if letter in letters)
        elif len(piece) == 6 and piece.startswith("<0x"):
            written[code] = bytes([int(piece[3:5], 16)])
        else:
            written[code] = piece.replace("\u2581", " ").encode()
    for one in tree["added_tokens"]:
        if not one["special"] and one["id"] < size:
            written[one["id"]] = one["content"].encode()
    return written


class _Tokens:
    """The vocabulary as llguidance wants it."""

    def __init__(self, field: Any) -> None:
        self._field = field
        self.tokens = token_bytes(field)
        end = field.state["end"]
        if end < 0:  # a document has no end here: one that is never offered
            self.tokens, end = [*self.tokens, b""], len(self.tokens)
        self.eos_token_id, self.bos_token_id = end, None
        empty = [code for code, written in enumerate(self.tokens) if not written]
        self.special_token_ids = empty
        # The library wants every token to be something; what begins with 0xff is a special token's name to it.
        for code in empty:
            self.tokens[code] = b"\xff<%d>" % code

    def __call__(self, text: str | bytes) -> list[int]:
        return self._field.ids(text if isinstance(text, str) else text.decode("utf-8", "replace"))


class Vocabulary:
    """A field's tokens, ready for grammars; built once."""

    def __init__(self, field: Any) -> None:
        self.library = need("llguidance", "constrain", "constrained output")
        tokens = _Tokens(field)
        self.size, self.end = field.layout.size, field.state["end"]
        self.silent = [code for code in tokens.special_token_ids if code < self.size]
        wrapper = need("llguidance._tokenizer", "constrain").TokenizerWrapper(tokens)
        self.tokenizer = self.library.LLTokenizer(wrapper, n_vocab=len(tokens.tokens))


class Grammar:
    """A JSON schema or a regular expression over a vocabulary."""

    def __init__(
        self, vocabulary: Vocabulary, json_schema: str | None = None, regex: str | None = None
    ) -> None:
        if (json_schema is None) == (regex is None):
            raise UserError("an answer is bound by a JSON schema or by a regular expression, one of them")
        self.vocabulary = vocabulary
        matcher = vocabulary.library.LLMatcher
        if json_schema is not None:
            try:
                schema = json.loads(json_schema)
            except (ValueError, RecursionError) as error:
                raise UserError(f"the JSON schema is not JSON: {error}") from None
            if not isinstance(schema, (dict, bool)):
                raise UserError("the JSON schema is not a schema: wants {…}")
            # Blanks of any length would let a model write blanks for ever.
            rules = {"whitespace_flexible": False}
            self.rules = matcher.grammar_from_json_schema({} if schema is True else schema, rules)
        else:
            self.rules = matcher.grammar_from_regex(regex)
        self._first = matcher(vocabulary.tokenizer, self.rules, log_level=0)
        if self._first.is_error():
            what = "JSON schema" if json_schema is not None else "regular expression"
            raise UserError(f"the {what} cannot be used: {_first_line(self._first.get_error())}")

    def start(self) -> State:
        """A row at its beginning."""
        return State(self._first.deep_copy(), self.vocabulary)


class State:
    """How far one row has got in its grammar."""

    def __init__(self, matcher: Any, vocabulary: Vocabulary) -> None:
        self._matcher, self._vocabulary = matcher, vocabulary

    @property
    def finished(self) -> bool:
        """Nothing can follow."""
        return self._matcher.is_stopped()

    @property
    def complete(self) -> bool:
        """What there is matches."""
        return self._matcher.is_accepting()

    def allowed(self) -> Tensor:
        """bool (V,): tokens that may come next."""
        size = self._vocabulary.size
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        allowed_V = np.unpackbits(bits, bitorder="little")[:size].astype(bool)
        allowed_V[self._vocabulary.silent] = False  # special tokens write nothing
        if self._vocabulary.end >= 0:
            allowed_V[self._vocabulary.end] = self.complete
        if not allowed_V.any():  # the grammar ends here, and the vocabulary has no end to say so
            raise UserError("the vocabulary cannot write what the schema or expression wants")
        return torch.from_numpy(allowed_V)

    def took(self, token: int) -> None:
        """The row goes on with this token."""
        if not self._matcher.consume_token(token):
            raise UserError(f"constrained output went wrong: {_first_line(self._matcher.get_error())}")


def _first_line(text: str) -> str:
    return text.splitlines()[0][:300] if text else "no reason given"
