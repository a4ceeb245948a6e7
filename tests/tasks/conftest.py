"""Fitted fields for the tests of tasks."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from modelworks.core import kinds
from modelworks.core.field import Field

torch.set_num_threads(1)


def fitted(kind, values, **settings):
    return kinds.find(Field, kind)(**settings).fit([pa.array(values)])


@pytest.fixture
def fit():
    """(kind, values, **settings) → the field, fitted."""
    return fitted


@pytest.fixture
def animals():
    """Three classes: ant 1, bee 2, cat 5 rows."""
    names = ["bee", "cat", "cat", "ant", "cat", "bee", "cat", "cat"]
    return {"y": fitted("category", names, unknown="quarantine")}


@pytest.fixture
def coin():
    """Two classes: no 3, yes 1 rows."""
    return {"y": fitted("category", ["no", "yes", "no", "no"], unknown="quarantine")}


@pytest.fixture
def price():
    """A standardised number with mean 100 and deviation 10."""
    return {"y": fitted("number", [90.0, 110.0] * 4, missing="drop", indicator=False)}


@pytest.fixture
def genres():
    """Three tags."""
    return {"y": fitted("tags", ["a|b", "b", "c|a", "b"])}


@pytest.fixture
def picture():
    """A grey 8×8 image, standardised."""
    pixels = np.random.default_rng(0).integers(0, 200, (16, 8, 8), dtype=np.uint8)
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(pixels)
    return {"image": kinds.find(Field, "image")().fit([tensor])}
