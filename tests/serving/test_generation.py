"""The language engine by its frames: what a worker is asked and what it tells."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

pytest.importorskip("orjson", reason="the extra serve")

from modelworks.engine.language.conversation import Conversation
from modelworks.engine.language.generate import Generator
from modelworks.engine.language.pack import pack
from modelworks.engine.language.sampling import Sampling
from modelworks.engine.network import build
from modelworks.fields.chat import Chat
from modelworks.fields.corpus import Corpus
from modelworks.models.transformer import Transformer
from modelworks.serving.engine import Options
from modelworks.serving.generation import Writer
from modelworks.serving.wire import Frame
from modelworks.tasks.language import Language

GREEDY = {"temperature": 0, "max_tokens": 8, "seed": None}


def made(template: str | None = None) -> tuple[Any, Any]:
    """A network with random weights over characters, and its field."""
    field: Any = Corpus(tokens="char", length=128).fit([pa.array(["abcdefgh <|im_start|> user assistant\n"])])
    if template is not None:
        field = Chat(tokens="char", length=128, template=template).adopt(field)
    task = Language(target="text", start="normal")
    settings = {"width": 32, "depth": 2, "heads": 2, "positions": "rope", "dropout": 0.0}
    network = build(
        Transformer(**settings), task, {"text": Corpus().with_state(field.state) if template else field}, 0
    )
    return network, field


@pytest.fixture(scope="module")
def parts() -> tuple[Any, Any]:
    network, field = made()
    return pack(network, "float32"), field


@pytest.fixture
def writer(parts: Any) -> Writer:
    return Writer(*parts, Options("m", slots=2, context=100), {"task": "language"})


def finish(writer: Writer, number: int) -> list[Frame]:
    frames: list[Frame] = []
    while writer.busy:
        frames += writer.step()
    return [frame for frame in frames if frame.id == number]


def ask(writer: Writer, number: int = 1, **given: Any) -> None:
    meta = {"prompts": ["abc"], "n": 1, "sampling": GREEDY, "top": None} | given
    writer.submit(Frame("generate", number, meta))


def test_an_answer_comes_in_chunks_and_ends_with_its_tokens(writer: Writer, parts: Any) -> None:
    ask(writer)
    frames = finish(writer, 1)
    network, field = parts
    (alone,) = Generator(network, field).generate(
        [field.ids("abc")], Sampling(temperature=0, max_tokens=8, lookup=0)
    )
    assert "".join(frame.meta["text"] for frame in frames[:-1]) == alone.text
    assert {frame.kind for frame in frames[:-1]} == {"chunk"}
    assert frames[-2].meta["reason"] == alone.reason
    assert frames[-1] == Frame("answer", 1, {"prompt_tokens": 3, "completion_tokens": len(alone.ids)})
    stats = writer.stats()
    assert stats["counters"]["tokens_written"] == len(alone.ids)
    assert sum(stats["histograms"]["first_token_seconds"][1]) == 1
    assert sum(stats["histograms"]["token_seconds"][1]) == len(alone.ids) - 1
    assert stats["gauges"]["slots_busy"] == 0


def test_several_answers_to_several_prompts(writer: Writer) -> None:
    ask(writer, prompts=["abc", [3, 4]], n=2, sampling={"max_tokens": 6, "seed": 3, "temperature": 1.0})
    frames = finish(writer, 1)
    texts = {
        i: "".join(f.meta["text"] for f in frames if f.kind == "chunk" and f.meta["index"] == i)
        for i in range(4)
    }
    assert len(set(texts.values())) > 1
    assert frames[-1].meta["prompt_tokens"] == 3 + 2
    ask(writer, 2, prompts=["abc"], n=2, sampling={"max_tokens": 6, "seed": 3, "temperature": 1.0})
    again = finish(writer, 2)
    assert "".join(f.meta["text"] for f in again if f.kind == "chunk" and f.meta["index"] == 1) == texts[1]


def test_a_cancelled_request_is_told_of_no_more(writer: Writer) -> None:
    ask(writer, 1, n=3, sampling={**GREEDY, "max_tokens": 60, "ignore_end": True})
    ask(writer, 2)
    writer.step()
    writer.cancel(1)
    assert writer.batcher.active == 0
    writer.cancel(1)
    assert finish(writer, 1) == []
    ask(writer, 3)
    assert finish(writer, 3)[-1].kind == "answer"
    assert writer.stats()["counters"]["generations_cancelled"] == 3


def test_what_is_wrong_comes_back_as_an_error(writer: Writer) -> None:
    for number, given in enumerate(
        [
            {"prompts": ["a" * 100]},
            {"prompts": [[999]]},
            {"sampling": {"max_tokens": 8, "temperature": -1.0}},
            {"sampling": {**GREEDY, "logit_bias": {"99": 1}}},
        ]
    ):
        ask(writer, number, **given)
        (frame,) = finish(writer, number)
        assert (frame.kind, frame.meta["status"]) == ("error", 400)
    writer.submit(Frame("predict", 9, {"items": [["plain", "application/json", 0, {}]]}))
    ((frame),) = finish(writer, 9)
    assert frame.meta["items"][0][0] == 400


def test_logprobs_name_their_tokens(writer: Writer) -> None:
    ask(writer, top=2, sampling={**GREEDY, "max_tokens": 3, "ignore_end": True})
    frames = [frame for frame in finish(writer, 1) if frame.kind == "chunk"]
    told = [one for frame in frames for one in frame.meta["logprobs"]]
    assert len(told) == 3
    for text, data, value, likeliest in told:
        assert bytes(data).decode() == text
        assert likeliest[0] == [text, data, value]
        assert len(likeliest) == 2


def test_a_conversation_without_a_template_is_names_and_what_they_say(writer: Writer, parts: Any) -> None:
    assert not writer.metadata["chat"]
    network, field = parts
    alone = "".join(
        Conversation(Generator(network, field)).ask("abc", Sampling(temperature=0, max_tokens=8, lookup=0))
    )
    meta = {"messages": [{"role": "user", "content": "abc"}], "n": 1, "sampling": GREEDY, "top": None}
    writer.submit(Frame("generate", 1, meta))
    text = "".join(frame.meta["text"] for frame in finish(writer, 1) if frame.kind == "chunk")
    assert text.lstrip() == alone


def test_a_template_tells_conversations() -> None:
    network, field = made("{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}<assistant>")
    writer = Writer(pack(network, "float32"), field, Options("m", slots=2, context=120), {"task": "instruct"})
    assert writer.metadata["chat"]
    meta = {"messages": [{"role": "user", "content": "abc"}], "n": 1, "sampling": GREEDY, "top": None}
    writer.submit(Frame("generate", 1, meta))
    assert finish(writer, 1)[-1].meta["prompt_tokens"] == len(field.ids("<user>abc\n<assistant>"))
    writer.submit(Frame("generate", 2, {**meta, "messages": [{"role": "user", "content": "a" * 200}]}))
    (frame,) = finish(writer, 2)
    assert (frame.kind, frame.meta["status"]) == ("error", 400)
