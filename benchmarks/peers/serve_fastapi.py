"""FastAPI around the model, as its tutorial writes it: a pydantic row, one pass of the model a request.

python serve_fastapi.py --run RUN --port 8080 --style async|sync
"""

from __future__ import annotations

import argparse

import uvicorn
from _served import Served
from fastapi import FastAPI
from pydantic import BaseModel

parser = argparse.ArgumentParser()
parser.add_argument("--run", required=True)
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--style", choices=("async", "sync"), default="async")
args = parser.parse_args()
served = Served(args.run, args.threads)
app = FastAPI()


class Picture(BaseModel):
    image: list[list[int]]


class Text(BaseModel):
    text: str


Row = Picture if served.field.kind == "image" else Text

if args.style == "async":

    @app.post("/predict")
    async def predict(row: Row) -> dict:
        return served.one(getattr(row, served.name))

else:

    @app.post("/predict")
    def predict(row: Row) -> dict:
        return served.one(getattr(row, served.name))


@app.get("/health")
async def health() -> dict:
    return {}


uvicorn.run(app, host="127.0.0.1", port=args.port, log_level="warning")
