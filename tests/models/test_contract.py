"""Every kind of model, found by its file, keeps the contract of core/model.py."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from modelworks.core import kinds, names
from modelworks.core.errors import UserError
from modelworks.core.field import Layout
from modelworks.core.model import Model
from modelworks.engine.unfilled import Unfilled

torch.set_num_threads(1)

LAYOUTS = {
    "vector": Layout("vector", (3,), bins=[[-1.0, -0.5, 0.0, 0.5, 1.0]] * 3),
    "index": Layout("index", (), size=12),
    "multihot": Layout("multihot", (), size=5),
    "image": Layout("image", (1, 28, 28)),
    "tokens": Layout("tokens", (), size=40, length=12),
    "frames": Layout("frames", (3,), length=12),
}
# Settings that make a kind small enough to build in milliseconds; a new kind needs an entry only if it is large.
SMALL: dict[str, dict] = {
    "vgg": {"width": 4, "hidden": [16], "dropout": 0.0},
    "resnet": {"width": 4, "zero_residual": False},
    "densenet": {"growth": 4},
    "vit": {"width": 32, "depth": 2, "heads": 2},
    "transformer": {"width": 32, "depth": 2, "dropout": 0.0},
    "rnn": {"width": 8, "depth": 2, "embedding": 8},
    "bag": {"buckets": 97, "width": 8},
    "mlp": {"activation": "gelu"},  # relu's dead units have no gradient
    "fusion": {
        "width": 16,
        "dropout": 0.0,
        "encoders": {
            "tokens": {"kind": "bag", "buckets": 97, "width": 8},
            "image": {"kind": "cnn", "channels": [4]},
            "frames": {"kind": "rnn", "width": 8},
            "table": {"kind": "mlp", "width": 8},
        },
    },
}
ROW = [name for name in kinds.names("models") if kinds.find(Model, name).forms]
CASES = [(name, form) for name in ROW for form in kinds.find(Model, name).forms]
# Its features hold an image drawn from fresh noise, which no row decides.
DRAWS = {"gan"}
RAGGED = [(name, form) for name, form in CASES if LAYOUTS[form].ragged]
SEVERAL = [name for name in ROW if kinds.find(Model, name).several]
NAMES = {"vector": "numbers", "index": "city"}


def settings(name: str, forms: list[str]) -> Model:
    """The kind, small; fusion gets encoders for the inputs there are."""
    kind, values = kinds.find(Model, name), dict(SMALL.get(name, {}))
    if "encoders" in values:
        known = {"table"} if set(forms) & {"vector", "index", "multihot"} else set()
        values["encoders"] = {key: e for key, e in values["encoders"].items() if key in {*forms, *known}}
    return kind.model_validate(values)


def build(name: str, *forms: str, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return settings(name, list(forms)).build({form: LAYOUTS[form] for form in forms})


def rows(forms: list[str] | tuple[str, ...], lengths: list[int], seed: int = 1) -> dict[str, torch.Tensor]:
    """A batch as fields would prepare it: one row for each length, padded to the longest."""
    g = torch.Generator().manual_seed(seed)
    B, T, batch = len(lengths), max(lengths), {"row": torch.arange(len(lengths))}
    mask_BT = torch.arange(T) < torch.tensor(lengths)[:, None]
    for form in forms:
        layout = LAYOUTS[form]
        if form == "index":
            batch[form] = torch.randint(0, layout.size, (B,), generator=g)
        elif form == "multihot":
            batch[form] = torch.randint(0, 2, (B, layout.size), generator=g).float()
        elif form == "tokens":
            batch[form] = torch.randint(1, layout.size, (B, T), generator=g) * mask_BT
        elif form == "frames":
            batch[form] = torch.randn(B, T, *layout.shape, generator=g) * mask_BT[..., None]
        else:
            batch[form] = torch.randn(B, *layout.shape, generator=g)
        if layout.ragged:
            batch[f"{form}.length"] = torch.tensor(lengths)
    return batch


def row(batch: dict[str, torch.Tensor], index: int, forms: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """One row alone, without its padding."""
    alone = {name: value[index : index + 1] for name, value in batch.items()}
    for form in forms:
        if LAYOUTS[form].ragged:
            alone[form] = alone[form][:, : int(alone[f"{form}.length"])]
    return alone


def check_shape_and_gradients(network: torch.nn.Module, batch: dict[str, torch.Tensor], B: int) -> None:
    features = network(batch)
    members = getattr(network, "members", 1)
    assert features.shape in {(B, network.width), (B, members, network.width)}
    assert features.ndim == 3 or members == 1
    assert features.isfinite().all()
    (features * torch.randn_like(features)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, f"no gradient reaches {name}"
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, f"the gradient of {name} is zero"


@pytest.mark.parametrize("name, form", CASES)
def test_features_and_gradients(name: str, form: str) -> None:
    # 64 rows: every one-hot category and embedding is touched
    check_shape_and_gradients(build(name, form).train(), rows((form,), [12, 7, 12, 3] * 4), 16)


@pytest.mark.parametrize("name", SEVERAL)
def test_several_inputs(name: str) -> None:
    forms = kinds.find(Model, name).forms
    network, batch = build(name, *forms), rows(forms, [12, 7, 12, 3] * 4)
    check_shape_and_gradients(network.train(), batch, 16)
    network.eval()
    whole = network(batch)
    for form in forms:  # every input counts
        changed = batch | {form: batch[form].flip(0), f"{form}.length": torch.tensor([3, 12, 7, 12] * 4)}
        assert not torch.allclose(network(changed), whole, atol=1e-6), f"{name} ignores {form}"


@pytest.mark.parametrize("name, form", [case for case in CASES if case[0] not in DRAWS])
def test_a_network_built_unfilled_is_whole_once_it_is_loaded(name: str, form: str) -> None:
    network, batch = build(name, form), rows((form,), [12, 7, 1, 3])
    network.train()(batch)  # norms' running statistics too
    state = torch.get_rng_state()
    with Unfilled():
        again = settings(name, [form]).build({form: LAYOUTS[form]})
    again.load_state_dict(network.state_dict())
    torch.testing.assert_close(again.eval()(batch), network.eval()(batch), rtol=0, atol=0)
    if name == "transformer":  # in others a matrix is drawn here and there, which costs nothing
        assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name, form", [case for case in CASES if case[0] not in DRAWS])
def test_a_row_is_the_same_alone_and_in_a_batch(name: str, form: str) -> None:
    network, batch = build(name, form), rows((form,), [12, 7, 1, 3])
    for _ in range(3):  # norms' running statistics away from where they start
        network.train()(batch)
    network.eval()
    together = network(batch)
    for index in range(4):
        alone = network(row(batch, index, (form,)))
        torch.testing.assert_close(alone[0], together[index], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name, form", RAGGED)
def test_padding_is_not_read(name: str, form: str) -> None:
    network, batch = build(name, form).eval(), rows((form,), [9, 7, 1, 3])
    padded = torch.nn.functional.pad(batch[form], (0, 3) if form == "tokens" else (0, 0, 0, 3))
    beyond_BT = torch.arange(12) >= batch[f"{form}.length"][:, None]
    junk = padded + beyond_BT.view(4, 12, *[1] * (padded.ndim - 2)).to(padded.dtype) * 7
    wanted = network(batch)
    for values in (padded, junk):
        torch.testing.assert_close(network({**batch, form: values}), wanted, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name, form", RAGGED)
def test_an_empty_row_is_finite(name: str, form: str) -> None:
    network, batch = build(name, form), rows((form,), [5, 2])
    batch[f"{form}.length"] = torch.tensor([5, 0])
    features = network(batch)
    features.sum().backward()
    assert features.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("name, form", CASES)
def test_a_seed_fixes_the_start(name: str, form: str) -> None:
    first, again, other = (build(name, form, seed=seed).state_dict() for seed in (5, 5, 6))
    assert first.keys() == again.keys()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not first or any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", ROW)
def test_wrong_inputs_are_refused(name: str) -> None:
    kind = kinds.find(Model, name)
    wrong = [form for form in LAYOUTS if form not in kind.forms]
    for form in wrong:
        with pytest.raises(UserError, match="reads"):
            settings(name, []).build({form: LAYOUTS[form]})
    if not kind.several:
        form = kind.forms[0]
        with pytest.raises(UserError, match="takes one input"):
            settings(name, []).build({"a": LAYOUTS[form], "b": LAYOUTS[form]})


@pytest.mark.parametrize("name", ROW)
def test_recognise_promises_only_what_build_takes(name: str) -> None:
    kind = kinds.find(Model, name)
    for form in LAYOUTS:
        sure = kind.recognise({"x": form}, 1000)
        assert 0 <= sure <= 1
        assert sure == 0 or form in kind.forms


def test_defaults_for_usual_inputs() -> None:
    def best(rows: int, **inputs: str) -> str:
        every = kinds.every(Model)
        return max(every, key=lambda name: every[name].recognise(inputs, rows))

    assert best(1000, a="image") == "cnn"
    assert best(1000, a="tokens") == "bag"
    assert best(50_000, a="tokens") == "transformer"
    assert best(1000, a="frames") == "cnn"
    assert best(1000, a="image", b="vector") == "fusion"
    assert best(1000, a="tokens", b="index", c="vector") == "fusion"


@pytest.mark.parametrize("name", kinds.names("models"))
def test_settings_are_read_without_torch(name: str) -> None:
    code = (
        "import sys\n"
        "from modelworks.core import kinds\n"
        "from modelworks.core.model import Model\n"
        "with kinds.lightly():\n"
        f"    kinds.find(Model, {name!r})()\n"
        "assert 'torch' not in sys.modules"
    )
    env = {**os.environ, "PYTHONPATH": str(names.PACKAGE.parent)}
    result = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
