"""One picture, sound or text, a list of them, or pictures as arrays: each is answered as a row of a table would be."""

from __future__ import annotations

import csv
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import modelworks
from modelworks.cli import main

FAST = ["--train.steps=2", "--quiet", "--name=r", "--evaluate.bootstrap=0"]


def one_row(file: str) -> dict[str, str]:
    assert main(["predict", "r", file, "--output", "out.csv"]) == 0
    (row,) = csv.DictReader(Path("out.csv").read_text("utf-8").splitlines())
    return row


def probabilities(table: object) -> np.ndarray:
    frame = table.to_pandas()  # type: ignore[attr-defined]
    return frame[[name for name in frame if name.startswith("probability_")]].to_numpy()


def test_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        Path("pets", label).mkdir(parents=True)
        for number in range(15):
            Image.fromarray(rng.integers(0, 255, (9, 9, 3), np.uint8)).save(f"pets/{label}/{number}.png")
    assert main(["train", "pets", "--model=cnn", *FAST]) == 0
    run = modelworks.load("r")
    paths = ["pets/dog/3.png", "pets/cat/0.png"]
    wanted = run.predict("pets").to_pandas().set_index("image").loc[["dog/3.png", "cat/0.png"]]
    wanted = wanted[["probability_cat", "probability_dog"]].to_numpy()
    assert float(one_row(paths[0])["probability_cat"]) == pytest.approx(wanted[0, 0], abs=1e-5)
    assert probabilities(run.predict(paths)) == pytest.approx(wanted, abs=1e-5)
    pixels = [np.asarray(Image.open(path)) for path in paths]
    assert probabilities(run.predict(Path(paths[1]))) == pytest.approx(wanted[1:], abs=1e-5)
    assert probabilities(run.predict(pixels[0])) == pytest.approx(wanted[:1], abs=1e-5)
    assert probabilities(run.predict(np.stack(pixels))) == pytest.approx(wanted, abs=1e-5)
    assert main(["predict", "r", "pets/cat/nothing.png"]) == 2
    assert "no such file" in capsys.readouterr().err
    Path("a.txt").write_text("hello")
    assert main(["predict", "r", "a.txt"]) == 2
    assert "the Run reads no text; its inputs: image (image)" in capsys.readouterr().err
    with pytest.raises(modelworks.UserError, match="all of one kind"):
        run.predict(["pets/cat/0.png", "a.txt"])


def test_a_sound() -> None:
    for label, hertz in (("low", 200), ("high", 1800)):
        Path("sounds", label).mkdir(parents=True)
        for number in range(15):
            samples = (8000 * np.sin(2 * np.pi * hertz * np.arange(2000 + 9 * number) / 8000)).astype("<i2")
            with wave.open(f"sounds/{label}/{number}.wav", "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(8000)
                file.writeframes(samples.tobytes())
    assert main(["train", "sounds", *FAST]) == 0
    table = modelworks.load("r").predict("sounds").to_pandas().set_index("audio")
    row = one_row("sounds/low/4.wav")
    assert float(row["probability_low"]) == pytest.approx(table.loc["low/4.wav", "probability_low"], abs=1e-5)


def test_a_text_is_one_row(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"the film was {'good' if n % 2 else 'bad'} and number {n} of them all" for n in range(60)]
    Path("t.csv").write_text("text,y\n" + "".join(f"{text},{'uv'[n % 2]}\n" for n, text in enumerate(rows)))
    assert main(["train", "t.csv", "--target=y", "--fields.text=text", *FAST]) == 0
    text = "the film was good\nand the second line too\n"
    Path("a.txt").write_text(text)
    run = modelworks.load("r")
    wanted = probabilities(run.predict({"text": [text]}))
    assert float(one_row("a.txt")["probability_u"]) == pytest.approx(wanted[0, 0], abs=1e-5)
    assert "answered as one text" in capsys.readouterr().err
    assert probabilities(run.predict(["a.txt", "a.txt"])) == pytest.approx(np.repeat(wanted, 2, 0), abs=1e-5)
