"""Constrained answers of networks with random weights: valid by json and jsonschema-like checks, full matches by re."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from modelworks.core.errors import UserError
from modelworks.engine.language.constrain import token_bytes
from modelworks.engine.language.generate import Generator
from modelworks.engine.language.sampling import Sampling

pytest.importorskip("llguidance")

ALPHABET = 'abcdefghijklmnopqrstuvwxyz0123456789{}[]":,.- '
SCHEMA = json.dumps({
    "type": "object",
    "properties": {"mood": {"enum": ["good", "bad"]}, "stars": {"type": "integer", "minimum": 1, "maximum": 5}},
    "required": ["mood", "stars"],
    "additionalProperties": False,
})  # fmt: skip


@pytest.mark.parametrize("tokens", ["char", "byte", "bpe"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_answers_obey_the_schema(tokens: str, temperature: float, language_model: Any) -> None:
    if tokens == "bpe":
        pytest.importorskip("tokenizers")
    network, field = language_model(ALPHABET * 20, tokens=tokens, length=96)
    sampling = Sampling(temperature=temperature, json_schema=SCHEMA, max_tokens=80)
    answers = Generator(network, field).generate([field.ids("a b"), field.ids("c"), field.ids("d")], sampling)
    for answer in answers:
        found = json.loads(answer.text)
        assert set(found) == {"mood", "stars"}
        assert found["mood"] in ("good", "bad")
        assert found["stars"] in (1, 2, 3, 4, 5)
        assert answer.reason in ("grammar", "end")


@pytest.mark.parametrize("expression", [r"\d{3}-[a-f]{2,4}", r"(yes|no)( maybe)?", "[a-c]+x"])
@pytest.mark.parametrize("end", [True, False])
def test_answers_match_the_expression(expression: str, end: bool, language_model: Any) -> None:
    network, field = language_model(ALPHABET, end=end)
    for seed in range(3):
        sampling = Sampling(regex=expression, max_tokens=40, seed=seed)
        (answer,) = Generator(network, field).generate([[5]], sampling)
        if answer.reason == "length":  # it never chose to stop
            assert re.match(r"[a-c]+$", answer.text)
        else:
            assert re.fullmatch(expression, answer.text)


def test_guesses_do_not_change_constrained_answers(language_model: Any) -> None:
    network, field = language_model(ALPHABET, length=96)
    sampling = Sampling(temperature=0.7, json_schema=SCHEMA, max_tokens=80)
    prompts = [field.ids('{"mood":"good","stars":1} {"mood":"bad",'), field.ids("q")]
    plain = Generator(network, field).generate(prompts, sampling)
    guessing = Generator(network, field)
    assert guessing.generate(prompts, sampling.but(lookup=6)) == plain
    assert guessing.counts.accepted > 0


@pytest.mark.parametrize("tokens", ["char", "byte", "bpe", "unigram"])
def test_bytes_of_tokens_join_to_the_text(tokens: str, language_model: Any) -> None:
    if tokens in ("bpe", "unigram"):
        pytest.importorskip("tokenizers")
    text = "h\u00e9llo w\u00f6rld, \u4f60\u597d \U0001f600 again h\u00e9llo"
    _, field = language_model(text * 3, tokens=tokens)
    written = token_bytes(field)
    assert b"".join(written[token] for token in field.ids(text)).decode() == text
    assert [len(one) for one in written] == field.state["bytes"].tolist()


def test_what_cannot_be_obeyed_is_said(language_model: Any) -> None:
    network, field = language_model("abc")
    generator = Generator(network, field)
    for changes, words in [
        ({"json_schema": "{"}, "not JSON"),
        ({"json_schema": "3"}, "not a schema"),
        ({"json_schema": '{"type": "thing"}'}, "JSON schema cannot be used"),
        ({"regex": "(a"}, "regular expression cannot be used"),
        ({"regex": "a", "json_schema": "{}"}, "one of them"),
    ]:
        with pytest.raises(UserError, match=words):
            generator.stream([[3]], Sampling(**changes))
    with pytest.raises(UserError, match="cannot write"):
        generator.generate([[3]], Sampling(regex="xyz"))
