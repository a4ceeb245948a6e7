"""Plain scikit-learn on text, pictures or sounds: fit on train rows, print the accuracy on test rows.

    python plain.py text rows.jsonl        {"text", "label", "split"} a line
    python plain.py image|audio FOLDER     FOLDER/train/CLASS/… and FOLDER/test/CLASS/…

Text: TF-IDF of 1–3 characters and logistic regression. Pictures: pixels at 32 × 32 and an RBF support vector
machine. Sounds: mean and deviation of log spectra over time and the same machine.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC


def picture(path: Path) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(path).convert("RGB").resize((32, 32)), np.float32).ravel() / 255


def sound(path: Path) -> np.ndarray:
    import wave

    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
    samples = np.pad(samples, (0, max(0, 256 - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(samples, 256)[::128] * np.hanning(256)
    spectra = np.log(np.abs(np.fft.rfft(frames)) + 1e-4)
    return np.concatenate([spectra.mean(0), spectra.std(0)])


kind, source = sys.argv[1], Path(sys.argv[2])
started = time.perf_counter()
if kind == "text":
    rows = [json.loads(line) for line in source.open(encoding="utf-8")]
    parts = {split: [row for row in rows if row["split"] == split] for split in ("train", "test")}
    model = make_pipeline(
        TfidfVectorizer(analyzer="char", ngram_range=(1, 3), min_df=2, sublinear_tf=True),
        LogisticRegression(C=4, max_iter=500),
    )
    data = {
        split: ([row["text"] for row in part], [row["label"] for row in part])
        for split, part in parts.items()
    }
else:
    read = picture if kind == "image" else sound
    model = make_pipeline(StandardScaler(), SVC(C=10))
    data = {}
    for split in ("train", "test"):
        files = sorted((source / split).glob("*/*"))
        data[split] = (np.stack([read(file) for file in files]), [file.parent.name for file in files])
model.fit(*data["train"])
accuracy = float(model.score(*data["test"]))
print(
    json.dumps({"accuracy": accuracy, "seconds": time.perf_counter() - started, "rows": len(data["test"][1])})
)
