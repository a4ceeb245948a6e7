"""Load on the server: requests a second beside LitServe and FastAPI, and 200 clients for a minute.

    python benchmarks/load.py [--part peers|minute] [--quick] [--only MODEL] [--rounds 3]

`peers`: 50 closed-loop clients with JSON bodies, every server with the same Run and torch threads, one after another,
round by round. `minute`: 200 clients for 60 s, at the default queue and at one of 64: statuses, latencies of the
accepted, memory before and after. The Runs are those of mnist_speed.py and chinese_sentiment.py; `--runs MODEL=RUN`
gives others. MODELWORKS_SERVING names an environment that has litserve already.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

import _peers
import _results
from _serving import PEERS, RUNS, THREADS, free_port, load, memory_mb, ours, server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("peers", "minute"), help="one part; otherwise both")
    parser.add_argument("--quick", action="store_true", help="two seconds, one round: a check that all runs")
    parser.add_argument("--only", choices=tuple(RUNS), help="one model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--runs", action="append", default=[], metavar="MODEL=RUN")
    args = parser.parse_args()
    given = dict(text.split("=", 1) for text in args.runs)
    runs = {
        name: Path(given.get(name, _peers.CACHE / "work" / path)).resolve()
        for name, path in RUNS.items()
        if args.only in (None, name)
    }
    if args.part != "minute":
        peers(runs, 1 if args.quick else args.rounds, 2.0 if args.quick else args.seconds, args.quick)
    if args.part != "peers":
        minute(runs, 3.0 if args.quick else 60.0, args.quick)


# ------------------------------------------------------------------------------------------- requests
def bodies(name: str) -> Path:
    """Requests with the model's real rows, one a line."""
    import numpy as np

    path = _peers.CACHE / "work" / "load" / f"{name.replace(' ', '-')}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        return path
    if "MNIST" in name:
        from modelworks.core.source import Quarantine
        from modelworks.engine.data.open import source_for

        batch = next(iter(source_for("sample:mnist").read(Quarantine())))
        pixels = np.asarray(batch.column("image").slice(0, 200).to_numpy_ndarray())
        rows = [{"image": picture.tolist()} for picture in pixels]
    else:
        import pyarrow.csv

        texts = pyarrow.csv.read_csv(_peers.CACHE / "data" / "sentiment.csv").column("text").to_pylist()
        rows = [{"text": text} for text in texts[:: max(1, len(texts) // 200)][:200]]
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n", "utf-8")
    return path


# ------------------------------------------------------------------------------------------- parts
def contenders(run: Path, python: Path | None) -> dict[str, tuple]:
    """Name → (command by port, path that tells it is ready, environment)."""
    script = _peers.ROOT / "peers"
    found = {
        "modelworks": (lambda port: ours(run, port), "/v2/health/ready"),
        "FastAPI, async": (lambda port: [sys.executable, script / "serve_fastapi.py", "--run", run, "--port", port, "--threads", THREADS], "/health"),
        "FastAPI, threads": (lambda port: [sys.executable, script / "serve_fastapi.py", "--run", run, "--port", port, "--threads", THREADS, "--style", "sync"], "/health"),
    }  # fmt: skip
    if python is not None:
        lit = [python, script / "serve_litserve.py", "--run", run, "--threads", THREADS]
        found["LitServe"] = (lambda port: [*lit, "--port", port], "/health")
        found["LitServe, batches"] = (lambda port: [*lit, "--port", port, "--batch", 32], "/health")
    return found


def peers(runs: dict[str, Path], rounds: int, seconds: float, quick: bool) -> None:
    """50 clients."""
    missing, python = "", None
    try:
        python = _peers.environment("serving", PEERS)
    except _peers.Failed as error:
        missing = str(error)
    tables, raw = [], {}
    for name, run in runs.items():
        asked, found = bodies(name), {}
        for _ in range(rounds):
            for label, (command, path) in contenders(run, python).items():
                port = free_port()
                with server(command(port), port, path) as process:
                    result = load(port, asked, 50, seconds)
                    result["mb"] = memory_mb(process.pid)
                found.setdefault(label, []).append(result)
                print(
                    name, label, {key: value for key, value in result.items() if key != "samples"}, flush=True
                )
        raw[name] = found
        own = statistics.median(result["per_second"] for result in found["modelworks"])
        rows = []
        for label, results in found.items():
            rate = statistics.median(result["per_second"] for result in results)
            middle = {
                key: statistics.median(result[key] or 0 for result in results) for key in ("p50", "p99", "mb")
            }
            statuses = {s for result in results for s in result["statuses"]}
            rows.append(
                [
                    label,
                    f"{rate:,.0f}",
                    f"{own / rate:.2f}" if rate else "–",
                    f"{middle['p50']:.1f}",
                    f"{middle['p99']:.1f}",
                    f"{middle['mb']:.0f}",
                    ", ".join(sorted(statuses)),
                ]
            )
        tables.append(
            f"**{name}**\n\n"
            + _results.table(
                ["50 clients", "requests/s", "ours ÷", "p50 ms", "p99 ms", "MB", "statuses"], rows
            )
        )
    versions = _peers.versions(python, ["torch", "litserve", "fastapi", "uvicorn"]) if python else missing
    _results.publish(
        "load", "Serving beside LitServe and FastAPI", tables, part="peers", quick=quick, versions=versions, raw=raw,
        notes=[f"{rounds} rounds of {seconds:.0f} s, medians; clients on raw sockets in a process of their own on the same machine; torch threads {THREADS}; MB: proportional set size of all processes of the server."],
    )  # fmt: skip


def minute(runs: dict[str, Path], seconds: float, quick: bool) -> None:
    """200 clients."""
    rows, raw = [], {}
    for name, run in runs.items():
        asked = bodies(name)
        for queue in (256, 64):
            port = free_port()
            with server(ours(run, port, "--queue", str(queue)), port, "/v2/health/ready") as process:
                load(port, asked, 200, min(5.0, seconds))
                before = memory_mb(process.pid)
                result = load(port, asked, 200, seconds)
                after = memory_mb(process.pid)
            # One request's service time is what the server needs a request when it is never idle.
            service = 1 / result["per_second"]
            bound = 2 * queue * service * 1000
            raw[f"{name} {queue}"] = {**result, "before_mb": before, "after_mb": after, "bound_ms": bound}
            told = ", ".join(f"{status}: {count:,}" for status, count in result["statuses"].items())
            rows.append(
                [
                    name,
                    queue,
                    f"{result['per_second']:,.0f}",
                    told,
                    result["failures"],
                    result["p50"],
                    result["p99"],
                    f"{bound:.0f}",
                    f"{before:.0f} → {after:.0f} ({100 * (after / before - 1):+.1f} %)",
                ]
            )
            print(rows[-1], flush=True)
    columns = [
        "200 clients",
        "queue",
        "accepted/s",
        "statuses",
        "no answer",
        "p50 ms",
        "p99 ms",
        "2 × queue × service ms",
        "memory MB",
    ]
    _results.publish(
        "load", "A minute of 200 clients", [_results.table(columns, rows)], part="minute", quick=quick, raw=raw,
        notes=[f"{seconds:.0f} s; a client that is told 429 asks again at once; service time: 1 / accepted a second; memory: all processes, after 5 s of load and at the end."],
    )  # fmt: skip


if __name__ == "__main__":
    main()
