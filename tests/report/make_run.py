"""Run folders for the tests: real digits, real meters, invented learning curves."""

from __future__ import annotations

import io
import json
import math
import wave
from pathlib import Path

import numpy as np
import pyarrow as pa
import yaml
from PIL import Image
from sklearn.datasets import load_diabetes, load_digits

from modelworks.core.dataset import Dataset
from modelworks.engine.audit.audit import audit
from modelworks.metrics.classification import ClassificationMeter
from modelworks.metrics.regression import RegressionMeter


def curve(
    folder: Path, steps: int, every: int, valid_every: int, metric: str, seed: int = 0, overfit: float = 0.0
) -> None:
    """metrics.jsonl as the loop writes it."""
    random = np.random.default_rng(seed)
    lines = []
    for step in range(1, steps + 1):
        fall = 2.2 * math.exp(-4 * step / steps) + 0.05
        base = {"step": step, "samples": step * 128, "seconds": round(step * 0.021, 3)}
        if step % every == 0 or step == 1:
            rate = 1e-3 * 0.5 * (1 + math.cos(math.pi * step / steps)) * min(1, step / (0.05 * steps)) + 1e-6
            noisy = fall * math.exp(random.normal(0, 0.25))
            lines.append(
                base
                | {
                    "split": "train",
                    "metrics": {"loss": noisy, metric: 1 - noisy / 4, "lr": rate, "grad_norm": noisy * 3},
                }
            )
        if step % valid_every == 0:
            held = fall + 0.06 + overfit * max(0, step / steps - 0.5)
            lines.append(base | {"split": "valid", "metrics": {"loss": held, metric: 1 - held / 4}})
    (folder / "metrics.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 99, "sp'
    )  # torn by a crash


def environment() -> dict:
    return {
        "modelworks": "0.1.0",
        "python": "3.11.9",
        "platform": "Linux-6.1-x86_64",
        "processor": "a processor",
        "cores": 2,
        "threads": 2,
        "device": "cpu",
        "seed": 7,
        "command": ["modelworks", "train", "digits.parquet", "--target", "label"],
        "packages": {"torch": "2.13.0", "numpy": "2.2.0"},
    }


def put(folder: Path, recipe: dict, evaluation: dict, data: dict, gallery: list) -> Path:
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True), "utf-8")
    for name, value in (
        ("evaluation", evaluation),
        ("data", data),
        ("environment", environment()),
        ("gallery", gallery),
    ):
        (folder / f"{name}.json").write_text(json.dumps(value, ensure_ascii=False), "utf-8")
    return folder


def png(pixels: np.ndarray, side: int | None = None) -> bytes:
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    (image if side is None else image.resize((side, side), Image.Resampling.NEAREST)).save(buffer, "PNG")
    return buffer.getvalue()


def judged(meter, answer: dict, batch: dict, base: dict) -> tuple[dict, dict, dict]:
    """(metrics, baseline's metrics, details) from the product's own meters."""
    trivial = (
        type(meter)(meter.target, meter.labels)
        if isinstance(meter, ClassificationMeter)
        else type(meter)(meter.target)
    )
    meter.update(answer, batch)
    trivial.update(base, batch)
    return meter.result(), trivial.result(), meter.details()


def digits(folder: Path, skill: float = 3.0, seed: int = 0) -> Path:
    """Ten classes of pictures."""
    (folder / "gallery").mkdir(parents=True)
    random = np.random.default_rng(seed)
    pixels, truth = load_digits(return_X_y=True)
    pictures = (pixels.reshape(-1, 8, 8) * 15.9).astype(np.uint8)
    logits = random.normal(0, 1, (len(truth), 10))
    logits[np.arange(len(truth)), truth] += skill
    logits[truth == 3, 5] += 1.2
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    predicted, rows = probability.argmax(1), np.arange(len(truth))
    batch = {"label": truth, "row": rows}
    base = {"prediction": np.full(len(truth), 3), "probability": np.tile(np.full(10, 0.1), (len(truth), 1))}
    metrics, baseline, details = judged(
        ClassificationMeter("label", [str(i) for i in range(10)]),
        {"prediction": predicted, "probability": probability},
        batch,
        base,
    )
    dataset = Dataset.from_batches(
        pa.table(
            {
                "image": pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(pictures)),
                "label": truth,
            }
        ).to_batches(500),
        name="sample:digits",
    ).with_splits((rows % 5 == 4).astype(np.uint8) * 2)
    gallery = []
    wrong = np.flatnonzero(predicted != truth)
    for row in wrong[np.argsort(-probability[wrong].max(1))][:12]:
        (folder / "gallery" / f"{row}.png").write_bytes(png(pictures[row]))
        gallery.append(
            {
                "row": int(row),
                "truth": str(truth[row]),
                "prediction": str(predicted[row]),
                "confidence": float(probability[row].max()),
                "inputs": {"image": {"type": "image", "file": f"gallery/{row}.png"}},
            }
        )
    curve(folder, 1500, 10, 150, "accuracy", seed)
    recipe = {
        "version": 1,
        "name": folder.name,
        "target": "label",
        "seed": seed,
        "data": {"source": {"kind": "sample", "name": "digits"}},
        "fields": {"image": {"kind": "image"}, "label": {"kind": "category"}},
        "task": {"kind": "classify", "target": "label"},
        "model": {"kind": "cnn", "depth": 3, "width": 32},
        "train": {"epochs": 10, "optimizer": {"kind": "adam", "lr": 0.001}},
    }
    data = {
        "audit": audit(dataset, "label"),
        "cleaning": {"rows_in": 1797, "rows_out": 1797, "counts": {}},
        "hashes": {"source": dataset.fingerprint},
    }
    evaluation = {
        "primary": "accuracy",
        "splits": {
            "test": metrics,
            "train": {k: {"value": min(1.0, v["value"] + 0.04)} for k, v in metrics.items()},
        },
        "baseline": {"test": baseline},
        "details": {"test": details},
    }
    return put(folder, recipe, evaluation, data, gallery)


def reviews(folder: Path) -> Path:
    """Two classes of Chinese texts, with repeated and contradictory rows and token weights."""
    (folder / "gallery").mkdir(parents=True)
    random = np.random.default_rng(1)
    good, bad = (
        ["质量很好", "物流很快", "非常满意", "值得购买", "服务热情"],
        ["质量太差", "物流太慢", "非常失望", "不值这个价", "服务恶劣"],
    )
    texts, labels = [], []
    for _ in range(900):
        kind = int(random.integers(2))
        words = random.choice([bad, good][kind], 3)
        texts.append("，".join(words) + f"。{random.integers(400)}号店")
        labels.append(["差评", "好评"][kind])
    texts, labels = [*texts, *texts[:300]], [*labels, *labels[:290], *(["好评"] * 10)]
    truth = np.array([label == "好评" for label in labels], int)
    p = np.clip(1 / (1 + np.exp(-(truth * 4 - 2 + random.normal(0, 1.4, len(truth))))), 1e-4, 1 - 1e-4)
    probability = np.stack([1 - p, p], 1)
    batch = {"评价": truth, "row": np.arange(len(truth))}
    base = {"prediction": np.ones(len(truth), int), "probability": np.tile([0.47, 0.53], (len(truth), 1))}
    metrics, baseline, details = judged(
        ClassificationMeter("评价", ["差评", "好评"]),
        {"prediction": probability.argmax(1), "probability": probability},
        batch,
        base,
    )
    dataset = Dataset.from_batches(
        pa.table({"正文": texts, "评价": labels}).to_batches(500), name="reviews.csv"
    ).with_splits((random.random(len(texts)) < 0.2).astype(np.uint8) * 2)
    gallery = [
        {
            "row": 12,
            "truth": "差评",
            "prediction": "好评",
            "confidence": 0.987,
            "inputs": {
                "正文": {
                    "type": "text",
                    "value": "物流很快，可惜质量太差",
                    "weights": [
                        ["物流", 0.4],
                        ["很快", 0.9],
                        ["，", 0.0],
                        ["可惜", -0.3],
                        ["质量", 0.05],
                        ["太差", -0.7],
                    ],
                }
            },
        },
        {
            "row": 77,
            "truth": "好评",
            "prediction": "差评",
            "confidence": 0.93,
            "inputs": {"正文": {"type": "text", "value": "不是不好，是非常好！" * 12}},
        },
    ]
    curve(folder, 400, 1, 20, "accuracy", 3, overfit=1.5)
    recipe = {
        "version": 1,
        "name": folder.name,
        "target": "评价",
        "seed": 0,
        "data": {"source": {"kind": "csv", "path": "reviews.csv"}},
        "fields": {"正文": {"kind": "text"}, "评价": {"kind": "category"}},
        "task": {"kind": "classify", "target": "评价"},
        "model": {"kind": "transformer", "layers": 4},
    }
    data = {
        "audit": audit(dataset, "评价"),
        "hashes": {"source": dataset.fingerprint},
        "cleaning": {
            "rows_in": 1210,
            "rows_out": 1200,
            "counts": {"missing target": 10},
            "changed": {"正文": {"truncated": 31}},
        },
    }
    evaluation = {
        "primary": "accuracy",
        "splits": {"test": metrics},
        "baseline": {"test": baseline},
        "details": {"test": details},
    }
    return put(folder, recipe, evaluation, data, gallery)


def diabetes(folder: Path) -> Path:
    """A number from a table."""
    (folder / "gallery").mkdir(parents=True)
    random = np.random.default_rng(2)
    frame = load_diabetes(as_frame=True, scaled=False).frame.astype(float)
    frame.loc[random.choice(len(frame), 30, replace=False), "bmi"] = np.nan
    truth = frame["target"].to_numpy(float)
    predicted = truth.mean() + 0.6 * (truth - truth.mean()) + random.normal(0, 28, len(truth))
    batch = {"target": truth[:, None], "row": np.arange(len(truth))}
    metrics, baseline, details = judged(
        RegressionMeter("target"),
        {"prediction": predicted[:, None]},
        batch,
        {"prediction": np.full((len(truth), 1), truth.mean())},
    )
    dataset = Dataset.from_batches(
        pa.Table.from_pandas(frame).to_batches(200), name="diabetes.csv"
    ).with_splits((np.arange(len(truth)) % 4 == 3).astype(np.uint8) * 2)
    curve(folder, 300, 5, 30, "r2", 5)
    columns = [name for name in frame.columns if name != "target"]
    recipe = {
        "version": 1,
        "name": folder.name,
        "target": "target",
        "seed": 0,
        "data": {"source": {"kind": "csv", "path": "diabetes.csv"}},
        "fields": {**{name: {"kind": "number"} for name in columns}, "target": {"kind": "number"}},
        "task": {"kind": "regress", "target": "target"},
        "model": {"kind": "tabm"},
    }
    data = {
        "audit": audit(dataset, "target"),
        "cleaning": {
            "rows_in": 442,
            "rows_out": 442,
            "changed": {"bmi": {"missing → median": 30}},
            "listed": [
                {"row": 4, "split": "train", "field": "bmi", "action": "missing → median", "value": None}
            ],
        },
        "hashes": {"source": dataset.fingerprint},
    }
    gallery = [
        {
            "row": 5,
            "truth": 97.0,
            "prediction": 201.33,
            "confidence": None,
            "inputs": {name: {"type": "value", "value": float(frame[name].iloc[5])} for name in columns},
        }
    ]
    return put(
        folder,
        recipe,
        {
            "primary": "rmse",
            "splits": {"test": metrics},
            "baseline": {"test": baseline},
            "details": {"test": details},
        },
        data,
        gallery,
    )


def gan(folder: Path) -> Path:
    """A generative run: two players, picture grids, no metric of a target; one sound in its gallery."""
    (folder / "samples").mkdir(parents=True)
    (folder / "gallery").mkdir()
    random = np.random.default_rng(4)
    pictures = (load_digits().images[:16] * 15.9).astype(np.uint8)
    for step in range(0, 2001, 100):
        share = step / 2000
        noisy = (pictures * share + random.integers(0, 256, pictures.shape) * (1 - share)).astype(np.uint8)
        (folder / "samples" / f"step-{step:08d}.png").write_bytes(
            png(np.block([[noisy[4 * i + j] for j in range(4)] for i in range(4)]), 128)
        )
    lines = [
        {
            "step": s,
            "samples": s * 64,
            "seconds": s * 0.05,
            "split": "train",
            "metrics": {"generator/loss": 0.7 + 0.3 * math.sin(s / 90), "discriminator/loss": 1.3 - s / 4000},
        }
        for s in range(1, 2001, 10)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with wave.open(str(folder / "gallery" / "a.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes((8000 * np.sin(np.arange(4000) / 5)).astype("<i2").tobytes())
    gallery = [
        {
            "row": 3,
            "truth": "zero",
            "prediction": "one",
            "confidence": 0.8,
            "inputs": {"audio": {"type": "audio", "file": "gallery/a.wav"}},
        }
    ]
    recipe = {
        "version": 1,
        "name": folder.name,
        "target": "",
        "fields": {"image": {"kind": "image"}},
        "task": {"kind": "adversarial"},
        "model": {"kind": "gan", "latent": 100},
    }
    return put(folder, recipe, {}, {}, gallery)
