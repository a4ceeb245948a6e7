"""corpus: tokens lose nothing, count their bytes, and are those of the tokenizers library."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from modelworks.core.errors import DataError, RecipeError, UserError
from modelworks.fields import corpus as module
from modelworks.fields._tokenizers import LONGEST, Subwords, learn
from modelworks.fields.corpus import Corpus

tokenizers = pytest.importorskip("tokenizers")

ENGLISH = "To be, or not to be: that is the question.\nWhether 'tis nobler in the mind to suffer\n\n"
CHINESE = (
    "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。\n白日依山尽，黄河入海流。欲穷千里目，更上一层楼。\n"
)
ROWS = [ENGLISH, CHINESE, "naïve café 🙈👩‍👩‍👧 don't\t<|user|>\r\n", "<0x41> ▁ <pad> 42"] * 4
KINDS = ("char", "byte", "bpe", "wordpiece", "unigram")
FITTED = {kind: Corpus(tokens=kind, vocabulary=600).fit([pa.array(ROWS)]) for kind in KINDS}
ANY = st.text(st.characters(exclude_categories=["Cs"]))
MIXED = st.lists(st.sampled_from([*ROWS, *"狗 \n\r\u2028\x1c🙈▁<x1>", "<|endoftext|>", "<|user|>"])).map(
    "".join
)


@pytest.mark.parametrize("kind", ["byte", "bpe", "unigram"])
@settings(max_examples=120, deadline=None)
@given(text=ANY | MIXED)
@example(text="<0x41><0xE4>")
def test_any_text_comes_back_and_its_bytes_are_counted(kind: str, text: str) -> None:
    field = FITTED[kind]
    ids = field.ids(text)
    assert field.decode([ids]) == [text]
    assert int(field.state["bytes"][ids].sum()) == len(text.encode())
    assert all(0 < one < field.layout.size for one in ids)
    assert field.state["end"] not in ids  # no text passes itself off as a special token


@settings(max_examples=100, deadline=None)
@given(text=MIXED | ANY)
def test_characters_come_back_up_to_unknown_ones(text: str) -> None:
    field, known = FITTED["char"], set("".join(ROWS))
    ids = field.ids(text)
    assert len(ids) == len(text)
    assert field.decode([ids]) == ["".join(c if c in known else "\ufffd" for c in text)]
    assert field.state["bytes"][ids].sum() == sum(len(c.encode()) for c in text if c in known)


def test_the_rarest_characters_are_unknown_and_counted() -> None:
    field = Corpus(tokens="char", vocabulary=5).fit([pa.array(["aab", "bac", "x"])])
    assert field.state["vocabulary"] == ["<pad>", "<unk>", "<|endoftext|>", "a", "b"]
    found = field.encode(pa.array(["ab", "cab", "", "axx", None]))
    assert found.values.tolist() == [3, 4, 2, 1, 3, 4, 2, 2, 3, 1, 1, 2, 2]
    assert found.lengths is not None
    assert found.lengths.tolist() == [3, 4, 1, 4, 1]
    assert found.changed["unknown"].tolist() == [1, 3]
    assert found.bad == {2: "no text", 4: "no text"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", [True, False])
def test_rows_are_whole_and_end_where_asked(kind: str, end: bool) -> None:
    field = Corpus(tokens=kind, vocabulary=600, length=8, end=end).fit([pa.array(ROWS)])
    long = ENGLISH * 50
    found = field.encode(pa.array([long, "To be"]))
    first = [*field.ids(long), *[field.state["end"]] * end]
    assert found.values.tolist() == [*first, *field.ids("To be"), *[field.state["end"]] * end]
    assert found.lengths is not None and found.lengths.tolist()[0] == len(first) > field.layout.length == 8
    assert found.values.dtype == np.uint16
    assert not found.changed and not found.bad


def test_a_foreign_tokenizer_that_breaks_down_is_an_error_of_one_line() -> None:
    tree = json.loads(learn("bpe", [["aaa b"]], 300, ["<pad>", "<end>"]))
    pattern = {"Regex": "(a+)+$"}
    tree["pre_tokenizer"] = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    tokenizer = Subwords(json.dumps(tree))
    with pytest.raises(UserError, match="breaks down on this text.*retry-limit"):
        tokenizer.ids("a" * 60 + "!")
    with pytest.raises(UserError, match="breaks down on this text.*retry-limit"):
        tokenizer.encode(["aaa", "a" * 60 + "!"])


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_count_only_where_they_are_asked_for(kind: str) -> None:
    field = Corpus(tokens=kind, vocabulary=600, specials=["<|user|>", "<|us"]).fit([pa.array(ROWS)])
    code = field.special_ids["<|user|>"]
    assert code not in field.ids("<|user|>To be")
    assert field.ids("<|user|>To be", special=True) == [code, *field.ids("To be")]
    assert field.encode(pa.array(["<|user|>To be"])).values.tolist()[0] == code
    assert field.decode([[code, *field.ids("To be"), 0, 0]]) == ["To be"]
    if kind != "wordpiece":
        assert field.decode([field.ids("To <|user|>be", True)], special=True) == ["To <|user|>be"]
    assert field.state["bytes"][code] == 0


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_learning_is_repeatable_and_does_not_see_chunks(kind: str) -> None:
    one = Corpus(tokens=kind, vocabulary=600).fit([pa.array(ROWS[:3]), pa.array(ROWS[3:])])
    assert one.state["tokenizer"] == FITTED[kind].state["tokenizer"]
    reference = tokenizers.Tokenizer.from_str(one.state["tokenizer"])
    reference.encode_special_tokens = True
    for row in ROWS:
        assert one.ids(row) == reference.encode(row, add_special_tokens=False).ids


def test_byte_pairs_are_what_gpt2_users_train() -> None:
    """Where no word is long, cutting Chinese runs for learning changes nothing: the library's own trainer agrees."""
    own = tokenizers.ByteLevelBPETokenizer()
    own.train_from_iterator(ROWS[0:1] * 3, vocab_size=400, special_tokens=["<pad>"], show_progress=False)
    learned = tokenizers.Tokenizer.from_str(learn("bpe", [ROWS[0:1]] * 3, 400, ["<pad>"]))
    assert learned.get_vocab() == own.get_vocab()


def test_no_token_holds_a_chinese_sentence() -> None:
    line = "春眠不觉晓处处闻啼鸟夜来风雨声花落知多少"
    field = Corpus(tokens="bpe", vocabulary=2000).fit([pa.array([line] * 50)])
    assert max(field.state["bytes"]) <= 4 * 3
    assert field.decode([field.ids(line)]) == [line]


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_chinese_comes_back(kind: str) -> None:
    assert FITTED[kind].decode([FITTED[kind].ids(CHINESE)]) == [
        CHINESE if kind == "unigram" else CHINESE.replace("\n", "")
    ]


def test_a_long_text_is_encoded_in_pieces_that_change_nothing() -> None:
    text = (ENGLISH + CHINESE + "!\x1c \x85 \u3000x\r\n ") * (3 * LONGEST // 200)
    assert len(text) > 2 * LONGEST
    reference = tokenizers.Tokenizer.from_str(FITTED["bpe"].state["tokenizer"])
    assert FITTED["bpe"].ids(text) == reference.encode(text).ids


def test_large_corpora_are_learned_from_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module._LEARN, "bpe", 4096 * 20)
    rows = [f"word{at // 1000} " * 50 for at in range(4000)]
    field = Corpus(tokens="bpe", vocabulary=300).fit([pa.array(rows)])
    vocabulary = tokenizers.Tokenizer.from_str(field.state["tokenizer"]).get_vocab()
    assert {"word", *"0123"} <= {token.removeprefix("Ġ") for token in vocabulary}
    assert sum(1 for _ in module._spread([pa.array(rows)], 20)) <= 21


# ------------------------------------------------------------------------------------------- tokenizer files
def test_a_tokenizer_file_is_kept_whole(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(learn("bpe", [ROWS], 500, ["<s>", "<|im_end|>"]), "utf-8")
    reference = tokenizers.Tokenizer.from_file(str(path))
    field = Corpus(tokens="file", tokenizer=path, specials=["<|tool|>"]).fit([])
    assert field.state["end"] == reference.token_to_id("<|im_end|>") == 1
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "<s>"}}))
    assert Corpus(tokens="file", tokenizer=path).fit([]).state["end"] == 0
    assert Corpus(tokens="file", tokenizer=path, end="<|im_end|>").fit([]).state["end"] == 1
    path.unlink()
    for row in ROWS:
        assert field.ids(row) == reference.encode(row).ids
        assert field.decode([field.ids(row)]) == [row]
    assert field.special_ids == {"<s>": 0, "<|im_end|>": 1, "<|tool|>": reference.get_vocab_size()}
    assert field.layout.size == reference.get_vocab_size() + 1


def test_lower_bar_tokenizers_count_a_space_as_one_byte(tmp_path: Path) -> None:
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.BPE({"<unk>": 0, "▁": 1, "a": 2, "▁a": 3}, [("▁", "a")], unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    tokenizer.decoder = tokenizers.decoders.Metaspace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    field = Corpus(tokens="file", tokenizer=tmp_path / "tokenizer.json", end=False).fit([])
    assert field.state["bytes"].tolist() == [0, 1, 1, 2]
    assert field.decode([field.ids("a aa")]) == ["a aa"]
    assert field.encode(pa.array(["a", "ab"])).changed["unknown"].tolist() == [1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no tokenizer.json"),
        ("[]", "is no tokenizer.json"),
        ('{"model": {"type": "X"}}', "is no"),
        (None, "o such"),
    ],
)
def test_broken_tokenizer_files_are_told_in_one_line(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "tokenizer.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        Corpus(tokens="file", tokenizer=path).fit([])
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    for bad, message in [
        ({"tokens": "bpe", "vocabulary": 200}, "needs at least 259"),
        ({"tokens": "file"}, "go together"),
        ({"tokenizer": tmp_path}, "go together"),
        ({"tokens": "char", "end": "</s>"}, "names a token of a tokenizer file"),
        ({"specials": ["<|user|>", "<|user|>"]}, "twice"),
        ({"specials": ["<pad>"]}, "twice"),
    ]:
        with pytest.raises(RecipeError, match=message):
            Corpus(**bad)
    path = tmp_path / "tokenizer.json"
    path.write_text(learn("bpe", [ROWS], 500, ["<x>"]), "utf-8")
    with pytest.raises(UserError, match="has no token"):
        Corpus(tokens="file", tokenizer=path).fit([])
    for kind in KINDS:
        with pytest.raises(DataError, match="no text"):
            Corpus(tokens=kind, vocabulary=600).fit([pa.array(["", None])])
