"""Words and the entities among them: two fields that stay aligned without knowing of one another."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelworks.core.errors import DataError, UserError
from modelworks.core.profile import Profiler
from modelworks.fields.corpus import Corpus
from modelworks.fields.spans import Spans
from modelworks.fields.words import Words

SENTENCES = [
    ["the", "old", "dog", "the"],
    ["don't", "bark", "##x"],
    ["New York", "\u200b"],
    ["dogs", "barking"],
]
TAGS = [["O", "O", "B-A", "I-A"], ["S-B", "O", "O"], ["O", "B-A"], ["B-B", "E-B"]]


def split(encoded) -> list[np.ndarray]:
    return np.split(encoded.values, np.cumsum(encoded.lengths)[:-1])


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """The field with every kind of tokenizer."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    folder = tmp_path_factory.mktemp("tokenizers")
    texts = [" ".join(row) for row in SENTENCES] * 5
    bpe = tokenizers.Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=270, initial_alphabet=alphabet, show_progress=False)
    )
    bpe.save(str(folder / "bpe.json"))
    unigram = tokenizers.Tokenizer(models.Unigram())
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    unigram.decoder = decoders.Metaspace()
    unigram.train_from_iterator(
        texts,
        trainers.UnigramTrainer(
            vocab_size=40, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
        ),
    )
    unigram.save(str(folder / "unigram.json"))
    column = pa.array(SENTENCES)
    return {
        "learned": Words(tokens="wordpiece", vocabulary=60, length=99).fit([column]),
        "bpe": Words(tokens="file", tokenizer=folder / "bpe.json", length=99).fit([column]),
        "unigram": Words(tokens="file", tokenizer=folder / "unigram.json", length=99).fit([column]),
    }


@pytest.mark.parametrize("name", ["learned", "bpe", "unigram"])
def test_every_word_begins_once(pieces, name) -> None:
    field = pieces[name]
    encoded = field.encode(pa.array(SENTENCES))
    joins = np.asarray(field.state["joins"])
    assert not encoded.bad
    assert encoded.lengths.sum() > sum(map(len, SENTENCES))  # some words are in pieces
    for row, ids in zip(SENTENCES, split(encoded), strict=True):
        assert (joins[ids] == 0).sum() == len(row)
        assert joins[ids[0]] == 0
    assert field.decode(split(encoded)[:1])[0] == SENTENCES[0]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.text(min_size=1, max_size=6) | st.sampled_from(["##a", "▁", "Ġ", " ", "don't"]),
        min_size=1,
        max_size=5,
    )
)
def test_any_words_stay_aligned(pieces, row) -> None:
    for field in pieces.values():
        (ids,) = split(field.encode(pa.array([row])))
        assert (np.asarray(field.state["joins"])[ids] == 0).sum() == len(row)


def test_the_length_counts_pieces() -> None:
    field = Words(tokens="wordpiece", vocabulary=45).fit([pa.array(SENTENCES)])
    assert field.layout.length == field.encode(pa.array(SENTENCES)).lengths.max() > 4


def test_characters_and_unknown_words() -> None:
    field = Words().fit([pa.array([["北", "京"], ["北", "海"]])])
    encoded = field.encode(pa.array(["北山", None, ""]))
    assert encoded.values.tolist() == [2, 1, 1, 1]  # the commonest is 2; a text is cut as the lists were
    assert set(encoded.bad) == {1, 2}
    assert field.layout.length == 2
    assert field.encode(pa.array([["北"] * 5])).changed["truncated"].tolist() == [0]
    words = Words(cut="word").fit([pa.array(["It's a dog."])])
    assert words.decode(split(words.encode(pa.array(["It's a cat."]))))[0] == ["It's", "a", "\ufffd", "."]


def test_tags_of_any_scheme_become_one() -> None:
    field = Spans().fit([pa.array(TAGS)])
    assert field.types == ["A", "B"]
    encoded = field.encode(pa.array(TAGS))
    assert [row.tolist() for row in split(encoded)] == [[1, 1, 2, 3], [6, 1, 1], [1, 2], [6, 7]]
    full = Spans(scheme="bioes").fit([pa.array(TAGS)]).encode(pa.array(TAGS))
    assert [row.tolist() for row in split(full)] == [[1, 1, 2, 4], [9, 1, 1], [1, 5], [6, 8]]
    for found in (encoded, full):
        assert field.decode(split(found)) == [
            [{"start": 2, "end": 4, "type": "A"}],
            [{"start": 0, "end": 1, "type": "B"}],
            [{"start": 1, "end": 2, "type": "A"}],
            [{"start": 0, "end": 2, "type": "B"}],
        ]


def test_texts_of_tags_and_spans() -> None:
    field = Spans().fit([pa.array(["O B-A", "B-B"])])
    assert field.encode(pa.array(["O B-A I-A", '["B-B"]'])).values.tolist() == [1, 2, 3, 6]
    spans = Spans().fit([pa.array([[{"start": 1, "end": 3, "label": "A"}]])])
    given_ = ['[[2, 4, "A"], [0, 1, "A"]]', "[]", '[[0, 3, "A"], [2, 4, "A"]]', '[[0, 9, "new"]]']
    encoded = spans.encode(pa.array(given_))
    assert [row.tolist() for row in split(encoded)] == [[2, 1, 2, 3], [1], [2, 3, 3, 1], [1] * 9]
    assert encoded.changed["overlapping spans, the longest kept"].tolist() == [2]
    assert encoded.changed["unknown type"].tolist() == [3]


def test_what_is_no_tag_is_told() -> None:
    field = Spans().fit([pa.array(TAGS)])
    encoded = field.encode(pa.array([["NOUN"], None, ["B-A"]]))
    assert set(encoded.bad) == {0, 1}
    assert "'NOUN'" in encoded.bad[0]
    assert field.encode(pa.array([3])).bad
    assert field.encode(pa.array(['[[3, 1, "A"]]'])).bad
    assert field.encode(pa.array(['[[0, 1, "A"]]'])).bad  # spans where tags were learned
    with pytest.raises(DataError, match="no entity"):
        Spans().fit([pa.array([["O", "O"]])])


def profile(values, name="x"):
    profiler = Profiler(name)
    profiler.update(pa.array(values))
    return profiler.result()


def test_recognised_for_what_they_are() -> None:
    sentences, genres = profile(SENTENCES), profile([["drama", "war"], ["comedy"]])
    tags = profile([["O"] * 60 + ["B-location"], ["O", "B-PER"]])
    assert Words.recognise(sentences) > 0.9 > Words.recognise(genres)
    assert Spans.recognise(tags) > Words.recognise(tags)
    assert Spans.recognise(sentences) == Spans.recognise(genres) == 0


TEXTS = ["the old dog", "dogs barking at the dog", "dont bark"] * 5


def adopted(kind: str, **more) -> tuple[Corpus, Words]:
    corpus = Corpus(tokens=kind, vocabulary=300, specials=["[MASK]"]).fit([pa.array(TEXTS)])
    settings = Words.inherited(corpus, False)
    return corpus, Words(**{name: value for name, value in settings.items() if name != "kind"}, **more).adopt(
        corpus
    )


def test_words_of_one_character_are_a_corpuss_characters() -> None:
    corpus, words = adopted("char")
    assert words.layout.size == corpus.layout.size
    listed, text = words.encode(pa.array([list("the dog")])), words.encode(pa.array(["the dog"]))
    assert listed.values.tolist() == text.values.tolist() == corpus.ids("the dog")
    # Nothing but a character is known, least of all what looks like a special token.
    assert words.encode(pa.array([["dog", "[MASK]", "<|endoftext|>", "d"]])).values.tolist() == [
        1, 1, 1, *corpus.ids("d")
    ]  # fmt: skip
    assert words.decode([words.encode(pa.array(["dog"])).values]) == [list("dog")]


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_words_in_pieces_are_those_of_a_corpus(kind: str) -> None:
    corpus, words = adopted(kind)
    assert words.layout.size == corpus.layout.size
    row = ["dogs", "barking", "at", "the", "dog"]
    ids = words.encode(pa.array([row])).values
    text = " ".join(row) if kind == "wordpiece" else " " + " ".join(row)
    assert ids.tolist() == corpus.ids(text)
    assert (~words.state["joins"].astype(bool)[ids]).sum() == len(row)
    assert words.decode([ids]) == [row]


@pytest.mark.parametrize("kind", ["byte", "unigram"])
def test_tokens_that_hide_where_words_begin_are_refused(kind: str) -> None:
    with pytest.raises(UserError, match="words cannot be told apart"):
        Words.inherited(Corpus(tokens=kind, vocabulary=400), False)


def test_words_learn_byte_pairs() -> None:
    words = Words(tokens="bpe", vocabulary=300).fit([pa.array(SENTENCES * 5)])
    rows = [
        row for row in SENTENCES if "New York" not in row
    ]  # of a word with a space the second part is lost
    assert words.decode([words.encode(pa.array([row])).values for row in rows]) == rows


def test_spans_of_json_lines_come_as_texts() -> None:
    spans = [
        [{"start": 0, "end": 2, "label": "A"}, {"start": 3, "end": 4, "label": "B"}],
        [{"start": 1, "end": 2, "label": "A"}],
    ]
    texts = [[json.dumps(one) for one in row] for row in spans]
    fields = [Spans().fit([pa.array(column)]) for column in (spans, texts)]
    one, other = (
        field.encode(pa.array(column)) for field, column in zip(fields, (spans, texts), strict=True)
    )
    assert one.values.tolist() == other.values.tolist()
    assert Spans().fit([pa.array(texts)]).encode(pa.array([["{broken"]])).bad
