"""Generation against the network read from the start for every token; what batches, caches and guesses must not change."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworks.core.errors import UserError
from modelworks.engine.language.generate import Generator
from modelworks.engine.language.sampling import Sampling
from modelworks.engine.language.speculate import Lookup


@torch.no_grad()
def plainly(network: Any, ids: list[int], steps: int, end: int = -1) -> list[int]:
    """Greedy continuation without a cache."""
    ids = list(ids)
    start = len(ids)
    while len(ids) - start < steps and (len(ids) == start or ids[-1] != end):
        logits = network.head.logits(network.model({"text": torch.tensor([ids])}))
        ids.append(int(logits[0, -1].argmax()))
    return ids[start:]


def prompts_of(data: Any, size: int, rows: int, longest: int = 12) -> list[list[int]]:
    return data.draw(
        st.lists(st.lists(st.integers(1, size - 1), min_size=1, max_size=longest), min_size=1, max_size=rows)
    )


GREEDY = Sampling(temperature=0, max_tokens=12)


@given(st.data(), st.integers(0, 5))
@settings(max_examples=12, deadline=None)
def test_greedy_equals_the_plain_network_row_by_row(language_model: Any, data: Any, seed: int) -> None:
    network, field = language_model(seed=seed)
    prompts = prompts_of(data, field.layout.size, 4)
    answers = Generator(network, field).generate(prompts, GREEDY)
    end = field.state["end"]
    for prompt, answer in zip(prompts, answers, strict=True):
        assert list(answer.ids) == plainly(network, prompt, 12, end)
        assert answer.reason == ("end" if answer.ids[-1] == end else "length")


@given(st.data(), st.integers(0, 5), st.booleans())
@settings(max_examples=12, deadline=None)
def test_a_row_is_the_same_in_any_batch(language_model: Any, data: Any, seed: int, penalised: bool) -> None:
    network, field = language_model(seed=seed)
    prompts = prompts_of(data, field.layout.size, 4)
    sampling = Sampling(max_tokens=10, seed=seed, top_p=0.95, repetition_penalty=1.2 if penalised else 1.0)
    together = Generator(network, field).generate(prompts, sampling)
    for number, prompt in enumerate(prompts):
        (alone,) = Generator(network, field).generate([prompt], sampling, numbers=[number])
        assert alone == together[number]


@given(st.data(), st.integers(0, 5), st.sampled_from([0.0, 0.8]), st.booleans())
@settings(max_examples=20, deadline=None)
def test_guesses_never_change_the_answer(
    language_model: Any, data: Any, seed: int, temperature: float, drafted: bool
) -> None:
    network, field = language_model(seed=seed)
    # Half of the time the draft is the network itself: all is taken; else another, and little is.
    draft = language_model(seed=data.draw(st.sampled_from([seed, seed + 1])))[0] if drafted else None
    prompts = prompts_of(data, field.layout.size, 3)
    sampling = Sampling(
        temperature=temperature,
        max_tokens=20,
        seed=1,
        frequency_penalty=0.1,
        ignore_end=data.draw(st.booleans()),
    )
    plain = Generator(network, field).generate(prompts, sampling.but(lookup=0))
    guesser = Generator(network, field, draft)
    guessed = guesser.generate(prompts, sampling.but(lookup=5, draft=3))
    assert guessed == plain
    assert guesser.counts.accepted <= guesser.counts.guessed


def test_a_perfect_draft_saves_passes(language_model: Any) -> None:
    network, field = language_model()
    generator = Generator(network, field, language_model()[0])
    sampling = Sampling(temperature=0, max_tokens=25, draft=4, ignore_end=True)
    generator.generate([[3, 4, 5]], sampling)
    assert generator.counts.passes == 1 + 5  # the prompt's, then five tokens each: 1 + 24
    assert generator.counts.accepted == generator.counts.guessed


def test_lookup_guesses_what_followed_the_same_words() -> None:
    assert Lookup([1, 2, 3, 4, 9, 1, 2, 3]).guess(2) == [4, 9]
    assert Lookup([7, 2, 3, 5, 1, 2, 3, 6, 7, 2, 3]).guess(3) == [5, 1, 2]  # the longer match, 7 2 3
    assert Lookup([1, 2, 3]).guess(4) == []


def test_lookup_saves_passes_where_a_text_repeats(language_model: Any) -> None:
    network, field = language_model()
    with (
        torch.no_grad()
    ):  # no attention, so the next token depends on this one alone: greedy text runs in a circle
        for block in network.model.blocks:
            block.attention.out.weight.zero_()
    sampling = Sampling(temperature=0, max_tokens=40, ignore_end=True)
    plain, guessing = Generator(network, field), Generator(network, field)
    assert plain.generate([[3]], sampling.but(lookup=0)) == guessing.generate([[3]], sampling.but(lookup=8))
    assert guessing.counts.passes < plain.counts.passes / 2


def test_a_greedy_row_looks_up_unless_told_otherwise(language_model: Any) -> None:
    network, field = language_model()
    greedy = Sampling(temperature=0, max_tokens=40, ignore_end=True)
    for prompts, sampling, guesses in (
        ([[3]], greedy, True), ([[3]], greedy.but(lookup=0), False), ([[3], [4]], greedy, False),
        ([[3]], greedy.but(temperature=0.5), False), ([[3]], greedy.but(temperature=0.5, lookup=3), True),
    ):  # fmt: skip
        generator = Generator(network, field)
        generator.generate([prompt * 4 for prompt in prompts], sampling)  # what is repeated can be looked up
        assert bool(generator.counts.guessed) == guesses


def test_what_was_read_before_is_not_read_again(language_model: Any) -> None:
    network, field = language_model()
    generator = Generator(network, field)
    prompt = [3, 4, 5, 6, 7, 8]
    (first,) = generator.generate([prompt], GREEDY.but(ignore_end=True))
    assert (generator.counts.read, generator.counts.reused) == (6, 0)
    longer = [*prompt, *first.ids, 3, 4]
    more = [longer, [*prompt, 9]]  # two rows from the one that was kept
    again = generator.generate(more, GREEDY)
    assert generator.counts.reused == 6 + 11 + 6  # the last token written had not been read
    assert generator.counts.read == 6 + 3 + 1
    assert again == Generator(network, field).generate(more, GREEDY)


def test_the_same_prompt_again_gives_the_same_answer(language_model: Any) -> None:
    network, field = language_model()
    generator = Generator(network, field)
    once = generator.generate([[3, 4, 5]], GREEDY)
    assert generator.generate([[3, 4, 5]], GREEDY) == once
    assert generator.counts.reused == 2  # all but the last token, whose features choose the next


def test_a_stream_left_early_keeps_the_cache_sound(language_model: Any) -> None:
    network, field = language_model()
    generator = Generator(network, field)
    stream = generator.stream([[3, 4, 5]], GREEDY)
    next(stream)
    next(stream)
    stream.close()
    longer = [3, 4, 5, 6, 7]
    assert generator.generate([longer], GREEDY) == Generator(network, field).generate([longer], GREEDY)


def test_two_streams_at_once_do_not_disturb_each_other(language_model: Any) -> None:
    network, field = language_model()
    generator = Generator(network, field)
    generator.generate([[3, 4]], GREEDY)
    one, two = generator.stream([[3, 4, 5]], GREEDY), generator.stream([[3, 4, 6]], GREEDY)
    pairs = list(zip(one, two, strict=False))
    expected = [Generator(network, field).generate([p], GREEDY)[0].ids for p in ([3, 4, 5], [3, 4, 6])]
    for at in range(2):
        got = tuple(token for pair in pairs for token in pair[at].ids)
        assert got == expected[at][: len(got)]
        assert len(got) > 1


def test_long_prompts_are_read_in_pieces(language_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    network, field = language_model()
    prompts = [[3, 4, 5, 6, 7, 8, 9, 3, 4], [5], [6, 7]]
    whole = Generator(network, field).generate(prompts, GREEDY)
    monkeypatch.setattr("modelworks.engine.language.generate.PIECE", 6)
    assert Generator(network, field).generate(prompts, GREEDY) == whole


def test_rows_end_for_their_own_reasons(language_model: Any) -> None:
    network, field = language_model(length=16)
    generator = Generator(network, field)
    prompts = [[3] * 4, [4] * 14, [5] * 9]
    free = generator.generate(prompts, Sampling(temperature=0, max_tokens=8, ignore_end=True))
    assert [len(answer.ids) for answer in free] == [8, 2, 7]  # 16 is the context
    assert {answer.reason for answer in free} == {"length"}
    stop = free[0].ids[3]
    sampling = Sampling(temperature=0, max_tokens=8, ignore_end=True, stop_tokens=(stop,))
    stopped = generator.generate(prompts[:1], sampling)[0]
    assert stopped.reason == "stop"
    assert stopped.ids == free[0].ids[: free[0].ids.index(stop) + 1]


def test_stop_strings_cut_the_text_across_tokens(language_model: Any) -> None:
    network, field = language_model("abcdefgh", end=False)
    prompt = field.ids("abc")
    (free,) = Generator(network, field).generate([prompt], GREEDY)
    assert free.text == field.decode([free.ids])[0]
    stop = free.text[5:8]
    (cut,) = Generator(network, field).generate([prompt], GREEDY.but(stop=(stop, "zzz")))
    assert cut.text == free.text[: free.text.index(stop)]
    assert cut.reason == "stop"


def test_logprobs_are_those_of_the_network(language_model: Any) -> None:
    network, field = language_model()
    prompt = [3, 4, 5]
    sampling = Sampling(max_tokens=6, top_k=3, logprobs=True, ignore_end=True, seed=2)
    (answer,) = Generator(network, field).generate([prompt], sampling)
    with torch.no_grad():
        logits = network.head.logits(network.model({"text": torch.tensor([[*prompt, *answer.ids]])}))
    expected = logits[0, 2:-1].log_softmax(-1).gather(1, torch.tensor(answer.ids)[:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(answer.logprobs), expected, atol=1e-5, rtol=1e-5)


def test_what_cannot_be_continued_is_said(language_model: Any) -> None:
    network, field = language_model(length=8)
    generator = Generator(network, field)
    with pytest.raises(UserError, match="prompt 1 has 8 tokens, and the model's context is 8"):
        generator.stream([[3], [3] * 8])
    with pytest.raises(UserError, match="outside"):
        generator.stream([[99]])
    with pytest.raises(UserError, match="logit_bias: there is no token 99"):
        generator.stream([[3]], Sampling(logit_bias={99: 1.0}))
    assert generator.generate([[]], Sampling(max_tokens=1))[0].ids  # begins as a document does
    network, field = language_model(end=False)
    with pytest.raises(UserError, match="prompt 0 is empty"):
        Generator(network, field).stream([[]])
    with pytest.raises(UserError, match="no language model"):
        Generator(torch.nn.Linear(1, 1), field)
