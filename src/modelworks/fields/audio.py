"""A column of sounds: files or paths, at one rate and length, as log-mel spectrograms or waveforms.

    fields: {clip: {kind: audio, rate: 16000, seconds: 2, noise: 0.05, time_mask: 20}}

Legend: B rows, S samples, F frames, M mel bands.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field as Limits
from pydantic import NonNegativeFloat, NonNegativeInt

from modelworks.core.errors import DataError
from modelworks.core.field import Encoded, Field, Layout
from modelworks.fields._media import Unreadable, each, sample, values_of
from modelworks.fields._sounds import decode, resample

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from modelworks.core.profile import ColumnProfile

_LONGEST = 10.0  # seconds, unless the user asks for more
_FLOOR = 1e-6  # added to power before the logarithm: about the noise of 16 bits


class Audio(Field):
    """Sounds."""

    rate: Annotated[int, Limits(ge=1000, le=192_000)] | None = None
    """Samples a second; None: the most common rate in training."""
    features: Literal["logmel", "waveform"] = "logmel"
    """logmel: the logarithm of power in mel bands, as a one-channel picture (mels, frames); waveform: the
    samples themselves, as frames of one number."""
    seconds: Annotated[float, Limits(gt=0, le=600)] | None = None
    """Longer sounds are cut and counted, shorter ones padded; None: the 95th percentile, at most 10."""
    mels: Annotated[int, Limits(ge=4, le=512)] = 64
    """Mel bands; fewer where the rate is so low that a band would hold no frequency."""
    n_fft: Annotated[int, Limits(ge=16, le=16_384)] | None = None
    """Samples of one spectrum; None: the power of two from 25 ms on."""
    hop: Annotated[int, Limits(ge=1)] | None = None
    """Samples from one spectrum to the next; None: 10 ms."""
    time_shift: Annotated[float, Limits(ge=0, le=1)] = 0.0
    """Augmentation: move by up to this share of the length; silence follows (waveform: leftwards)."""
    noise: NonNegativeFloat = 0.0
    """Augmentation: white noise, up to this share of the sound's root mean square."""
    freq_mask: NonNegativeInt = 0
    """Augmentation: widest band of mels that is masked (SpecAugment, Park et al. 2019)."""
    time_mask: NonNegativeInt = 0
    """Augmentation: widest run of frames that is masked (SpecAugment)."""

    # ------------------------------------------------------------------ inference of intent
    @classmethod
    def recognise(cls, profile: ColumnProfile) -> float:
        if profile.share(profile.audio_bytes) > 0.5:
            return 0.97
        return 0.95 if profile.share(profile.audio_paths) > 0.9 else 0.0

    # ------------------------------------------------------------------ learning
    def fit(self, chunks: Iterable[pa.Array], root: Path | None = None) -> Audio:
        values = sample(chunks, values_of)
        longest = self.seconds or _LONGEST
        heard = each(lambda value: decode(value, root, longest), values)
        sounds = [sound for sound in heard if not isinstance(sound, Unreadable)]
        if not sounds:
            reason = next((str(sound) for sound in heard if isinstance(sound, Unreadable)), "no rows")
            raise DataError(f"no readable sound among {len(values):,} looked at: {reason}")
        rate = self.rate or Counter(sound.rate for sound in sounds).most_common(1)[0][0]
        lengths = [min(sound.seconds, longest) for sound in sounds]
        n_fft = self.n_fft or 2 ** math.ceil(math.log2(0.025 * rate))
        length = max(round((self.seconds or float(np.quantile(lengths, 0.95))) * rate), 1)
        state: dict[str, Any] = {
            "rate": rate,
            "length": length,
            "n_fft": n_fft,
            "hop": self.hop or max(rate // 100, 1),
        }
        state["mels"] = _most_mels(self.mels, n_fft, rate)
        waves = [_fixed(resample(sound.samples, sound.rate, rate), length) for sound in sounds]
        if self.features == "waveform":
            kept = [
                wave[: min(length, round(sound.seconds * rate) or 1)]
                for wave, sound in zip(waves, sounds, strict=True)
            ]
            power = sum(float(np.square(wave / 32768.0).sum()) for wave in kept) / sum(map(len, kept))
            return self.with_state(state | {"mean": [0.0], "std": [math.sqrt(power) or 1.0]})
        draft = self.with_state(state)
        sums, squares, count = torch.zeros(2, state["mels"], dtype=torch.float64), 0, 0
        for start in range(0, len(waves), 16):
            mel_BMF = draft._logmel(torch.from_numpy(np.stack(waves[start : start + 16]))).double()
            sums += torch.stack([mel_BMF.sum((0, 2)), mel_BMF.square().sum((0, 2))])
            count += mel_BMF.shape[0] * mel_BMF.shape[2]
        mean, squares = sums / count
        std = (squares - mean**2).clamp_min(0).sqrt()
        std = torch.where(std < 1e-3, 1.0, std)  # a band that is always silent
        return self.with_state(state | {"mean": mean.tolist(), "std": std.tolist()})

    # ------------------------------------------------------------------ the modality
    @property
    def layout(self) -> Layout:
        state = self._state
        if self.features == "waveform":
            return Layout("frames", (1,), length=state["length"])
        return Layout("image", (1, state["mels"], 1 + state["length"] // state["hop"]))

    def encode(self, column: pa.Array, root: Path | None = None) -> Encoded:
        rate, length = self._state["rate"], self._state["length"]
        # A little more than is kept, so that the filter sees what follows the end.
        seconds = length / rate + 0.1

        def work(value: Any) -> tuple[np.ndarray, bool, bool]:
            sound = decode(value, root, seconds)
            wave = resample(sound.samples, sound.rate, rate)
            return wave[:length], sound.seconds * rate >= length + 1, sound.short

        bad, cut, short, waves = {}, [], [], []
        for row, found in enumerate(each(work, values_of(column))):
            if isinstance(found, Unreadable):
                bad[row] = str(found)
                found = np.zeros(1, np.float32), False, False
            waves.append(found[0])
            cut += [row] * found[1]
            short += [row] * found[2]
        changed = {"cut to length": cut, "file ends early": short}
        if self.features == "logmel":
            changed["padded with silence"] = [
                r for r, w in enumerate(waves) if len(w) < length and r not in bad
            ]
        changes = {what: np.array(rows) for what, rows in changed.items() if rows}
        if self.features == "waveform":
            lengths = np.array([len(wave) for wave in waves], np.int64)
            joined = np.concatenate([np.zeros(0, np.float32), *waves])
            return Encoded(_sixteen_bits(joined)[:, None], lengths, bad, changes)
        values = (
            np.stack([_fixed(wave, length) for wave in waves]) if waves else np.zeros((0, length), np.int16)
        )
        return Encoded(values, bad=bad, changed=changes)

    def contract(self) -> dict[str, Any]:
        ragged = self.features == "waveform"
        return {"rate": self._state["rate"], "samples": self._state["length"], "padded": not ragged}

    def decode(self, values: Any) -> list[np.ndarray]:
        """Stored samples → one int16 array a row, at `state["rate"]` samples a second."""
        return [np.asarray(row).reshape(-1).astype(np.int16) for row in values]

    def augment(self, values: Tensor, generator: Generator) -> Tensor:
        if not self.time_shift and not self.noise:
            return values
        rows, dtype = len(values), values.dtype
        flat_BS = values.reshape(rows, -1)
        random = torch.rand(2, rows, generator=generator, device=generator.device).to(values.device)
        if self.time_shift:
            size = flat_BS.shape[1]
            # A ragged batch is padded at the right with zeros that must stay: it moves to the left only.
            by_B = (2 * random[0] - 1 if self.features == "logmel" else -random[0]) * self.time_shift * size
            index_BS = torch.arange(size, device=values.device) - by_B.round().long()[:, None]
            inside_BS = (index_BS >= 0) & (index_BS < size)
            flat_BS = flat_BS.gather(1, index_BS.clamp(0, size - 1)) * inside_BS
        if self.noise:
            wave_BS = flat_BS.float()
            sounding_BS = flat_BS != 0  # silence added as padding stays silent
            power_B = wave_BS.square().sum(1) / sounding_BS.sum(1).clamp_min(1)
            white = torch.randn(flat_BS.shape, generator=generator, device=generator.device).to(values.device)
            wave_BS += white * sounding_BS * (random[1] * self.noise * power_B.sqrt())[:, None]
            flat_BS = wave_BS.round().clamp(-32768, 32767)
        return flat_BS.to(dtype).view_as(values)

    def prepare(self, values: Tensor) -> Tensor:
        if self.features == "waveform":
            return values.to(torch.float32, copy=True).mul_(1 / (32768 * self._state["std"][0]))
        mean_M1 = torch.tensor(self._state["mean"], device=values.device)[:, None]
        std_M1 = torch.tensor(self._state["std"], device=values.device)[:, None]
        return ((self._logmel(values) - mean_M1) / std_M1)[:, None]

    def augment_prepared(self, values: Tensor, generator: Generator) -> Tensor:
        """Training only, after `prepare`: SpecAugment, one band of mels and one run of frames a row set to 0,
        which is the training mean."""
        if self.features == "waveform" or not (self.freq_mask or self.time_mask):
            return values
        random = torch.rand(4, len(values), 1, generator=generator, device=generator.device).to(values.device)
        hidden = _run(values.shape[2], self.freq_mask, random[0], random[1])[:, None, :, None]
        hidden = hidden | _run(values.shape[3], self.time_mask, random[2], random[3])[:, None, None, :]
        return values.masked_fill(hidden, 0.0)

    def _logmel(self, values: Tensor) -> Tensor:
        """int16 (B, S) → natural logarithm of mel power (B, M, F)."""
        state = self._state
        wave_BS = values.to(torch.float32) * (1 / 32768)
        window = torch.hann_window(state["n_fft"], device=values.device)
        spectrum = torch.stft(
            wave_BS,
            state["n_fft"],
            state["hop"],
            window=window,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        # Divided by the window's power, so that the level does not depend on n_fft.
        power_BKF = (spectrum.real.square() + spectrum.imag.square()) / window.square().sum()
        bank = torch.from_numpy(mel_filters(state["mels"], state["n_fft"], state["rate"])).to(values.device)
        return torch.log(bank @ power_BKF + _FLOOR)


def mel_filters(mels: int, n_fft: int, rate: int) -> np.ndarray:
    """Triangular filters (mels, n_fft // 2 + 1), evenly spaced in mel = 2595·log10(1 + f / 700) (HTK)."""
    top = 2595 * math.log10(1 + rate / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, mels + 2) / 2595) - 1)
    bins = np.arange(n_fft // 2 + 1) * rate / n_fft
    rising = (bins - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    falling = (corners[2:, None] - bins) / (corners[2:] - corners[1:-1])[:, None]
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def _most_mels(mels: int, n_fft: int, rate: int) -> int:
    """The most bands, up to `mels`, of which each holds a frequency of the spectrum."""
    while mels > 1 and not mel_filters(mels, n_fft, rate).any(1).all():
        mels -= 1
    return mels


def _fixed(wave: np.ndarray, length: int) -> np.ndarray:
    """int16 (length,), cut or padded with silence."""
    out = np.zeros(length, np.int16)
    out[: len(wave)] = _sixteen_bits(wave[:length])
    return out


def _sixteen_bits(wave: np.ndarray) -> np.ndarray:
    return (wave * 32768).round().clip(-32768, 32767).astype(np.int16)


def _run(size: int, widest: int, width_B1: Tensor, start_B1: Tensor) -> Tensor:
    """A run of up to `widest` of `size` places in each row. bool (B, size)"""
    width_B1 = (width_B1 * (min(widest, size) + 1)).floor()
    start_B1 = (start_B1 * (size - width_B1 + 1)).floor()
    at = torch.arange(size, device=width_B1.device)
    return (at >= start_B1) & (at < start_B1 + width_B1)
