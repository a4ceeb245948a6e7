"""Continuous batching: whatever comes, goes or is shared, each text is the one that Generator writes alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworks.core.errors import UserError
from modelworks.engine.language.continuous import Batcher, Output, Request
from modelworks.engine.language.generate import Completion, Generator
from modelworks.engine.language.pack import pack
from modelworks.engine.language.prefixes import Prefixes
from modelworks.engine.language.sampling import Sampling
from modelworks.layers.look import BLOCK

GREEDY = Sampling(temperature=0, max_tokens=12, lookup=0)


def written(outputs: list[Output]) -> dict[Any, Completion]:
    """What each request got in all."""
    found: dict[Any, Completion] = {}
    for output in outputs:
        chunk, old = output.chunk, found.get(output.id, Completion("", (), ""))
        found[output.id] = Completion(
            old.text + chunk.text, old.ids + chunk.ids, chunk.reason, old.logprobs + chunk.logprobs
        )
    return found


def finish(batcher: Batcher) -> dict[Any, Completion]:
    outputs: list[Output] = []
    while batcher.busy:
        outputs += batcher.step()
    return written(outputs)


def random_prompts(counts: list[int], size: int, seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, size, (count,), generator=generator).tolist() for count in counts]


@given(st.data(), st.integers(0, 3))
@settings(max_examples=10, deadline=None)
def test_each_text_is_the_one_written_alone(language_model: Any, data: Any, seed: int) -> None:
    network, field = language_model(
        seed=seed, length=200,
        positions=data.draw(st.sampled_from(["rope", "alibi", "learned", "sinusoidal"])),
        window=data.draw(st.sampled_from([None, 5, 70])),
        ngrams=data.draw(st.sampled_from([1, 3])),
    )  # fmt: skip
    batcher = Batcher(network, field, slots=3)
    prompts = random_prompts(
        data.draw(st.lists(st.integers(1, 150), min_size=2, max_size=6)), field.layout.size, seed
    )
    samplings = [
        data.draw(st.sampled_from([
            GREEDY, GREEDY.but(logprobs=True), Sampling(max_tokens=9, seed=4, top_p=0.9, lookup=0),
            Sampling(max_tokens=5, repetition_penalty=1.3, seed=2), GREEDY.but(logit_bias={3: 4.0}), GREEDY.but(stop=("ab", "c")),
        ]))
        for _ in prompts
    ]  # fmt: skip
    outputs: list[Output] = []
    for number, (prompt, sampling) in enumerate(zip(prompts, samplings, strict=True)):
        batcher.submit(Request(number, prompt, sampling, number))
        for _ in range(data.draw(st.integers(0, 4))):
            outputs += batcher.step()
    while batcher.busy:
        outputs += batcher.step()
    found = written(outputs)
    for number, (prompt, sampling) in enumerate(zip(prompts, samplings, strict=True)):
        (alone,) = Generator(network, field).generate([prompt], sampling, numbers=[number])
        assert found[number].ids == alone.ids
        assert (found[number].text, found[number].reason) == (alone.text, alone.reason)
        torch.testing.assert_close(torch.tensor(found[number].logprobs), torch.tensor(alone.logprobs))


@pytest.mark.parametrize("weights", ["float32", "bfloat16"])
def test_packed_networks_too_and_copied_beginnings_change_nothing(language_model: Any, weights: Any) -> None:
    network, field = language_model(length=400)
    pack(network.float(), weights)
    prompts = random_prompts([5, 64, 65, 130, 200, 37], field.layout.size)
    sampling = GREEDY.but(ignore_end=True)
    batcher = Batcher(network, field, slots=4)
    for _ in range(2):  # the second time blocks are copied
        for number, prompt in enumerate(prompts):
            batcher.submit(Request(number, prompt, sampling))
        found = finish(batcher)
        for number, prompt in enumerate(prompts):
            assert found[number] == Generator(network, field).generate([prompt], sampling)[0]
    assert batcher.counts.reused == 64 + 2 * 64 + 3 * 64
    assert batcher.counts.hits == 3


def test_a_shared_beginning_is_read_once(language_model: Any) -> None:
    network, field = language_model(length=400)
    batcher = Batcher(network, field, slots=4)
    (shared,) = random_prompts([3 * BLOCK + 10], field.layout.size)
    for number in range(4):  # at the same time: the second copies what the first has just read
        batcher.submit(Request(number, [*shared, 3 + number], GREEDY))
    found = finish(batcher)
    assert batcher.counts.read < 2 * len(shared)
    assert batcher.counts.read + batcher.counts.reused == 4 * (len(shared) + 1)
    for number in range(4):
        (alone,) = Generator(network, field).generate([[*shared, 3 + number]], GREEDY)
        assert found[number] == alone


def test_prefixes_stay_within_their_bound_and_forget_the_oldest() -> None:
    prefixes = Prefixes(most=3 * 40)
    block = torch.zeros(10)
    first = prefixes.keep(0, [1], block)
    second = prefixes.keep(first, [2], block)
    other = prefixes.keep(0, [7], block)
    prefixes.use([(0, (1,)), (first, (2,))])
    prefixes.keep(other, [8], block)
    assert prefixes.bytes == 120
    assert prefixes.find(0, [7]) is None  # used longest ago
    assert prefixes.find(0, [1]) is not None
    prefixes.keep(second, [3], block)
    assert prefixes.find(first, [2]) is None  # before the one that it leans on
    assert prefixes.find(0, [1]) is not None
    assert prefixes.keep(0, [9], torch.zeros(1000)) == 0
    assert prefixes.bytes == 120


def test_a_cancelled_request_frees_its_slot_at_once(language_model: Any) -> None:
    network, field = language_model()
    batcher = Batcher(network, field, slots=1)
    batcher.submit(Request("a", [3, 4], GREEDY.but(max_tokens=50, ignore_end=True)))
    batcher.submit(Request("b", [5], GREEDY))
    batcher.submit(Request("c", [6], GREEDY))
    batcher.step()
    assert batcher.cancel("a") and batcher.cancel("c") and not batcher.cancel("a")
    assert batcher.active == 0
    found = finish(batcher)
    assert list(found) == ["b"]
    assert found["b"] == Generator(network, field).generate([[5]], GREEDY)[0]
    assert batcher.counts.cancelled == 2


def test_a_long_prompt_does_not_stall_the_others(language_model: Any) -> None:
    network, field = language_model(length=800)
    batcher = Batcher(network, field, slots=2)
    batcher.submit(Request("short", [3, 4], GREEDY.but(max_tokens=60, ignore_end=True)))
    batcher.step()
    (long,) = random_prompts([700], field.layout.size)
    batcher.submit(Request("long", long, GREEDY))
    for _ in range(700 // BLOCK):
        assert "short" in {output.id for output in batcher.step()}
    assert batcher.counts.read == 2 + 700 // BLOCK * BLOCK


def test_the_likeliest_tokens_are_told(language_model: Any) -> None:
    network, field = language_model()
    batcher = Batcher(network, field)
    batcher.submit(Request(0, [3, 4, 5], GREEDY.but(logprobs=True, max_tokens=3), top=4))
    outputs: list[Output] = []
    while batcher.busy:
        outputs += batcher.step()
    for output in outputs:
        (best,) = output.top
        assert best[0] == (output.chunk.ids[0], output.chunk.logprobs[0])
        assert [value for _, value in best] == sorted((value for _, value in best), reverse=True)
        assert len(best) == 4


def test_answers_obey_a_schema_beside_free_ones(language_model: Any) -> None:
    pytest.importorskip("llguidance")
    network, field = language_model('{}[]":,.0123456789truefalsn abcde', length=120)
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]} | {
        "additionalProperties": False
    }
    batcher = Batcher(network, field)
    bound = GREEDY.but(max_tokens=40, json_schema=json.dumps(schema))
    for number in range(4):
        batcher.submit(Request(number, [5, 6], bound if number % 2 else GREEDY))
    found = finish(batcher)
    assert set(json.loads(found[1].text)) == {"a"}
    assert found[3] == found[1]
    assert found[0] == Generator(network, field).generate([[5, 6]], GREEDY)[0]


def test_what_cannot_be_answered_is_said_at_once(language_model: Any) -> None:
    network, field = language_model(length=64)
    batcher = Batcher(network, field, context=32)
    with pytest.raises(UserError, match="40 tokens, and there is room for 32"):
        batcher.submit(Request(0, [3] * 40, GREEDY))
    with pytest.raises(UserError, match="logit_bias"):
        batcher.submit(Request(0, [3], GREEDY.but(logit_bias={999: 1.0})))
    assert not batcher.busy
    assert batcher.bytes == batcher.slots.bytes + (256 << 20)
