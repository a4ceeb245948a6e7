"""OpenAI's own Python client, unmodified, against a server of a text Run and one of embeddings."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from modelworks.core.run import RunFolder

openai = pytest.importorskip("openai")
pytest.importorskip("fastapi", reason="the extra serve")

KEY = "a-key-of-tests"
TEXT = 'The fox and the owl went home. {"a": true, "b": [1, 2.5, null, false]} User: Assistant:\n'


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `poet`, which writes characters, and `near`, which embeds texts. Hardly trained."""
    source = str(Path(__file__).parents[2] / "src")
    environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    folder = tmp_path_factory.mktemp("openai")
    (folder / "text.txt").write_text(TEXT * 400)
    (folder / "rows.jsonl").write_text(
        "".join(json.dumps({"text": f"a {n} fox of {n * 7 % 9}"}) + "\n" for n in range(60))
    )
    body = [
        "--model=transformer",
        "--model.width=32",
        "--model.depth=2",
        "--model.heads=2",
        "--quiet",
        "--evaluate.bootstrap=0",
    ]
    poet = [
        "text.txt",
        "--task=language",
        "--fields.text.tokens=char",
        "--fields.text.length=256",
        "--train.steps=30",
        "--name=poet",
    ]
    near = [
        "rows.jsonl",
        "--task=embed",
        "--target=text",
        "--train.steps=2",
        "--train.batch_size=16",
        "--name=near",
    ]
    for flags in (poet, near):
        command = [sys.executable, "-m", "modelworks.cli", "train", *flags, *body]
        subprocess.run(command, cwd=folder, check=True, env=environment)
    return folder / "runs"


@pytest.fixture(scope="module")
def server(runs: Path, start: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Both, behind a key, with two slots."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "keys").write_text(KEY)
    with start(
        (runs / "poet", runs / "near"),
        folder,
        "--api-key-file",
        str(folder / "keys"),
        "--slots",
        "2",
        "--queue",
        "6",
    ) as found:
        yield found


@pytest.fixture
def client(server: Any) -> Any:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key=KEY, max_retries=0)


@pytest.fixture
def later(server: Any) -> Any:
    return lambda: openai.AsyncOpenAI(
        base_url=f"http://127.0.0.1:{server.port}/v1", api_key=KEY, max_retries=0
    )


@pytest.fixture(scope="module")
def alone(runs: Path) -> Any:
    """What Generator writes after a prompt by itself."""
    from modelworks.engine.language.generate import Generator
    from modelworks.engine.language.pack import pack
    from modelworks.engine.language.ready import ready
    from modelworks.engine.language.sampling import Sampling

    network, field = ready(runs / "poet")
    generator = Generator(pack(network, "float32"), field)

    def write(prompt: str, **given: Any) -> Any:
        sampling = Sampling(**{"temperature": 0, "max_tokens": 30, "lookup": 0, **given})
        return generator.generate([field.ids(prompt)], sampling)[0]

    return write


def test_models_are_listed(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["poet", "near"]
    assert client.models.retrieve("poet").object == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")


def test_a_text_is_the_one_written_alone(client: Any, alone: Any) -> None:
    expected = alone("The fox")
    found = client.completions.create(model="poet", prompt="The fox", temperature=0, max_tokens=30)
    assert found.choices[0].text == expected.text
    assert found.choices[0].finish_reason == {"length": "length"}.get(expected.reason, "stop")
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (7, len(expected.ids))
    several = client.completions.create(
        model="poet", prompt=["The owl", "The fox"], temperature=0, max_tokens=30, echo=True
    )
    assert [choice.text for choice in several.choices] == [
        "The owl" + alone("The owl").text,
        "The fox" + expected.text,
    ]


def test_a_stream_brings_the_same_in_pieces(client: Any, alone: Any) -> None:
    stream = client.completions.create(
        model="poet",
        prompt="The owl",
        temperature=0,
        max_tokens=30,
        stream=True,
        stream_options={"include_usage": True},
    )
    events = list(stream)
    assert "".join(event.choices[0].text for event in events if event.choices) == alone("The owl").text
    assert len(events) > 10
    assert events[-1].usage.completion_tokens == len(alone("The owl").ids)
    assert [event.choices[0].finish_reason for event in events if event.choices][-1] in ("length", "stop")


def test_streams_of_an_asynchronous_client_go_on_side_by_side(later: Any, alone: Any) -> None:
    async def chat(client: Any, text: str) -> str:
        said = [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": text}]},
        ]
        stream = await client.chat.completions.create(
            model="poet", messages=said, temperature=0, max_completion_tokens=25, stream=True
        )
        return "".join([event.choices[0].delta.content or "" async for event in stream])

    async def all_of_them() -> list[str]:
        async with later() as client:
            return await asyncio.gather(*(chat(client, f"say {n}") for n in range(6)))

    for n, text in enumerate(asyncio.run(all_of_them())):
        prompt = f"System: Be brief.\nUser: say {n}\nAssistant:"
        assert text == alone(prompt, max_tokens=25, stop=("\nUser:", "\nSystem:")).text


def test_choices_are_drawn_by_the_seed(client: Any) -> None:
    given = {
        "model": "poet",
        "messages": [{"role": "user", "content": "fox"}],
        "n": 3,
        "seed": 7,
        "max_tokens": 12,
    }
    found = client.chat.completions.create(**given)
    texts = [choice.message.content for choice in found.choices]
    assert [choice.index for choice in found.choices] == [0, 1, 2]
    assert len(set(texts)) == 3
    assert [choice.message.content for choice in client.chat.completions.create(**given).choices] == texts
    other = client.chat.completions.create(**{**given, "seed": 8})
    assert [choice.message.content for choice in other.choices] != texts


def test_stop_bias_and_penalties_are_obeyed(client: Any, alone: Any) -> None:
    free = alone("The ", max_tokens=40).text
    stop = free[8:11]
    found = client.completions.create(model="poet", prompt="The ", temperature=0, max_tokens=40, stop=stop)
    assert found.choices[0].text == free[: free.index(stop)]
    assert found.choices[0].finish_reason == "stop"
    first = client.completions.create(
        model="poet", prompt="The ", temperature=0, max_tokens=1, logprobs=3
    ).choices[0]
    assert first.logprobs.tokens == [free[0]]
    assert max(first.logprobs.top_logprobs[0], key=first.logprobs.top_logprobs[0].get) == free[0]
    given = {"model": "poet", "prompt": "The ", "temperature": 0, "max_tokens": 30}
    assert (
        client.completions.create(**given, frequency_penalty=2.0).choices[0].text
        == alone("The ", frequency_penalty=2.0).text
    )
    assert (
        client.completions.create(**given, logit_bias={"5": 100}).choices[0].text
        == alone("The ", logit_bias={5: 100.0}).text
    )


def test_logprobs_of_a_chat(client: Any) -> None:
    found = client.chat.completions.create(
        model="poet", messages=[{"role": "user", "content": "owl"}], temperature=0, max_tokens=6, logprobs=True, top_logprobs=2
    )  # fmt: skip
    told = found.choices[0].logprobs.content
    assert len(told) == found.usage.completion_tokens
    assert all(
        bytes(one.bytes).decode() == one.token and one.logprob == one.top_logprobs[0].logprob for one in told
    )


def test_an_answer_obeys_a_schema(client: Any) -> None:
    pytest.importorskip("llguidance")
    schema = {
        "type": "object",
        "properties": {"a": {"type": "boolean"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    found = client.chat.completions.create(
        model="poet", messages=[{"role": "user", "content": "fox"}], max_tokens=60, seed=1,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}},
    )  # fmt: skip
    assert set(json.loads(found.choices[0].message.content)) == {"a"}
    with pytest.raises(openai.BadRequestError, match="schema"):
        client.chat.completions.create(
            model="poet", messages=[{"role": "user", "content": "fox"}],
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nothing"}}},
        )  # fmt: skip


def test_vectors_come_as_base64_which_the_client_asks_for_and_as_numbers(client: Any, runs: Path) -> None:
    found = client.embeddings.create(model="near", input=["a fox", "an owl"])
    plain = client.embeddings.create(model="near", input="a fox", encoding_format="float")
    assert len(found.data) == 2
    assert found.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)
    assert sum(value * value for value in plain.data[0].embedding) == pytest.approx(1, abs=1e-4)
    fox, owl = RunFolder(runs / "near").fields()["text"].encode(pa.array(["a fox", "an owl"])).lengths
    assert plain.usage.prompt_tokens == plain.usage.total_tokens == fox
    assert found.usage.prompt_tokens == fox + owl > fox
    with pytest.raises(openai.BadRequestError, match="embed"):
        client.embeddings.create(model="poet", input="a fox")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"prompt": "a" * 300}, "context"),
        ({"prompt": "a", "logit_bias": {"999": 1}}, "no token 999"),
        ({"prompt": "a", "n": 0}, "n: "),
        ({"prompt": "a", "temperature": -1}, "temperature"),
        ({"prompt": "a", "suffix": "b"}, "suffix"),
        ({"prompt": [5, 99999]}, "tokens outside"),
        ({"prompt": "a", "model": "near"}, "does not write text"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_openais_form(
    client: Any, given: dict[str, Any], told: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=told) as caught:
        client.completions.create(**{"model": "poet", **given})
    assert caught.value.body["type"] == "invalid_request_error"


def test_other_refusals(client: Any, server: Any) -> None:
    with pytest.raises(openai.NotFoundError, match="no model"):
        client.completions.create(model="nobody", prompt="a")
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").models.list()
    with pytest.raises(openai.BadRequestError, match="tools"):
        client.chat.completions.create(
            model="poet", messages=[{"role": "user", "content": "a"}],
            tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}],
        )  # fmt: skip
    assert server.ask("/v1/completions", b"{nothing")[0] == 400
    assert server.ask("/v1/completions", [1])[0] == 400


def test_the_document_shows_requests_that_are_answered(server: Any) -> None:
    paths = server.ask("/openapi.json")[1]["paths"]
    names = {}
    for path in ("/v1/completions", "/v1/chat/completions", "/v1/embeddings"):
        content = paths[path]["post"]["requestBody"]["content"]["application/json"]
        names[path] = content["schema"]["properties"]["model"]["enum"]
        assert list(content["examples"]) == names[path]
        for example in content["examples"].values():
            status, answer, _ = server.ask(path, example["value"])
            assert (status, answer["model"]) == (200, example["value"]["model"])
    assert [*names.values()] == [["poet"], ["poet"], ["near"]]


def test_a_full_queue_says_429(later: Any) -> None:
    async def ask(client: Any) -> int:
        try:
            await client.completions.create(
                model="poet", prompt="The", max_tokens=200, temperature=0, logit_bias={"1": -100}
            )
        except openai.RateLimitError as error:
            return 429 if int(error.response.headers["retry-after"]) >= 1 else 0
        return 200

    async def many() -> list[int]:
        async with later() as client:
            return await asyncio.gather(*(ask(client) for _ in range(40)))

    found = asyncio.run(many())
    assert found.count(200) >= 6  # the queue, before any of it has gone to the two slots
    assert found.count(429) > 0


def test_a_hang_up_frees_the_slot(server: Any, client: Any) -> None:
    body = json.dumps(
        {
            "model": "poet",
            "prompt": "The",
            "max_tokens": 250,
            "stream": True,
            "temperature": 0,
            "logit_bias": {"1": -100},
        }
    ).encode()
    for _ in range(5):
        for _ in range(2):  # both slots
            with socket.create_connection(("127.0.0.1", server.port)) as raw:
                head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
                raw.sendall(head.encode() + body)
                assert b"200" in raw.recv(100)
        assert client.completions.create(model="poet", prompt="The", max_tokens=1).choices
    deadline = time.monotonic() + 10
    while (
        "generations_cancelled_total" not in (page := server.ask("/metrics")[1])
        or _figure(page, "generations_cancelled_total") < 1  # the worker tells its figures once a second
        or _figure(page, "slots_busy") > 0
    ):
        assert time.monotonic() < deadline, page
        time.sleep(0.1)


def _figure(page: str, name: str) -> float:
    return next(
        float(line.split()[-1]) for line in page.splitlines() if line.startswith(f"modelworks_{name}")
    )


def test_sigterm_lets_streams_come_to_their_end(runs: Path, start: Any, tmp_path: Path) -> None:
    async def all_of_them(found: Any) -> list[str]:
        async with openai.AsyncOpenAI(
            base_url=f"http://127.0.0.1:{found.port}/v1", api_key="none", max_retries=0
        ) as client:
            given = {
                "model": "poet",
                "prompt": "The",
                "max_tokens": 200,
                "temperature": 0,
                "logit_bias": {"1": -100},
            }
            streams = await asyncio.gather(
                *(client.completions.create(**given, stream=True) for _ in range(6))
            )
            found.process.send_signal(signal.SIGTERM)
            return await asyncio.gather(*(_reason(stream) for stream in streams))

    with start((runs / "poet",), tmp_path) as found:
        assert asyncio.run(all_of_them(found)) == ["length"] * 6
        assert found.process.wait(60) == 0


async def _reason(stream: Any) -> str:
    reason = ""
    async for event in stream:
        reason = event.choices[0].finish_reason or reason
    return reason
