"""Field chat: what is said, who says it, and that nobody says what is not his to say."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworks.core.errors import UserError
from modelworks.core.profile import Profiler
from modelworks.fields._chat_template import CHATML, render
from modelworks.fields._messages import NoConversation, messages
from modelworks.fields.chat import Chat
from modelworks.fields.corpus import Corpus

TWO = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
CHAT = Chat(tokens="byte", template="chatml", specials=["<|im_start|>", "<|im_end|>"]).fit(
    [pa.array([json.dumps(TWO)])]
)


def rows(field: Chat, *values: object) -> list[np.ndarray]:
    encoded = field.encode(pa.array([json.dumps(value) for value in values]))
    assert not encoded.bad
    return np.split(encoded.values, np.cumsum(encoded.lengths)[:-1])


def answers(field: Chat, row: np.ndarray) -> str:
    return field.decode([~row[row < 0]], special=True)[0]


@pytest.mark.parametrize(
    "value",
    [TWO, [{"from": "human", "value": "one"}, {"from": "gpt", "value": "two"}], {"messages": TWO},
     {"instruction": "one", "input": "", "output": "two"}, {"prompt": "one", "completion": "two"},
     {"conversations": [{"from": "human", "value": "one"}], "chosen": {"from": "gpt", "value": "two"}},
     {"conversations": json.dumps(TWO[:1]), "chosen": json.dumps(TWO[1])}, [json.dumps(one) for one in TWO]],
)  # fmt: skip
def test_every_usual_form_is_read(value: object) -> None:
    assert messages(value) == messages(json.dumps(value)) == TWO


def test_alpacas_input_follows_its_instruction() -> None:
    assert messages({"instruction": "Add.", "input": "1 2", "output": "3"})[0]["content"] == "Add.\n\n1 2"
    said = messages({"q": "one", "a": "two"}, {"q": "user", "a": "assistant"})
    assert said == TWO


@pytest.mark.parametrize(
    "value", [None, "text", "[1]", {"x": 1}, [{"role": "king", "content": ""}], [{"role": "user"}]]
)
def test_what_is_none_is_told(value: object) -> None:
    with pytest.raises(NoConversation):
        messages(value)


def test_only_answers_count_and_each_of_them_does() -> None:
    (row,) = rows(
        CHAT, [*TWO, {"role": "user", "content": "three"}, {"role": "assistant", "content": "four"}]
    )
    assert answers(CHAT, row) == "two<|im_end|>\nfour<|im_end|>\n"
    assert CHAT.decode([row], special=True)[0] == render(CHATML, [*TWO, *messages([{"role": "user", "content": "three"},
                                                                                  {"role": "assistant", "content": "four"}])])  # fmt: skip
    last = CHAT.but(answers="last").adopt(CHAT)
    (row,) = rows(last, [*TWO, *TWO])
    assert answers(last, row) == "two<|im_end|>\n"


def test_a_plain_answer_ends_the_document() -> None:
    plain = Chat(tokens="byte").fit([pa.array([json.dumps(TWO)])])
    (row,) = rows(plain, TWO)
    assert plain.decode([row], special=True) == ["User: one\nAssistant: two\n<|endoftext|>"]
    assert answers(plain, row) == " two\n<|endoftext|>"


def test_training_and_asking_see_the_same_tokens() -> None:
    (row,) = rows(CHAT, TWO)
    assert row[row >= 0].tolist() == CHAT.prompt(TWO[:1])


@settings(max_examples=60, deadline=None)
@given(
    st.text(st.sampled_from("<|im_startend>\na "), max_size=30),
    st.sampled_from(["<|im_end|>", "<|im_start|>", "<pad>"]),
)
def test_what_is_said_never_becomes_a_special_token(text: str, attack: str) -> None:
    said = [
        {"role": "user", "content": attack + text + attack},
        {"role": "assistant", "content": f"x{text}{attack}y"},
    ]
    (row,) = rows(CHAT, said)
    ids = np.where(row < 0, ~row, row)
    for name, times in (("<|im_start|>", 2), ("<|im_end|>", 2), ("<pad>", 0)):
        assert (ids == CHAT.special_ids[name]).sum() == times
    assert CHAT.decode([row], special=True)[0] == render(CHATML, said)  # and nothing is lost


def test_long_conversations_are_cut_and_those_without_an_answer_left_out() -> None:
    short = Chat(tokens="byte", length=16).adopt(CHAT.corpus)
    encoded = short.encode(pa.array([json.dumps([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b" * 9}]),
                                     json.dumps([{"role": "user", "content": "a" * 30}, TWO[1]]), None, json.dumps(TWO[:1])]))  # fmt: skip
    assert encoded.lengths[1] >= 1
    assert "answer within 16 tokens" in encoded.bad[1]
    assert (encoded.bad[2], encoded.bad[3]) == ("is missing", "has no answer")
    longer = short.encode(
        pa.array([json.dumps([{"role": "user", "content": ""}, {"role": "assistant", "content": "b" * 90}])])
    )
    assert longer.lengths.tolist() == [16] or longer.bad


def test_a_template_that_rewrites_history_teaches_the_last_answer() -> None:
    field = CHAT.but(template="{% for m in messages %}{{ m.content if loop.last or m.role == 'user' else '…' }}|{% endfor %}"
                     "{{ '' if not add_generation_prompt else '' }}").adopt(CHAT)  # fmt: skip
    encoded = field.encode(pa.array([json.dumps([*TWO, *TWO])]))
    assert not encoded.bad
    assert encoded.changed[
        "only the last answer is learned: the template rewrites earlier ones"
    ].tolist() == [0]


@pytest.mark.parametrize(
    "template",
    ["{{ ''.__class__.__mro__ }}", "{% for i in range(10**9) %}{% endfor %}", "{{ 'a' * 10**10 }}", "{% include 'x' %}",
     "{{ raise_exception('no system message') }}", "{% for %}", "{{ messages[99].content }}"],
)  # fmt: skip
def test_templates_that_attack_or_fail_are_told_in_one_line(template: str) -> None:
    with pytest.raises(UserError, match="chat template"):
        render(template, TWO)


def test_a_column_of_conversations_is_recognised() -> None:
    def sure(values: list[object]) -> float:
        profiler = Profiler("x")
        profiler.update(pa.array(values))
        return Chat.recognise(profiler.result())

    assert sure([json.dumps(TWO)] * 3) > 0.9
    assert sure([[json.dumps(one) for one in TWO]] * 3) > 0.9
    assert sure(["plain text", json.dumps(TWO)]) == 0
    assert sure(['{"name": 1}']) == 0


def test_tokens_are_the_corpus_own() -> None:
    corpus = Corpus(tokens="byte").fit([pa.array(["x"])])
    field = Chat(tokens="byte").adopt(corpus)
    assert field.ids("One two") == corpus.ids("One two")
    assert field.layout.size == corpus.layout.size
    assert torch.equal(field.prepare(torch.tensor([5, ~7, 0])), torch.tensor([5, 7, 0]))
