"""Muon against torch.optim.Muon, against the singular value decomposition, and its AdamW part against torch's."""

import pytest
import torch
from torch import nn

from modelworks.engine.train.muon import COEFFICIENTS, Muon, orthogonalise, update_scale
from modelworks.engine.train.optim import Optimizer

torch.set_num_threads(1)


@pytest.mark.parametrize("shape", [(3, 6, 10), (2, 12, 5), (1, 7, 7)])
def test_orthogonalise_is_the_polynomial_of_the_singular_values(shape):
    """In exact arithmetic Newton–Schulz leaves U and V and maps each singular value s → a s + b s³ + c s⁵."""
    torch.manual_seed(0)
    matrices = torch.randn(shape, dtype=torch.float64)
    u, s, vh = torch.linalg.svd(matrices, full_matrices=False)
    s = s / s.square().sum(-1, keepdim=True).sqrt()
    a, b, c = COEFFICIENTS
    for _ in range(5):
        s = a * s + b * s**3 + c * s**5
    torch.testing.assert_close(orthogonalise(matrices), u @ torch.diag_embed(s) @ vh)
    torch.testing.assert_close(
        orthogonalise(matrices.float()).double(), u @ torch.diag_embed(s) @ vh, rtol=1e-3, atol=1e-4
    )


def test_singular_values_end_near_one():
    torch.manual_seed(0)
    s = torch.linalg.svdvals(orthogonalise(torch.randn(20, 16, 48)))
    assert 0.6 < s.min() < s.max() < 1.3
    assert torch.equal(orthogonalise(torch.zeros(1, 3, 4)), torch.zeros(1, 3, 4))


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("scale,theirs", [("original", "original"), ("spectral", "match_rms_adamw")])
def test_steps_are_torchs_within_bfloat16(nesterov, scale, theirs):
    torch.manual_seed(0)
    start = [torch.randn(8, 12), torch.randn(12, 8), torch.randn(8, 12), torch.randn(5, 5)]
    ours, reference = [[nn.Parameter(t.clone()) for t in start] for _ in range(2)]
    more = {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.9, "nesterov": nesterov}
    optimizers = (
        Muon(ours, precision="bfloat16", scale=scale, **more),
        torch.optim.Muon(reference, adjust_lr_fn=theirs, **more),
    )
    for step in range(4):
        generator = torch.Generator().manual_seed(step)
        for one, two in zip(ours, reference, strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            two.grad = one.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for one, two, before in zip(ours, reference, start, strict=True):
        moved = (two - before).norm()
        assert (one - two).norm() < 0.03 * moved
        assert moved > 0.01


def test_one_step_by_hand_in_float64():
    """lr · scale · orthogonalise(nesterov momentum) after decay; a convolution counts as (out, rest)."""
    torch.manual_seed(0)
    p = nn.Parameter(torch.randn(4, 3, 2, 2, dtype=torch.float64))
    before, p.grad = p.detach().clone(), torch.randn_like(p)
    Muon([p], lr=0.1, weight_decay=0.5, momentum=0.9).step()
    momentum = 0.1 * p.grad
    direction = orthogonalise((0.1 * p.grad + 0.9 * momentum).flatten(1)[None])[0]
    torch.testing.assert_close(
        p.detach(), before * 0.95 - 0.1 * update_scale("spectral", 4, 12) * direction.view_as(p)
    )


def test_spectral_scale_gives_adamws_size():
    """Liu et al. 2025: the root mean square of an update is about 0.2, whatever the shape."""
    torch.manual_seed(0)
    for shape in ((32, 128), (64, 64), (128, 16)):
        p = nn.Parameter(torch.zeros(shape))
        p.grad = torch.randn(shape)
        Muon([p], lr=1.0, weight_decay=0.0).step()
        assert p.detach().square().mean().sqrt() == pytest.approx(0.2, rel=0.2)


def test_the_rest_is_torchs_adamw_to_the_bit():
    torch.manual_seed(0)
    start = [torch.randn(7, 3), torch.randn(5)]
    ours, reference = [[nn.Parameter(t.clone()) for t in start] for _ in range(2)]
    more = {"lr": 0.01, "weight_decay": 0.1, "betas": (0.9, 0.95), "eps": 1e-8}
    one = Muon([{"params": ours, "algorithm": "adamw"}], **more)
    two = torch.optim.AdamW(reference, fused=True, **more)
    for step in range(4):
        for a, b in zip(ours, reference, strict=True):
            a.grad = torch.randn(a.shape, generator=torch.Generator().manual_seed(step))
            b.grad = a.grad.clone()
        one.step()
        two.step()
    for a, b in zip(ours, reference, strict=True):
        assert torch.equal(a, b)


def test_which_parameters_are_orthogonalised():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(9, 4)
            self.conv = nn.Conv1d(4, 6, 3)
            self.norm = nn.LayerNorm(6)
            self.token = nn.Parameter(torch.zeros(1, 1, 6))
            self.mix = nn.Linear(6, 6)
            self.head = nn.Linear(6, 2)

    optimizer = Optimizer(kind="muon", lr=0.02, adamw_lr=0.001).build(Net().named_parameters())
    chosen = {group["algorithm"]: [] for group in optimizer.param_groups}
    for group in optimizer.param_groups:
        chosen[group["algorithm"]] += group["param_names"]
        assert group["lr"] == (0.02 if group["algorithm"] == "muon" else 0.001)
    assert sorted(chosen["muon"]) == ["conv.weight", "mix.weight"]


def test_stacking_does_not_change_the_numbers():
    torch.manual_seed(0)
    start, grads = torch.randn(3, 6, 9), torch.randn(3, 6, 9)
    together, alone = [[nn.Parameter(t.clone()) for t in start] for _ in range(2)]
    for params in (together, alone):
        for p, g in zip(params, grads, strict=True):
            p.grad = g.clone()
    Muon(together).step()
    for p in alone:
        Muon([p]).step()
    for one, two in zip(together, alone, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


def test_a_vector_is_refused_as_matrix():
    with pytest.raises(ValueError, match="wants matrices"):
        Muon([nn.Parameter(torch.zeros(3))])
