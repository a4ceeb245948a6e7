"""Hundreds of corrupted and hostile inputs: each gets a clear error or a counted quarantine, never anything else.

    python benchmarks/hostile.py                      all families
    python benchmarks/hostile.py --family runs --show weights

Each case runs the real command line (audit, train, predict, evaluate, report …) in a fork with 60 seconds and 4 GB.
Asserted: exit code 0 or 2; no traceback, no warning of Python's, no escape sequence that came from the data; an error
of at most 25 lines that names the file or the setting; after a training that succeeded, every row of the input is
accounted for (used, unreadable, quarantined or dropped); after a prediction, every row is answered or listed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from _warm import Done, Warm
from damage import Case, originals

FAMILIES = ("tables", "media", "settings", "runs", "places", "language")
SECONDS, MEMORY, LINES = 60, 4 << 30, 25
GROWTH = 2 << 30
"""Bytes of memory that a command may take beyond what the loaded libraries hold."""
_WARNING = re.compile(r"^\S+\.py:\d+: \w*Warning", re.MULTILINE)
TRAIN = ["--train.steps=4", "--train.batch_size=16", "--evaluate.bootstrap=5"]
RUNS = {
    "rows": (["train", "rows.csv", "--target=answer", "--fields.note=ignore", "--model=mlp"], lambda: {"rows.csv": originals.csv()}),
    "words": (["train", "rows.csv", "--target=answer", *(f"--fields.{name}=ignore" for name in ("age", "size", "colour", "price"))], lambda: {"rows.csv": originals.csv()}),
    "pictures": (["train", "pics"], originals.pictures),
    "sounds": (["train", "wavs"], originals.sounds),
    "plays": (["train", "plays.txt", "--task=language", "--fields.text.tokens=bpe", "--fields.text.vocabulary=300", "--fields.text.length=64", "--model.preset=llama", "--model.width=32", "--model.depth=1", "--model.heads=2", "--model.kv_heads=1", "--model.hidden=48"], lambda: {"plays.txt": originals.sentences()}),
}  # fmt: skip


def all_cases(seed: int = 0, families: Sequence[str] = FAMILIES) -> list[Case]:
    """Every case; the same for the same seed."""
    found = []
    for family in families:
        found += importlib.import_module(f"damage.{family}").cases(random.Random(f"{seed} {family}"))
    return found


def write(files: dict[str, bytes], folder: Path) -> None:
    """Files with their folders."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def train_runs(warm: Warm, folder: Path, names: Sequence[str] = tuple(RUNS)) -> None:
    """The sound Runs that are damaged later."""
    for name in names:
        argv, files = RUNS[name]
        (folder / name).mkdir(parents=True)
        write(files(), folder / name)
        done = warm.run([*argv, "--name", name, *TRAIN], folder / name)
        if done.code:
            raise RuntimeError(f"the Run {name} could not be trained: {done.error}")
        if name == "plays":
            for form in ("hf", "gguf"):
                done = warm.run(
                    ["export", name, "--format", form, "--output", f"exports/{form}"], folder / name
                )
                if done.code:
                    raise RuntimeError(f"the Run {name} could not be exported: {done.error}")


def judge(case: Case, done: Done, folder: Path) -> list[str]:
    """What is wrong with how a case ended; nothing when all is well."""
    wrong = []
    if done.timed_out:
        return [f"hangs: over {SECONDS} s"]
    if done.code not in (0, 2) or case.expect not in (None, done.code):
        wrong.append(f"exit code {done.code}{'' if case.expect is None else f', wanted {case.expect}'}")
    said = done.output + done.error
    if "Traceback" in said or "a bug in modelworks" in said:
        wrong.append("a bug of ours")
    if _WARNING.search(done.error):
        wrong.append("a Python warning")
    if "\x1b" in said or "\x07" in said:
        wrong.append("an escape sequence of the data reaches the terminal")
    if done.peak > GROWTH:
        wrong.append(f"takes {done.peak >> 20:,} MB of memory")
    if (done.code == 2 and case.argv[0] != "audit") or (done.code == 2 and done.error):
        if len(done.error.splitlines()) > LINES:
            wrong.append(f"an error of {len(done.error.splitlines())} lines")
        names = case.names or (case.argv[1],)
        if not done.error.startswith("modelworks: ") and "\nmodelworks: " not in done.error:
            wrong.append("an error without our name")
        if not any(name in said for name in names):
            wrong.append(f"the error names none of {names}")
    for name, text in case.forbidden.items():
        if (folder / name).exists() and (not text or text in (folder / name).read_text("utf-8", "replace")):
            wrong.append(f"{name}{f' holds {text}' if text else ' was written'}")
    if done.code == 0 and case.argv[0] == "train":
        wrong += rows_of_training(case, folder)
    if done.code == 0 and case.argv[0] == "predict" and "out.csv" in case.argv:
        wrong += rows_of_prediction(case, folder)
    return wrong


def rows_of_training(case: Case, folder: Path) -> list[str]:
    """Whether data.json accounts for every row."""
    path = folder / "runs" / "out" / "data.json"
    if not path.exists():
        return []
    cleaning = json.loads(path.read_text("utf-8"))["cleaning"]
    parts = {
        "used": sum(cleaning["rows"].values()), "unreadable": cleaning["unreadable"]["count"],
        "quarantined": sum(cleaning["quarantined"].values()), "dropped": sum(cleaning["counts"].values()),
    }  # fmt: skip
    wrong = []
    if sum(parts.values()) != cleaning["rows_in"]:
        wrong.append(f"{cleaning['rows_in']} rows in, but {parts}")
    if case.rows is not None and cleaning["rows_in"] != case.rows:
        wrong.append(f"{case.rows} rows were given, {cleaning['rows_in']} counted")
    return wrong


def rows_of_prediction(case: Case, folder: Path) -> list[str]:
    """Whether each row has an answer or a reason."""
    import pyarrow.csv

    listed = folder / "out.csv.errors.jsonl"
    errors = [json.loads(line) for line in listed.read_text("utf-8").splitlines()] if listed.exists() else []
    options = pyarrow.csv.ParseOptions(newlines_in_values=True)
    size = pyarrow.csv.ReadOptions(block_size=64 << 20)
    empty = not (folder / "out.csv").exists() or not (folder / "out.csv").stat().st_size
    answers = (
        []
        if empty
        else pyarrow.csv.read_csv(folder / "out.csv", size, options).column("prediction").to_pylist()
    )
    wrong = []
    silent = sum(answer in (None, "") for answer in answers) - sum("error" in entry for entry in errors)
    if silent > 0:
        wrong.append(f"{silent} rows have neither an answer nor a reason")
    lost = sum("error" not in entry for entry in errors)
    if case.rows is not None and len(answers) + lost != case.rows:
        wrong.append(
            f"{case.rows} rows were asked about, {len(answers)} answered, {lost} listed as unreadable"
        )
    return wrong


def run(case: Case, warm: Warm, library: Path, folder: Path) -> tuple[Done, list[str]]:
    """One case in a folder of its own."""
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    write(dict(case.files), folder)
    for name in case.runs:
        shutil.copytree(library / name / "runs" / name, folder / "runs" / name)
        if (library / name / "exports").exists():
            shutil.copytree(library / name / "exports", folder / "exports")
    if case.prepare is not None:
        case.prepare(folder)
    for name in (".stdout", ".stderr"):
        (folder / name).touch()
        (folder / name).chmod(0o666)
    done = warm.run(
        case.argv, folder, stdin=folder / case.stdin if case.stdin else None, timeout=SECONDS, memory=MEMORY,
        largest_file=case.largest_file, user=case.user,
    )  # fmt: skip
    folder.chmod(0o777)
    return done, judge(case, done, folder)


def examine(
    cases: Sequence[Case], work: Path, say: Callable[[str], None] = print, show: str = "", every: bool = False
) -> list[str]:
    """Run the cases; the failures, each in a few lines."""
    counts: dict[str, list[int]] = {}
    failures = []
    needed = sorted({name for case in cases for name in case.runs})
    with Warm() as warm:
        train_runs(warm, work / "library", needed)
        for number, case in enumerate(cases):
            folder = work / f"case-{number:03d}"
            done, wrong = run(case, warm, work / "library", folder)
            tally = counts.setdefault(case.family, [0, 0, 0, 0])
            tally[0] += 1
            tally[1] += done.code == 0
            tally[2] += done.code == 2
            tally[3] += bool(wrong)
            if wrong:
                failures.append(
                    f"{case.family}: {case.name}: {'; '.join(wrong)}\n    modelworks {' '.join(case.argv)[:160]!r}\n    {done.error.strip()[:600]}"
                )
                say(f"FAILS {failures[-1]}")
            if every or (show and show in case.name):
                say(
                    f"{case.family}: {case.name}: {done.code} in {done.seconds:.1f} s, {done.peak >> 20} MB\n{done.output[-1500:] if show else ''}{done.error[-1500:]}"
                )
            shutil.rmtree(folder, ignore_errors=True)
    say(f"{'family':<10} {'cases':>6} {'success':>8} {'error':>6} {'failed':>7}")
    for family, (total, good, refused, failed) in counts.items():
        say(f"{family:<10} {total:>6} {good:>8} {refused:>6} {failed:>7}")
    say(f"{len(cases) - len(failures)}/{len(cases)}")
    return failures


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--family", choices=FAMILIES)
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name holds this")
    parser.add_argument("--every", action="store_true", help="print how each case ended")
    parser.add_argument("--show", default="", metavar="TEXT", help="print all that cases of this name said")
    args = parser.parse_args()
    cases = [
        case
        for case in all_cases(args.seed, [args.family] if args.family else FAMILIES)
        if args.only in case.name
    ]
    with tempfile.TemporaryDirectory(prefix="modelworks-hostile-") as folder:
        return int(
            bool(examine(cases, Path(folder), lambda text: print(text, flush=True), args.show, args.every))
        )


if __name__ == "__main__":
    # Models, tasks and the sealing of Runs are asked about by the cases.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
    sys.exit(main())
