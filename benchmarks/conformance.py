"""Conformance of the server: an OIP v2 client as it comes, and schemathesis over every operation of /openapi.json.

    python benchmarks/conformance.py [--quick] [--examples 500] [--run NAME=RUN …]

tritonclient.http runs peers/oip_client.py against a Run of pictures and one of a table. schemathesis makes requests
from the document, sound and unsound ones: no answer may be 5xx, none undocumented, none of another type or shape than
told. OpenAI's routes are answered by tiny Runs that are made here. Both clients in the environment of load.py.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
from typing import Any

import _peers
import _results
import _zoo
from _serving import PEERS, free_port, serve, server

RUNS = {
    "pictures": "mnist/runs/mlp",
    "rows": "tables/titanic-0/runs/run",
    "texts": "sentiment/runs/sentiment",
}
WRITING = ["language", "instruct", "embed"]
"""Of _zoo.py: they write few tokens fast, so that thousands of requests for text take minutes."""
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="20 examples an operation")
    parser.add_argument("--examples", type=int, default=500, help="examples an operation")
    parser.add_argument(
        "--run", action="append", default=[], metavar="NAME=RUN", help="instead of pictures, rows, texts"
    )
    args = parser.parse_args()
    examples = 20 if args.quick else args.examples
    given = dict(text.split("=", 1) for text in args.run)
    runs: dict[str, Any] = {name: _peers.CACHE / "work" / path for name, path in RUNS.items()}
    runs |= {member.name: run for member, run in _zoo.make(_peers.CACHE / "exports", WRITING)} | given
    python = _peers.environment("serving", PEERS)
    port = free_port()
    rows = []
    with server(serve(runs, port, "--log", "events"), port, "/v2/health/ready"):
        told = _peers.ask(python, "oip_client.py", "--port", port, "--pictures", "pictures", "--rows", "rows")
        rows.append(["tritonclient.http", f"{told['passed']} checks", "0 failed"])
        found = schemathesis(python, port, examples)
        rows.append(
            [
                "schemathesis",
                f"{found['cases']:,} cases, {found['operations']} operations",
                f"{found['failed']} failed",
            ]
        )
    _results.publish(
        "conformance", "Conformance of the server", [_results.table(["client", "asked", "result"], rows)],
        notes=[f"schemathesis: {examples} examples an operation; checks: {CHECKS.replace('_', ' ').replace(',', ', ')}."],
        versions=_peers.versions(python, ["schemathesis", "tritonclient"]), raw={"oip": told, "schemathesis": found},
        quick=args.quick,
    )  # fmt: skip


def schemathesis(python, port: int, examples: int) -> dict:
    """Cases, operations and failures; the text of failures is printed."""
    command = [
        python.parent / "schemathesis", "run", f"http://127.0.0.1:{port}/openapi.json", "-n", examples,
        "--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--continue-on-failure", "--seed", 1,
    ]  # fmt: skip
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, cwd=_peers.CACHE
    )
    text = done.stdout
    cases = re.search(r"([\d,]+) generated", text)
    failed = re.search(r"(\d+) unique failures?", text)
    operations = re.search(r"Tested: (\d+)", text)
    if done.returncode or cases is None or operations is None:
        print(text[-6000:], done.stderr[-2000:], flush=True)
    count = int(failed.group(1)) if failed else 0
    if done.returncode and not count:
        raise _peers.Failed(f"schemathesis ended with {done.returncode}: {json.dumps(text[-300:])}")
    return {
        "cases": int(cases.group(1).replace(",", "")) if cases else 0,
        "operations": int(operations.group(1)) if operations else 0,
        "failed": count,
    }


if __name__ == "__main__":
    main()
