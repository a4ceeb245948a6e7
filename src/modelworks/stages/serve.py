"""Serve Runs over HTTP: predictions, the Open Inference Protocol, OpenAI's routes for language models.

    modelworks serve runs/titanic --port 8080
    modelworks serve mnist=runs/mnist-cnn runs/poems --host 0.0.0.0 --api-key-file keys.txt

Ready when GET /v2/health/ready says 200. A Run is addressed by its name, or by NAME in NAME=RUN.
SIGTERM: what has been asked is answered, for --grace seconds at the most, then the server ends.
"""

from __future__ import annotations

import argparse

from modelworks.core.errors import UserError, need

EXTRA = ("fastapi", "uvicorn", "httptools", "uvloop", "python_multipart", "orjson", "prometheus_client")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `modelworks serve`."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a Run's name or folder, or NAME=RUN")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8080, metavar="P", help="port to listen at (8080)")
    parser.add_argument(
        "--api-key-file", metavar="F", help="a key a line; without it only this machine may ask"
    )
    parser.add_argument(
        "--allowed-host", action="append", default=[], metavar="NAME", help="a name clients use in Host"
    )
    parser.add_argument("--tls-cert", metavar="F", help="certificate chain, PEM")
    parser.add_argument("--tls-key", metavar="F", help="its key, PEM")
    parser.add_argument("--threads", type=int, metavar="N", help="torch's threads a worker (cores, less one)")
    parser.add_argument(
        "--batch", type=int, default=64, metavar="N", help="most requests answered at once (64)"
    )
    parser.add_argument(
        "--gather", type=float, default=0.0, metavar="MS", help="wait so long for a fuller batch (0)"
    )
    parser.add_argument(
        "--queue", type=int, default=256, metavar="N", help="most requests a model has at once (256)"
    )
    parser.add_argument(
        "--timeout", type=float, default=30.0, metavar="S", help="longest wait for an answer (30)"
    )
    parser.add_argument("--grace", type=float, default=30.0, metavar="S", help="longest wait at the end (30)")
    parser.add_argument("--max-body", type=float, default=32, metavar="MB", help="most of one body (32)")
    parser.add_argument(
        "--max-decoded", type=float, default=256, metavar="MB", help="most it may unfold to (256)"
    )
    parser.add_argument(
        "--slots", type=int, default=16, metavar="N", help="texts that a language model writes at once (16)"
    )
    parser.add_argument(
        "--context",
        type=int,
        default=2048,
        metavar="N",
        help="most tokens of a text, prompt and answer (2048)",
    )
    parser.add_argument(
        "--prefixes", type=float, default=256, metavar="MB", help="what is kept of prompts for others (256)"
    )
    parser.add_argument(
        "--weights",
        choices=("float32", "bfloat16", "int8"),
        default="float32",
        help="of language models (float32)",
    )
    parser.add_argument(
        "--watch", action="store_true", help="answer from a Run anew when its manifest changes"
    )
    parser.add_argument(
        "--otel", action="store_true", help="spans by OpenTelemetry (extra otel, OTEL_* variables)"
    )
    parser.add_argument(
        "--trust-code", action="store_true", help="serve Runs that name Python files of your own"
    )
    parser.add_argument(
        "--log", choices=("requests", "errors", "events"), default="requests", help="what is logged"
    )


def main(args: argparse.Namespace, settings: list[str]) -> int:
    """The command."""
    if settings:
        raise UserError(f"serve takes no settings, got {' '.join(settings)}", "modelworks serve --help")
    for module in EXTRA:
        need(module, "serve", "serve")
    from modelworks.serving import server

    return server.run(server.Wanted.of(args))
