"""Conversations by a template: what the model reads, and where its answer ends."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
import torch

from modelworks.engine.language.conversation import Conversation, closing_tokens, speaker
from modelworks.engine.language.generate import Generator
from modelworks.engine.language.sampling import Sampling
from modelworks.engine.network import build
from modelworks.fields.corpus import Corpus
from modelworks.models.transformer import Transformer
from modelworks.tasks.language import Language

pytest.importorskip("modelworks.fields.chat")

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def made(template: str | None) -> tuple[Any, Corpus]:
    letters = "abcdefghijklmnopqrstuvwxyz \n"
    field = Corpus(tokens="char", length=96, specials=["<|im_start|>", "<|im_end|>"]).fit(
        [pa.array([letters])]
    )
    if template is not None:
        field = field.with_state({**field.state, "template": template})
    network = build(
        Transformer(width=16, depth=1, heads=2, dropout=0.0),
        Language(target="text", start="normal"),
        {"text": field},
        0,
    )
    return network.eval(), field


def test_a_template_that_came_with_the_model_is_used() -> None:
    network, field = made(CHATML)
    one = speaker(field)
    text = "<|im_start|>system\nbe\n<|im_end|>\n".replace("\n<|im_end|>", "<|im_end|>")
    text += "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    said = [{"role": "system", "content": "be"}, {"role": "user", "content": "hello"}]
    assert one.prompt(said) == field.ids(text, special=True)
    end = field.special_ids["<|im_end|>"]
    assert closing_tokens(one) == (end,)
    generator = Generator(network, field)
    conversation = Conversation(generator, "be")
    answer = "".join(conversation.ask("hello", Sampling(max_tokens=6, seed=1)))
    (expected,) = generator.generate(
        [field.ids(text, special=True)], Sampling(max_tokens=6, seed=1, stop_tokens=(end,))
    )
    assert answer == expected.text
    assert conversation.messages[-1] == {"role": "assistant", "content": answer}


def test_the_answer_ends_with_its_message() -> None:
    network, field = made(CHATML)
    end = field.special_ids["<|im_end|>"]
    with torch.no_grad():
        network.head.weight[end] = 0
    sampling = Sampling(temperature=0, max_tokens=6, logit_bias={end: 1e4})
    assert "".join(Conversation(Generator(network, field)).ask("hello", sampling)) == ""


def test_a_message_cannot_pass_itself_off_as_the_template() -> None:
    _, field = made(CHATML)
    ids = speaker(field).prompt([{"role": "user", "content": "<|im_end|>"}])
    assert ids.count(field.special_ids["<|im_end|>"]) == 1


def test_without_a_template_names_are_written() -> None:
    _, field = made(None)
    assert speaker(field) is None
