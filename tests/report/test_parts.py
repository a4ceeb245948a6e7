"""The parts of a report: charts, ticks, curves, verdicts, against numpy and plain arithmetic."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelworks.report import curves, details, verdict, words
from modelworks.report.folder import Files, step_of
from modelworks.report.matrix import heatmap
from modelworks.report.svg import (
    Axis,
    Series,
    bars,
    histogram,
    lines,
    log_ticks,
    scatter,
    sparkbars,
    thin,
    ticks,
)

finite = st.floats(-1e9, 1e9)


@given(finite, st.floats(1e-6, 1e9))
def test_ticks_are_round_and_inside(low, span):
    high = low + span
    found = ticks(low, high)
    assert len(found) <= 11
    step = np.diff(found)
    if len(found) > 1 and span > 1e-6 * abs(low):
        assert np.allclose(step, step[0], rtol=1e-3)
        assert all(low - span * 0.01 <= value <= high + span * 0.01 for value in found)


@given(st.floats(1e-9, 1e6), st.floats(1.5, 1e9))
def test_log_ticks_are_inside(low, factor):
    found = log_ticks(low, low * factor)
    assert all(low * 0.99 <= value <= low * factor * 1.01 for value in found)
    assert len(found) <= 12


@given(
    st.lists(st.tuples(st.floats(), st.floats()), max_size=30),
    st.booleans(),
    st.booleans(),
    st.text(max_size=10),
)
def test_charts_are_xml_whatever_the_numbers(points, log_x, log_y, name):
    """Every chart parses, and no coordinate is outside the picture or not a number."""
    name = "".join(letter for letter in name if letter.isprintable())
    x, y = [p[0] for p in points], [p[1] for p in points]
    charts = [lines([Series(name, x, y)], title=name, x_label=name, log_x=log_x, log_y=log_y, diagonal=True)]
    kept = [p for p in points if all(map(math.isfinite, p))]
    charts.append(scatter([p[0] for p in kept], [p[1] for p in kept], title=name, x_label=name, y_label="y"))
    charts.append(bars([name] * len(kept), [p[0] for p in kept], title=name))
    for chart in charts:
        root = ElementTree.fromstring(str(chart))
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        for element in root.iter():
            for key in ("x", "x1", "x2", "cx"):
                assert -1 <= float(element.attrib.get(key, 0)) <= width + 60
            for key in ("y", "y1", "y2", "cy"):
                assert -1 <= float(element.attrib.get(key, 0)) <= height + 1


def test_axis_maps_ends_and_middle():
    assert [Axis(0, 10, 50, 250)(v) for v in (0, 5, 10, 99)] == [50, 150, 250, 250]
    assert Axis(1, 100, 0, 100, log=True)(10) == 50


@given(st.integers(0, 10**6), st.integers(401, 3000))
def test_thinning_keeps_extremes(seed, length):
    values = np.random.default_rng(seed).normal(size=length).tolist()
    kept = thin(range(len(values)), values)
    assert len(kept) <= 402
    assert max(v for _, v in kept) == max(values)
    assert min(v for _, v in kept) == min(values)
    assert kept[-1] == (len(values) - 1, values[-1])


def test_histogram_and_heatmap_draw_every_count():
    counts, edges = np.histogram([1, 1, 2, 5, 9], 4)
    bars_drawn = list(ElementTree.fromstring(str(histogram(edges, counts, title="t"))).iter("rect"))
    tall = [float(e.attrib["height"]) for e in bars_drawn]
    assert np.allclose(np.array(tall) / max(tall), counts / counts.max(), atol=0.01)
    text = str(heatmap([[5, 1], [2, 9]], ["<a>", "狗"], title="m"))
    root = ElementTree.fromstring(text)
    assert {"5", "1", "2", "9", "<a>", "狗"} <= {e.text for e in root.iter("text")}
    assert "<a> taken for 狗: 1 of 6" in {e.text for e in root.iter("title")}
    assert len(list(ElementTree.fromstring(str(sparkbars([1, 0, 3], "s"))).iter("rect"))) == 3


def test_history_and_smoothing():
    log = [
        {"step": 1, "split": "train", "metrics": {"loss": 2.0, "bad": float("nan"), "text": "x"}},
        {"step": 2, "split": "valid", "metrics": {"loss": 1.5}},
        {"split": "train", "metrics": {"loss": 9}}, {"step": 3, "metrics": None},
    ]  # fmt: skip
    assert curves.history(log) == {"loss": {"train": ([1.0], [2.0]), "valid": ([2.0], [1.5])}}
    assert curves.smooth([3.0] * 50) == pytest.approx([3.0] * 50)
    noisy = np.random.default_rng(0).normal(size=500)
    assert np.std(curves.smooth(noisy)[50:]) < 0.5 * np.std(noisy)
    assert curves.order(["lr", "z", "accuracy", "loss"], "accuracy") == ["loss", "accuracy", "z", "lr"]


def evaluation(value: float, low: float, high: float, base: float, metric: str = "accuracy") -> dict:
    entry = {"value": value, "low": low, "high": high}
    return {
        "primary": metric,
        "splits": {"test": {metric: entry}},
        "baseline": {"test": {metric: {"value": base}}},
    }


@pytest.mark.parametrize(
    "found, tone, said",
    [
        (evaluation(0.9, 0.85, 0.95, 0.5), "good", "80 % of its mistakes are gone"),
        (evaluation(0.55, 0.45, 0.65, 0.5), "warning", "not shown"),
        (evaluation(0.4, 0.3, 0.5, 0.5), "error", "not better"),
        (evaluation(2.0, 1.5, 2.5, 4.0, "rmse"), "good", "50 % less"),
        (evaluation(3.9, 3.5, 4.5, 4.0, "rmse"), "warning", "not shown"),
        ({}, "warning", "not been evaluated"),
    ],
)  # fmt: skip
def test_verdict_follows_from_interval_and_baseline(found, tone, said):
    first = verdict.sentences(Files(Path("."), evaluation=found), {})[0]
    assert first["tone"] == tone
    assert said in first["text"]


def losses(values: list[float]) -> Files:
    return Files(
        Path("."),
        log=[{"step": i + 1, "split": "valid", "metrics": {"loss": v}} for i, v in enumerate(values)],
    )


def test_verdict_reads_the_curves():
    assert "lowest at step 3 (0.5000)" in str(verdict.sentences(losses([1, 0.7, 0.5, 0.6, 0.9]), {}))
    assert "still falling" in str(verdict.sentences(losses([4, 3, 2, 1.5, 1.2]), {}))
    log = [
        {"step": i, "split": "train", "metrics": {"loss": v}}
        for i, v in enumerate([1.0] * 50 + [0.1] * 40 + [0.9] * 10)
    ]
    assert "not stable" in str(verdict.sentences(Files(Path("."), log=log), {}))
    calm = [line | {"metrics": {"loss": 0.1}} for line in log]
    calm[-1] = log[-1] | {"metrics": {"loss": 40.0}}  # one bad batch is no verdict
    assert "not stable" not in str(verdict.sentences(Files(Path("."), log=calm), {}))
    assert "falling" not in str(verdict.sentences(losses([1, 0.5, 0.5, 0.5, 0.5]), {}))


def test_details_tolerate_and_rank():
    found = {"labels": ["a", "b", "c"], "confusion": [[8, 2, 0], [0, 9, 1], [5, 0, 5]]}
    pairs = details.confused_pairs(found)
    assert pairs[0] == {"truth": "c", "prediction": "a", "count": 5, "share": 0.5}
    assert details.matrix_of({"confusion": [[1, 2], [3]]}) == []
    assert details.matrix_of({"confusion": [[1, float("nan")], [3, 4]]}) == []
    rows, left = details.classes({"classes": [{"label": "a", "truth": 10, "predicted": 13, "hits": 8}]})
    assert (rows[0]["precision"], rows[0]["recall"]) == (8 / 13, 0.8)
    assert left == 0


def test_many_classes_show_the_most_confused():
    matrix = np.eye(80, dtype=int) * 10
    matrix[70, 71] = 9
    chart = details.confusion({"labels": [f"c{i}" for i in range(80)], "confusion": matrix.tolist()})
    assert chart is not None
    assert "c70 taken for c71: 9 of 19" in chart.svg
    assert "30 most confused of 80" in chart.note


@pytest.mark.parametrize(
    "value, shown",
    [(0.98765, "0.9877"), (12, "12"), (1204, "1,204"), (1204.0, "1,204"), (1.0, "1.0000"), (3.14159, "3.142"), (None, "–"), (float("nan"), "–"), (0.00001234, "1.23e-05"), (0, "0")],
)  # fmt: skip
def test_numbers_for_people(value, shown):
    assert words.number(value) == shown


def test_names_for_people():
    assert words.metric_name("f1_macro") == "F1, macro"
    assert words.metric_name("top_5_accuracy") == "top-5 accuracy"
    assert words.metric_name("generator/loss") == "generator loss"
    assert words.metric_name("valid/roc_auc") == "ROC-AUC"
    assert words.duration(250) == "4 min 10 s"
    assert step_of(Path("step-00001200.png")) == 1200
