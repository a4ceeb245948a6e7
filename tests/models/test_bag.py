"""bag against sums and means computed word by word."""

from __future__ import annotations

import torch
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.preprocessing import normalize

from modelworks.core.field import Layout
from modelworks.layers.ngrams import MOST_ROWS
from modelworks.models.bag import GAIN, Bag

torch.set_num_threads(1)
TEXT = {"x": Layout("tokens", (), size=30, length=8)}
BATCH = {"x": torch.tensor([[4, 9, 4, 7], [9, 4, 0, 0], [3, 0, 0, 0]]), "x.length": torch.tensor([4, 2, 1])}


def test_single_words_are_averaged() -> None:
    network = Bag(dropout=0, width=5, ngrams=1, combine="mean").build(TEXT)
    table = network.vectors.weight
    wanted = torch.stack([table[[4, 9, 4, 7]].mean(0), table[[9, 4]].mean(0), table[3]])
    torch.testing.assert_close(network(BATCH), wanted)


def test_presence_counts_each_word_once_in_a_vector_of_unit_length() -> None:
    """The features are a linear map of scikit-learn's binary, L2-normalised counts."""
    network = Bag(dropout=0, width=5, ngrams=1).build(TEXT)
    table = network.vectors.weight
    counts = CountVectorizer(analyzer=str.split, vocabulary=[str(code) for code in range(30)], binary=True)
    unit_BN = normalize(counts.fit_transform(["4 9 4 7", "9 4", "3"]).toarray().astype("float32"))
    torch.testing.assert_close(network(BATCH), GAIN * torch.from_numpy(unit_BN) @ table)


def test_presence_counts_each_pair_once() -> None:
    network = Bag(dropout=0, width=5, ngrams=2, buckets=1000).build(TEXT)
    (runs_BT,) = network.runs(torch.tensor([[4, 9, 4, 9]]))
    assert runs_BT[0, 0] == runs_BT[0, 2]
    table = network.vectors.weight
    wanted = table[[4, 9, int(runs_BT[0, 0]), int(runs_BT[0, 1])]].sum(0) * GAIN / 2
    torch.testing.assert_close(network({"x": torch.tensor([[4, 9, 4, 9]])})[0], wanted)


def test_padding_changes_nothing() -> None:
    network = Bag(dropout=0, width=5).build(TEXT)
    padded = {"x": torch.tensor([[9, 4, 7, 0, 0, 0]]), "x.length": torch.tensor([3])}
    torch.testing.assert_close(network(padded), network({"x": torch.tensor([[9, 4, 7]])}))


def test_the_table_follows_the_vocabulary() -> None:
    for size, rows in ((30, 30 + 64 * 30), (20_000, 20_000 + MOST_ROWS)):
        assert Bag().build({"x": Layout("tokens", size=size)}).vectors.num_embeddings == rows
    assert Bag(ngrams=1).build(TEXT).vectors.num_embeddings == 30


def test_pairs_join_the_mean() -> None:
    network = Bag(dropout=0, width=5, ngrams=2, buckets=1000, combine="mean").build(TEXT)
    (runs_BT,) = network.runs(BATCH["x"])
    assert (runs_BT[0] >= 30).all()
    assert runs_BT[1, 1:].tolist() == [0, 0]  # runs that touch padding do not count
    table = network.vectors.weight
    wanted = torch.cat((table[[4, 9, 4, 7]], table[runs_BT[0]])).mean(0)
    torch.testing.assert_close(network(BATCH)[0], wanted)
    torch.testing.assert_close(
        network(BATCH)[1], torch.stack((table[9], table[4], table[runs_BT[1, 0]])).mean(0)
    )


def test_order_is_seen_by_pairs_only() -> None:
    ahead, back = {"x": torch.tensor([[4, 9, 7]])}, {"x": torch.tensor([[7, 9, 4]])}
    for ngrams, same in ((1, True), (2, False), (3, False)):
        network = Bag(dropout=0, width=5, ngrams=ngrams).build(TEXT)
        assert torch.allclose(network(ahead), network(back)) == same


def test_runs_spread_over_the_buckets() -> None:
    """All pairs of 299 words fill no fewer of 50,000 buckets than a random hash would, 41,600 of them."""
    network = Bag(dropout=0, width=1, ngrams=2, buckets=50_000).build(
        {"x": Layout("tokens", (), size=300, length=8)}
    )
    pairs = torch.cartesian_prod(torch.arange(1, 300), torch.arange(1, 300))
    (run_BT,) = network.runs(pairs)
    expected = 50_000 * (1 - (1 - 1 / 50_000) ** len(pairs))
    assert run_BT.unique().numel() > 0.98 * expected
    assert run_BT.min() >= 300
    assert run_BT.max() < 300 + 50_000


def test_triples_are_not_pairs() -> None:
    network = Bag(dropout=0, width=1, ngrams=3, buckets=100_000).build(TEXT)
    pairs, triples = network.runs(torch.tensor([[4, 9, 7, 5]]))
    assert pairs.shape == (1, 3)
    assert triples.shape == (1, 2)
    assert not set(pairs[0].tolist()) & set(triples[0].tolist())
