"""audio: WAV reading against scipy and soundfile, resampling and spectra against scipy, augmentation."""

from __future__ import annotations

import io
import math
import struct
import time

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy import signal
from scipy.io import wavfile

from modelworks.core.errors import DataError
from modelworks.fields._media import Unreadable
from modelworks.fields._sounds import read_wav, resample
from modelworks.fields.audio import Audio, mel_filters

RNG = np.random.default_rng(0)
WAVE = (RNG.standard_normal(1600) * 0.1).astype(np.float32)


def wav(samples: np.ndarray, rate: int = 8000) -> bytes:
    stream = io.BytesIO()
    wavfile.write(stream, rate, samples)
    return stream.getvalue()


def files(*data: bytes) -> pa.Array:
    return pa.array(data, pa.binary())


@pytest.mark.parametrize("kind", ["u1", "<i2", "<i4", "<f4", "<f8"])
@pytest.mark.parametrize("channels", [1, 2])
def test_wav_is_scipys(kind: str, channels: int) -> None:
    stereo = np.stack([WAVE, WAVE[::-1]], 1)[:, :channels]
    scale = {"u1": 127, "<i2": 2**15 - 1, "<i4": 2**31 - 1}.get(kind, 1)
    samples = (stereo.astype(np.float64) * scale + (128 if kind == "u1" else 0)).astype(kind)
    sound = read_wav(wav(samples[:, 0] if channels == 1 else samples), 10)
    assert sound is not None
    assert sound.rate == 8000
    assert sound.seconds == pytest.approx(0.2)
    assert np.allclose(sound.samples, stereo.mean(1), atol=0.012 if kind == "u1" else 4e-5)
    few = read_wav(wav(samples), 0.01)
    assert few is not None
    assert len(few.samples) == 80
    assert few.seconds == pytest.approx(0.2)


@pytest.mark.parametrize("kind", ["PCM_24", "PCM_U8", "FLOAT", "DOUBLE", "ULAW", "FLAC", "OGG"])
def test_other_files_are_soundfiles(kind: str) -> None:
    soundfile = pytest.importorskip("soundfile")
    stream = io.BytesIO()
    if kind in ("FLAC", "OGG"):
        soundfile.write(stream, WAVE, 8000, format=kind)
    else:
        soundfile.write(stream, WAVE, 8000, format="WAVEX" if kind == "PCM_24" else "WAV", subtype=kind)
    field = Audio(features="waveform", rate=8000, seconds=0.2).fit([files(wav(WAVE))])
    found = field.encode(files(stream.getvalue()))
    assert found.bad == {}
    tolerance = {"OGG": 0.2, "ULAW": 0.02, "PCM_U8": 0.008}.get(kind, 1e-4)
    assert np.abs(found.values[:1600, 0] / 32768 - WAVE[: len(found.values)]).max() < tolerance


def test_headers_that_lie() -> None:
    good = wav((WAVE * 32767).astype("<i2"))
    at = good.index(b"data")
    huge = good[: at + 4] + struct.pack("<I", 0xFFFFFFFF) + good[at + 8 :]
    cut = good[: len(good) // 2]
    fast = good[:24] + struct.pack("<I", 0xFFFFFFFF) + good[28:]
    wide = good[:22] + struct.pack("<H", 65535) + good[24:]
    chunk = good[:12] + b"junk" + struct.pack("<I", 0xFFFFFFF0) + good[12:]
    field = Audio().fit([files(good)])
    start = time.perf_counter()
    found = field.encode(files(huge, cut, fast, wide, chunk, good[:40], b"RIFF\0\0\0\0WAVE", b"", good))
    assert time.perf_counter() - start < 1
    assert sorted(found.bad) == [2, 3, 4, 5, 6, 7]
    assert found.changed["file ends early"].tolist() == [1]
    assert np.array_equal(found.values[0], found.values[8])
    with pytest.raises(Unreadable, match="channels"):
        read_wav(wide, 1)
    with pytest.raises(DataError, match="no readable sound"):
        field.fit([files(b"x")])


def test_flipped_bytes_never_raise() -> None:
    good = wav((WAVE * 32767).astype("<i2"))
    field = Audio().fit([files(good)])
    datas = []
    for seed in range(200):
        random, data = np.random.default_rng(seed), bytearray(good)
        for at in random.integers(0, 60, 4):
            data[at] = random.integers(256)
        datas.append(bytes(data))
    assert field.encode(files(*datas)).values.shape == (200, field.state["length"])


@pytest.mark.parametrize(
    ("rate", "target"),
    [(8000, 16000), (16000, 8000), (44100, 16000), (22050, 16000), (48000, 44100), (11025, 8000)],
)
def test_resampling_is_scipys(rate: int, target: int) -> None:
    common = math.gcd(rate, target)
    expected = signal.resample_poly(WAVE, target // common, rate // common)
    found = resample(WAVE, rate, target)
    assert len(found) == len(expected)
    assert np.abs(found - expected).max() < 1e-5


def test_resampling_odd_rates_keeps_pitch() -> None:
    for rate in (7919, 44101, 99_991):
        tone = np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32)
        found = resample(tone, rate, 16000)
        assert abs(np.abs(np.fft.rfft(found[:16000])).argmax() - 440) <= 1
        middle = slice(1000, 15000)
        assert np.abs(found[middle] - np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)[middle]).max() < 0.02


def test_mel_filters_by_formula() -> None:
    bank, bins = mel_filters(20, 512, 16000), np.arange(257) * 16000 / 512

    def mel(hertz):
        return 2595 * np.log10(1 + hertz / 700)

    peaks = [700 * (10 ** (mel(8000) * (band + 1) / 21 / 2595) - 1) for band in range(20)]
    for band, peak in enumerate(peaks):
        assert abs(bins[bank[band].argmax()] - peak) <= 16000 / 512
    inside = (bins >= peaks[0]) & (bins <= peaks[-1])
    assert np.allclose(bank.sum(0)[inside], 1, atol=1e-5)  # neighbours share each frequency
    assert Audio(rate=2000, mels=200).fit([files(wav(WAVE, 2000))]).state["mels"] < 64


def test_log_mel_is_scipys_spectrum() -> None:
    field = Audio(mels=30).fit([files(wav(WAVE))])
    stored = field.encode(files(wav(WAVE))).values
    n_fft, hop = field.state["n_fft"], field.state["hop"]
    padded = np.pad(stored[0] / 32768, n_fft // 2)
    window = signal.get_window("hann", n_fft)
    frames = np.stack([padded[at : at + n_fft] * window for at in range(0, len(padded) - n_fft + 1, hop)], 1)
    power = np.abs(np.fft.rfft(frames, axis=0)) ** 2 / (window**2).sum()
    expected = np.log(mel_filters(30, n_fft, 8000) @ power + 1e-6)
    prepared = field.prepare(torch.from_numpy(stored))
    assert tuple(prepared.shape[1:]) == field.layout.shape == (1, 30, 21)
    found = (
        prepared[0, 0].numpy() * np.array(field.state["std"])[:, None]
        + np.array(field.state["mean"])[:, None]
    )
    assert np.allclose(found, expected, atol=1e-3)
    assert prepared.mean() == pytest.approx(0, abs=1e-4)  # of the very sound it was fitted on
    assert prepared.std(correction=0) == pytest.approx(1, abs=1e-3)


def test_lengths_are_learned_cut_and_padded() -> None:
    column = files(*(wav(np.tile(WAVE, 3)[: 80 * size]) for size in range(1, 41)))
    field = Audio().fit([column])
    assert field.state["rate"] == 8000
    assert field.state["length"] == round(np.quantile(np.arange(1, 41), 0.95) * 80)
    found = field.encode(column)
    assert found.changed["cut to length"].tolist() == [38, 39]
    assert len(found.changed["padded with silence"]) == 38
    ragged = Audio(features="waveform").fit([column])
    lengths = ragged.encode(column).lengths
    assert lengths is not None
    assert lengths[:5].tolist() == [80, 160, 240, 320, 400]
    assert ragged.layout.length == field.state["length"] == lengths.max()


def test_augmentation() -> None:
    column = files(*(wav((WAVE[: 1000 + 60 * row] * 32767).astype("<i2")) for row in range(10)))
    base = Audio(mels=20, seconds=0.25).fit([column])
    stored = torch.from_numpy(base.encode(column).values)

    def with_(**options: float) -> Audio:
        return base.but(**options).with_state(base.state)

    shifted = with_(time_shift=0.2).augment(stored, torch.Generator().manual_seed(0))
    for new, old in zip(shifted, stored, strict=True):
        by = int(np.argmax(np.correlate(new.double().numpy(), old.double().numpy(), "full"))) - (len(old) - 1)
        assert abs(by) <= 400
        assert torch.equal(new[max(by, 0) : len(old) + min(by, 0)], old[max(-by, 0) : len(old) - max(by, 0)])
    noisy = with_(noise=0.5).augment(stored, torch.Generator().manual_seed(0))
    added = (noisy.float() - stored.float()).square().sum(1).sqrt() / stored.float().square().sum(1).sqrt()
    assert added.min() > 0
    assert added.max() < 0.6
    assert (noisy[stored == 0] == 0).all()
    masked = with_(freq_mask=5, time_mask=6)
    prepared = base.prepare(stored)
    hidden = masked.augment_prepared(prepared, torch.Generator().manual_seed(0))
    zero = (hidden == 0) & (prepared != 0)
    rows = zero.all(3)[:, 0].sum(1)
    columns = zero.all(2)[:, 0].sum(1)
    assert rows.max() <= 5
    assert columns.max() <= 6
    assert rows.sum() > 0
    assert columns.sum() > 0
    assert torch.equal(hidden[~zero], prepared[~zero])
    assert base.augment_prepared(prepared, torch.Generator()) is prepared


def test_ragged_waveforms_keep_their_padding() -> None:
    column = files(wav(WAVE), wav(WAVE[:200]))
    field = Audio(features="waveform", seconds=0.2, time_shift=0.5, noise=1.0).fit([column])
    batch = torch.zeros(2, 1600, 1, dtype=torch.int16)
    values = torch.from_numpy(field.encode(column).values)
    batch[0, :, 0], batch[1, :200, 0] = values[:1600, 0], values[1600:, 0]
    assert (field.augment(batch, torch.Generator().manual_seed(0))[1, 200:] == 0).all()
    assert field.prepare(batch)[0].square().mean() == pytest.approx(1, abs=0.2)
