"""Where words begin in a row of tokens, by what the tokenizer's tokens look like.

    joins = Joins.of(field); joins(tokens_BT)      # bool (B, T): this token goes on with the word before it

Word pieces mark what goes on (`##ing`), SentencePiece what begins (`▁the`), byte pairs carry the space (` the`).
Elsewhere letters go on with letters, and bytes of one character with one another; a Chinese character stands
alone, unless the tokenizer itself has joined several. B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import torch
from torch import Tensor

from modelworks.core.field import Field

_HAN = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_ALONE, _LETTER, _BYTE, _JOINED = range(4)


class Joins:
    """Which tokens go on with a word."""

    def __init__(self, first: Sequence[int], last: Sequence[int]) -> None:
        self.first_V, self.last_V = torch.tensor(first), torch.tensor(last)

    @classmethod
    def of(cls, field: Field) -> Joins:
        """Of a fitted field of tokens."""
        size = field.layout.size
        marked = _marks(field)
        if marked is not None:
            codes = [_JOINED if marked.get(code, False) else _ALONE for code in range(size)]
            return cls(codes, [_ALONE] * size)
        texts = field.decode([[code] for code in range(size)])  # type: ignore[arg-type]  # rows of ids
        return cls([_sort(text[:1]) for text in texts], [_sort(text[-1:]) for text in texts])

    def __call__(self, tokens_BT: Tensor) -> Tensor:
        first_BT = self.first_V.to(tokens_BT.device)[tokens_BT]
        last_BT = self.last_V.to(tokens_BT.device)[tokens_BT]
        before_BT = torch.nn.functional.pad(last_BT[:, :-1], (1, 0), value=_ALONE)
        return (first_BT == _JOINED) | ((first_BT != _ALONE) & (first_BT == before_BT))


def _marks(field: Field) -> dict[int, bool] | None:
    """Id → whether it goes on with a word, for tokenizers that mark it; None for others."""
    text = field.state.get("tokenizer")
    if not isinstance(text, str):
        return None
    model = json.loads(text)["model"]
    vocabulary = model["vocab"]
    named = (
        dict(vocabulary)
        if isinstance(vocabulary, dict)
        else {entry[0]: code for code, entry in enumerate(vocabulary)}
    )
    if model.get("type") == "WordPiece":
        prefix = model.get("continuing_subword_prefix", "##")
        return {code: token.startswith(prefix) for token, code in named.items()}
    if any(token.startswith("\u2581") for token in named):
        # Signs begin words of their own; so do special tokens, which are masked by no one.
        return {
            code: not token.startswith("\u2581") and token[:1].isalnum() and not _HAN.match(token)
            for token, code in named.items()
        }
    return None


def _sort(character: str) -> int:
    if character == "\ufffd":
        return _BYTE
    return _LETTER if character.isalnum() and not _HAN.match(character) else _ALONE
