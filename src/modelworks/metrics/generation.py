"""Metrics of generated values against real ones, for adversarial tasks.

    meter = GenerationMeter()

`frechet` is the Fréchet distance between Gaussians fitted to a few features of real and of generated rows
(the formula of Heusel et al. 2017, but the features here are random projections, not a trained network's): it
compares means and covariances only, so it notices a collapsed or a wrong-toned generator, not a missing eye.
Compare it between runs on the same data and size, never with published FID figures.

Shapes: N rows, D features, R replicates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from modelworks.metrics.bootstrap import Sums, blocks, summary

_ROWS, _REAL, _FAKE = range(3)
_FIRST = 3


class GenerationMeter:
    """Streaming moments of `real` and `fake` features, and how well the discriminator tells them apart."""

    def __init__(self, bootstrap: int = 200, seed: int = 0) -> None:
        self.bootstrap, self.seed = bootstrap, seed
        self._sums: Sums | None = None
        self._width = 0

    def update(self, answer: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]) -> None:
        """Add `real` and `fake` (N, D), `prediction` and `prediction_fake` (N,): probabilities of "real"."""
        real_ND, fake_ND = (np.asarray(answer[name], np.float64) for name in ("real", "fake"))
        rows_N = np.asarray(batch["row"]).reshape(-1)
        self._width = real_ND.shape[1]
        self._upper = np.triu_indices(self._width)
        if self._sums is None:
            self._sums = Sums(_FIRST + 2 * (self._width + len(self._upper[0])), self.bootstrap)
        right = [np.ones(len(rows_N)), answer["prediction"] > 0.5, answer["prediction_fake"] < 0.5]
        products = [part_ND[:, self._upper[0]] * part_ND[:, self._upper[1]] for part_ND in (real_ND, fake_ND)]
        values_NF = np.concatenate([np.stack(right, 1), real_ND, products[0], fake_ND, products[1]], 1)
        for part, weights_NR in blocks(rows_N, self.bootstrap, self.seed):
            self._sums.add(values_NF[part], weights_NR)

    def result(self) -> dict[str, dict[str, Any]]:
        """`frechet`, `diversity` (generated variance over real: 0 is collapse, 1 is right), accuracies."""
        if self._sums is None or not self._sums.total[_ROWS]:
            return {}
        plain, spread = self._compare(self._sums.total[None]), self._compare(self._sums.weighted)
        found = {name: summary(value[0], spread[name]) for name, value in plain.items()}
        found["real_accuracy"] = self._sums.summary(lambda s: s[..., _REAL] / s[..., _ROWS])
        found["fake_accuracy"] = self._sums.summary(lambda s: s[..., _FAKE] / s[..., _ROWS])
        return {name: entry for name, entry in found.items() if entry is not None}

    def details(self) -> dict[str, Any]:
        """For the report: the number of rows compared and of features."""
        return {"rows": 0 if self._sums is None else int(self._sums.total[_ROWS]), "features": self._width}

    def _compare(self, sums_RF: np.ndarray) -> dict[str, np.ndarray]:
        kept_RF = sums_RF[sums_RF[:, _ROWS] > 0]
        rows_R1 = kept_RF[:, _ROWS, None]
        real, fake = (self._moments(part, rows_R1) for part in np.split(kept_RF[:, _FIRST:], 2, axis=1))
        shift_R = ((real[0] - fake[0]) ** 2).sum(1)
        trace = [np.trace(cov, axis1=1, axis2=2) for _, cov in (real, fake)]
        # tr √(A B) = Σ √eigenvalues of √A B √A, which is symmetric.
        values, vectors = np.linalg.eigh(real[1])
        root = (vectors * np.sqrt(np.maximum(values, 0))[:, None]) @ vectors.transpose(0, 2, 1)
        common = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ fake[1] @ root), 0)).sum(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                "frechet": np.maximum(shift_R + trace[0] + trace[1] - 2 * common, 0.0),
                "diversity": trace[1] / trace[0],
            }

    def _moments(self, part_RF: np.ndarray, rows_R1: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean_RD, second = part_RF[:, : self._width] / rows_R1, part_RF[:, self._width :] / rows_R1
        square_RDD = np.zeros((len(part_RF), self._width, self._width))
        square_RDD[:, self._upper[0], self._upper[1]] = second
        square_RDD[:, self._upper[1], self._upper[0]] = second
        return mean_RD, square_RDD - mean_RD[:, :, None] * mean_RD[:, None, :]
