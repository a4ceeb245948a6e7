"""text: what tokens are, what is cut, and byte pairs against the tokenizers library."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworks.core.errors import DataError, RecipeError
from modelworks.fields.text import Text

CORPUS = ["The cat sat.", "the dog's cat", "don't sit on the cat!", "我喜欢 cats 和狗"] * 3


def ids(field: Text, text: str) -> list[int]:
    return field.encode(pa.array([text])).values.tolist()


def names(field: Text, text: str) -> list[str]:
    return [field.state["vocabulary"][code] for code in ids(field, text)]


def test_words() -> None:
    field = Text(length=50).fit([pa.array(CORPUS)])
    assert names(field, "THE dog's cat, sat") == ["the", "dog's", "cat", "<unk>", "sat"]
    assert names(field, "我喜欢狗\nthe") == ["我", "喜", "欢", "狗", "the"]
    # The frequent come first, ties by their letters, as in any vocabulary file.
    assert field.state["vocabulary"][:4] == ["<pad>", "<unk>", "cat", "the"]
    assert field.decode([np.array([3, 2, 0, 0])]) == ["the cat"]
    assert field.decode([ids(field, "我喜欢 cats")]) == ["我喜欢 cats"]


def test_characters_are_those_of_python() -> None:
    field = Text(tokens="char", min_count=1, length=100).fit([pa.array(CORPUS)])
    for text in [*CORPUS, "Ｃａｔ ①", "  zebra 🙈 "]:
        plain = unicodedata.normalize("NFKC", text).lower().strip()
        known = field.state["vocabulary"]
        assert ids(field, text) == [known.index(c) if c in known else 1 for c in plain]
    assert field.decode([ids(field, CORPUS[0])]) == ["the cat sat."]


def test_bytes_need_no_vocabulary() -> None:
    field = Text(tokens="byte", lowercase=False, normalise=False).fit([pa.array(CORPUS)])
    assert field.layout.size == 258
    assert ids(field, "狗a") == [byte + 2 for byte in "狗a".encode()]
    assert field.decode([ids(field, "狗a")]) == ["狗a"]


def test_byte_pairs_are_those_of_tokenizers() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    field = Text(tokens="bpe", vocabulary=300, length=100).fit([pa.array(CORPUS[:5]), pa.array(CORPUS[5:])])
    reference = tokenizers.Tokenizer.from_str(field.state["tokenizer"])
    assert field.layout.size == reference.get_vocab_size() <= 300
    assert ids(field, "The cats 🙈") == reference.encode("the cats 🙈").ids
    assert min(ids(field, "\x00\x7f🙈")) > 1  # every byte is known
    assert field.decode([ids(field, "don't sit 狗")]) == ["don't sit 狗"]


def test_length_is_learned_and_the_rest_is_cut() -> None:
    texts = ["a" * size for size in range(1, 101)]
    field = Text(tokens="char", min_count=1).fit([pa.array(texts)])
    assert field.layout.length == 100  # ⌈99.01⌉
    short = field.but(length=3).fit([pa.array(texts)])
    found = short.encode(pa.array(["a", "aaa", "aaaa"]))
    assert found.lengths is not None
    assert found.lengths.tolist() == [1, 3, 3]
    assert found.changed["truncated"].tolist() == [2]
    assert Text(tokens="char").fit([pa.array(["b" * 9000])]).layout.length == 512


def test_empty_texts() -> None:
    column = pa.array(["", None, " \n", "a"])
    field = Text(tokens="char", min_count=1).fit([column])
    found = field.encode(column)
    assert found.values.tolist() == [1, 1, 1, 2]
    assert found.changed["empty text"].tolist() == [0, 1, 2]
    assert field.but(missing="quarantine").fit([column]).encode(column).bad == dict.fromkeys(
        [0, 1, 2], "empty text"
    )
    with pytest.raises(DataError, match="no text"):
        field.fit([pa.array(["", None])])
    with pytest.raises(RecipeError):
        Text(tokens="char", vocabulary=1)


def test_stored_small() -> None:
    points = [chr(0x20000 + at) for at in range(66_000)]
    assert (
        Text(tokens="char", min_count=1).fit([pa.array(CORPUS)]).encode(pa.array(["a"])).values.dtype
        == np.uint16
    )
    wide = Text(tokens="char", min_count=1, vocabulary=70_000, normalise=False).fit(
        [pa.array(["".join(points)])]
    )
    assert wide.layout.size == 66_002
    assert wide.encode(pa.array(points[-1:])).values.tolist()[0] > 65_535


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(alphabet="ab' é狗\n,_1", max_size=15), min_size=1, max_size=5))
def test_words_are_a_plain_regular_expression(texts: list[str]) -> None:
    field = Text(min_count=1, length=100, lowercase=False).fit([pa.array(["a b ab é 狗 ' , _ 1"])])
    pattern = re.compile(r"狗|[^\W狗]+(?:'[^\W狗]+)*|[^\w\s]")
    known = field.state["vocabulary"]
    found = field.encode(pa.array(texts))
    expected = [pattern.findall(text) or [""] for text in texts]
    assert found.lengths is not None
    assert found.lengths.tolist() == [len(words) for words in expected]
    assert found.values.tolist() == [known.index(w) if w in known else 1 for words in expected for w in words]
