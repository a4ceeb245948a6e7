"""Metrics of predicted numbers, in the raw units of the data.

    meter = RegressionMeter("price", decode=lambda stored: stored * 1000)

`mape` is a share (0.1 is 10 %) over the rows whose truth is not zero; `pinball` is the mean over the
quantiles asked for (Koenker & Bassett 1978), `coverage` the share of truths between the lowest and the
highest of them.

Shapes: N rows, Q quantiles, F columns of sums, R replicates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from modelworks.core.dataset import mix
from modelworks.metrics.bootstrap import Sums, blocks, poisson_weights, summary

EXACT_ROWS = 100_000
"""Up to here the median error is exact; beyond, from a histogram whose bins are 0.4 % wide."""
SAMPLE = 1000
"""Rows kept for the pictures: those with the least hash of their number, whatever their order."""
_ROWS, _SQUARE, _ABSOLUTE, _TRUTH, _TRUTH2, _SHARE, _SHARES = range(7)
_PINBALL, _COVERED = 7, 8


class RegressionMeter:
    """Streaming metrics of `prediction` (N,) and perhaps `quantile` (N, Q)."""

    def __init__(
        self,
        target: str,
        quantiles: Sequence[float] = (),
        decode: Callable[[np.ndarray], np.ndarray] | None = None,
        bootstrap: int = 200,
        seed: int = 0,
    ) -> None:
        self.target, self.quantiles = target, np.asarray(quantiles, np.float64)
        self.bootstrap, self.seed = bootstrap, seed
        self._decode = decode or (lambda stored: stored)
        self._sums = Sums(9, bootstrap)
        self._centre: float | None = None
        self._errors = _Median(bootstrap, seed)
        self._sample = np.zeros((0, 3))
        self._keys = np.zeros(0, np.uint64)

    def update(self, answer: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]) -> None:
        """Add one batch; predictions and truths come in stored units and are decoded here."""
        rows_N = np.asarray(batch["row"]).reshape(-1)
        if not len(rows_N):
            return
        truth_N = self._raw(batch[self.target]).reshape(-1)
        predicted_N = self._raw(answer["prediction"]).reshape(-1)
        if self._centre is None:
            # Any constant near the data will do: it keeps Σ(y − c)² from losing digits to a large mean.
            self._centre = float(truth_N.mean())
        error_N = predicted_N - truth_N
        absolute_N = np.abs(error_N)
        shared_N = truth_N != 0
        values_NF = np.zeros((len(rows_N), 9))
        values_NF[:, _ROWS] = 1.0
        values_NF[:, _SQUARE] = error_N**2
        values_NF[:, _ABSOLUTE] = absolute_N
        values_NF[:, _TRUTH] = truth_N - self._centre
        values_NF[:, _TRUTH2] = (truth_N - self._centre) ** 2
        values_NF[shared_N, _SHARE] = absolute_N[shared_N] / np.abs(truth_N[shared_N])
        values_NF[:, _SHARES] = shared_N
        if len(self.quantiles) and "quantile" in answer:
            stored_NQ = np.asarray(answer["quantile"])
            quantile_NQ = np.stack([self._raw(column_N) for column_N in stored_NQ.T], 1)
            below_NQ = truth_N[:, None] - quantile_NQ
            values_NF[:, _PINBALL] = np.maximum(
                self.quantiles * below_NQ, (self.quantiles - 1) * below_NQ
            ).mean(1)
            values_NF[:, _COVERED] = (quantile_NQ.min(1) <= truth_N) & (truth_N <= quantile_NQ.max(1))
        for part, weights_NR in blocks(rows_N, self.bootstrap, self.seed):
            self._sums.add(values_NF[part], weights_NR)
        self._errors.add(absolute_N, rows_N)
        self._keep(np.stack([rows_N, truth_N, predicted_N], 1), rows_N)

    def _raw(self, stored: np.ndarray) -> np.ndarray:
        return np.asarray(self._decode(np.asarray(stored)), np.float64)

    def _keep(self, triples: np.ndarray, rows_N: np.ndarray) -> None:
        with np.errstate(over="ignore"):
            keys = np.concatenate(
                [self._keys, mix(rows_N.astype(np.uint64) + mix(np.array([self.seed + 1], np.uint64)))]
            )
        chosen = np.argsort(keys, kind="stable")[:SAMPLE]
        self._sample, self._keys = np.concatenate([self._sample, triples])[chosen], keys[chosen]

    def result(self) -> dict[str, dict[str, Any]]:
        """Metric → {"value", "low", "high"}."""
        if not self._sums.total[_ROWS]:
            return {}
        wanted: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            "mse": lambda s: s[..., _SQUARE] / s[..., _ROWS],
            "rmse": lambda s: np.sqrt(s[..., _SQUARE] / s[..., _ROWS]),
            "mae": lambda s: s[..., _ABSOLUTE] / s[..., _ROWS],
            "r2": lambda s: 1 - s[..., _SQUARE] / (s[..., _TRUTH2] - s[..., _TRUTH] ** 2 / s[..., _ROWS]),
            "mape": lambda s: s[..., _SHARE] / s[..., _SHARES],
        }
        if len(self.quantiles):
            wanted["pinball"] = lambda s: s[..., _PINBALL] / s[..., _ROWS]
            wanted["coverage"] = lambda s: s[..., _COVERED] / s[..., _ROWS]
        found = {name: self._sums.summary(metric) for name, metric in wanted.items()}
        found["median_ae"] = self._errors.result()
        return {name: entry for name, entry in found.items() if entry is not None}

    def details(self) -> dict[str, Any]:
        """For the report: `residuals` (quantiles of prediction − truth) and `points`, of a sample of rows."""
        total = self._sums.total
        found: dict[str, Any] = {
            "rows": int(total[_ROWS]),
            "sampled": len(self._sample),
            "mape_left_out": int(total[_ROWS] - total[_SHARES]),
        }
        if len(self._sample):
            shares = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
            residual = self._sample[:, 2] - self._sample[:, 1]
            found["residuals"] = {
                f"{q:g}": float(v) for q, v in zip(shares, np.quantile(residual, shares), strict=True)
            }
            order = np.argsort(self._sample[:, 0], kind="stable")
            found["points"] = [
                {"row": int(row), "truth": float(truth), "prediction": float(predicted)}
                for row, truth, predicted in self._sample[order]
            ]
        return found


class _Median:
    """Median of non-negative numbers: exact while few, then by a histogram over the bits of float32."""

    def __init__(self, replicates: int, seed: int) -> None:
        self.replicates, self.seed = replicates, seed
        self._kept: list[tuple[np.ndarray, np.ndarray]] = []
        self._rows = 0
        self._bins: np.ndarray | None = None

    def add(self, values_N: np.ndarray, rows_N: np.ndarray) -> None:
        self._rows += len(values_N)
        if self._bins is None:
            self._kept.append((values_N, np.array(rows_N)))
            if self._rows <= EXACT_ROWS:
                return
            self._bins = np.zeros(1 << 16, np.int64)
            kept, self._kept = self._kept, []
            for values, _ in kept:
                self._bins += _bits(values)
        else:
            self._bins += _bits(values_N)

    def result(self) -> dict[str, Any] | None:
        if self._bins is not None:
            held = np.flatnonzero(self._bins)
            middles = (
                (((held.astype(np.uint32) << 15) + (1 << 14)).astype(np.uint32))
                .view(np.float32)
                .astype(np.float64)
            )
            middles[held == 0] = 0.0
            counts = self._bins[held]
            random = np.random.default_rng([self.seed, 1])
            drawn = [_middle(middles, random.poisson(counts)[:, None]) for _ in range(self.replicates)]
            return summary(
                _middle(middles, counts[:, None])[0], np.array(drawn).reshape(-1), approximate=True
            )
        values_N = np.concatenate([values for values, _ in self._kept])
        rows_N = np.concatenate([rows for _, rows in self._kept])
        order = np.argsort(values_N, kind="stable")
        step = max(8, 1_000_000 // len(rows_N) // 4 * 4)
        replicates = [
            _middle(
                values_N[order],
                poisson_weights(rows_N, range(start, min(start + step, self.replicates)), self.seed)[order],
            )
            for start in range(0, self.replicates, step)
        ]
        return summary(np.median(values_N), np.concatenate(replicates) if replicates else np.zeros(0))


def _bits(values: np.ndarray) -> np.ndarray:
    """Counts by the upper 16 bits of float32, which rise with the value."""
    return np.bincount(values.astype(np.float32).view(np.uint32) >> 15, minlength=1 << 16)


def _middle(sorted_N: np.ndarray, weights_NR: np.ndarray) -> np.ndarray:
    """Weighted median of each column of weights, the mean of both middles when they differ."""
    running = np.cumsum(weights_NR, axis=0, dtype=np.int64)
    low = (2 * running >= running[-1]).argmax(0)
    high = (2 * running > running[-1]).argmax(0)
    return np.where(running[-1] > 0, (sorted_N[low] + sorted_N[high]) / 2, np.nan)
