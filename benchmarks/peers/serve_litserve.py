"""LitServe around the model, as its documentation writes it: one request at a time, or batches.

python serve_litserve.py --run RUN --port 8080 --batch 32 --wait 0.01
"""

from __future__ import annotations

import argparse

import litserve
from _served import Served

parser = argparse.ArgumentParser()
parser.add_argument("--run", required=True)
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--batch", type=int, default=1)
parser.add_argument("--wait", type=float, default=0.01)
args = parser.parse_args()


class Api(litserve.LitAPI):
    """The Run's model."""

    def setup(self, device) -> None:
        self.served = Served(args.run, args.threads)

    def decode_request(self, request):
        return request[self.served.name]

    def batch(self, inputs):
        return list(inputs)

    def predict(self, x):
        return self.served.answers(x) if args.batch > 1 else self.served.one(x)

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return output


if __name__ == "__main__":
    batching = {"max_batch_size": args.batch, "batch_timeout": args.wait} if args.batch > 1 else {}
    server = litserve.LitServer(Api(**batching), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=args.port, log_level="warning", generate_client_file=False)
