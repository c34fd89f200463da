"""Test methods against numbers of public implementations, by their authors if possible: see tests/data/parity."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from make_methods import dnw, gmp, granet, probmask, rigl, str_
from torch import Tensor, nn

from st3sweep.sparse.allocation import erdos_renyi_kernel
from st3sweep.sparse.lamp import lamp_scores, lamp_thresholds
from st3sweep.sparse.method import Method
from st3sweep.sparse.projection import project_
from st3sweep.training.optim import optimisation_step
from st3sweep.trial.schedules import cosine

Training = tuple[list[float], list[Tensor], Method]
FOLDER = Path(__file__).parents[1] / "data" / "parity"
LAMP, STR_, DNW_, RIGL, GRANET, PROBMASK = (
    np.load(FOLDER / f"{name}.npz") for name in ("lamp", "str", "dnw", "rigl", "granet", "probmask")
)


def layers(golden: np.lib.npyio.NpzFile, prefix: str = "", suffix: str = "") -> list[Tensor]:
    """Return the tensors of ``golden`` named ``<prefix>layer<number><suffix>``, in order."""
    numbers = (number for number in range(10) if f"{prefix}layer{number}{suffix}" in golden)
    return [torch.from_numpy(golden[f"{prefix}layer{number}{suffix}"]) for number in numbers]


def same(found: list[Tensor], golden: list[Tensor]) -> bool:
    return all(torch.equal(ours, theirs) for ours, theirs in zip(found, golden, strict=True))


# -- LAMP, and ERK as its authors compute it ---------------------------------------------------------------------------


def test_lamp_scores() -> None:
    for weight, score in zip(layers(LAMP), layers(LAMP, suffix=".scores"), strict=True):
        np.testing.assert_allclose(lamp_scores(weight), score, rtol=1e-9)


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.8, 0.95])
def test_lamp_masks(sparsity: float) -> None:
    """Check both uses of LAMP: GMP's mask, and ST-3's thresholds for as many pruned weights."""
    weights, golden = layers(LAMP), layers(LAMP, f"lamp{sparsity}.")
    pruned = gmp(weights, target=sparsity, allocation="global", criterion="lamp", ramp_end=0.5)
    pruned.refresh(0.5, [weight.clone() for weight in weights])
    assert same(pruned.masks, golden)
    total, fallen = sum(mask.numel() for mask in golden), sum(int((~mask).sum()) for mask in golden)
    thresholds = lamp_thresholds(weights, (fallen - 0.5) / (total - 1))
    assert same([weight.abs() > tau for weight, tau in zip(weights, thresholds, strict=True)], golden)


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.8, 0.95])
def test_erk_counts(sparsity: float) -> None:
    """Theirs are whole numbers of weights, rounded per layer."""
    shapes = [weight.shape for weight in layers(LAMP)]
    sizes = np.array([shape.numel() for shape in shapes])
    ours = np.array(erdos_renyi_kernel(shapes, 1.0 - sparsity)) * sizes
    theirs = (1.0 - LAMP[f"erk{sparsity}.sparsities"]) * sizes
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.5 + 1e-3)
    assert ((ours == sizes) == (theirs == sizes)).all(), "other layers are dense"


# -- STR and DNW, from STR's authors -----------------------------------------------------------------------------------


def trained(
    golden: np.lib.npyio.NpzFile, method_for: Callable[[list[Tensor]], Method], weight_decay: float
) -> Training:
    """Return the losses of twelve steps on one batch, the weights after them, and the method."""
    convolutions = [nn.Conv2d(4, 8, 3, bias=False).double(), nn.Conv2d(8, 6, 3, bias=False).double()]
    for convolution, start in zip(convolutions, layers(golden), strict=True):
        convolution.weight.data.copy_(start)
    net = nn.Sequential(convolutions[0], nn.Tanh(), convolutions[1])
    weights: list[Tensor] = [convolution.weight for convolution in convolutions]
    method = method_for(weights)
    optimizer = torch.optim.SGD(weights, lr=0.1, momentum=0.9, weight_decay=weight_decay)
    x, y = torch.from_numpy(golden["inputs"]), torch.from_numpy(golden["labels"])
    losses = [
        optimisation_step(
            net,
            weights,
            method,
            optimizer,
            lambda: F.cross_entropy(net(x).mean((2, 3)), y),
            progress=(step + 1) / 12,
            clip_norm=None,
        )[0].item()
        for step in range(12)
    ]
    return losses, weights, method


@pytest.mark.parametrize("s", [-6.0, -2.0, -0.5])
def test_str_threshold_and_its_gradients(s: float) -> None:
    weight = nn.Parameter(layers(STR_)[0])
    method = str_([weight], s_init=s, momentum=0.9)
    (sparse,) = method.sparsify([weight]) or []
    weight.grad = torch.from_numpy(STR_["upstream"].copy())
    method.transform_gradients(0.0, [weight], torch.optim.SGD([weight]))
    assert method.s.grad is not None
    np.testing.assert_allclose(sparse.detach(), STR_[f"str{s}.sparse"], rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(weight.grad, STR_[f"str{s}.grad_weight"], rtol=1e-12)
    np.testing.assert_allclose(method.s.grad[0], STR_[f"str{s}.grad_s"], rtol=1e-9)


def test_str_training() -> None:
    losses, weights, method = trained(STR_, lambda weights: str_(weights, s_init=-2.0, momentum=0.9), 5e-2)
    np.testing.assert_allclose(losses, STR_["str.losses"], rtol=1e-9)
    np.testing.assert_allclose(method.s, STR_["str.s"][-1], rtol=1e-9)  # type: ignore[attr-defined]
    for weight, theirs in zip(weights, layers(STR_, "str."), strict=True):
        np.testing.assert_allclose(weight.detach(), theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.97])
def test_dnw_sparse_weights(sparsity: float) -> None:
    weights = layers(DNW_)
    assert same(dnw(weights, target=sparsity).sparsify(weights) or [], layers(DNW_, f"dnw{sparsity}."))


def test_dnw_training() -> None:
    losses, weights, _ = trained(DNW_, lambda weights: dnw(weights, target=0.8), 1e-3)
    np.testing.assert_allclose(losses, DNW_["losses"], rtol=1e-9)
    for weight, theirs in zip(weights, layers(DNW_, "trained."), strict=True):
        np.testing.assert_allclose(weight.detach(), theirs, rtol=1e-9, atol=1e-12)


# -- RigL, from a port to torch ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("update", [0, 2, 3])
@pytest.mark.parametrize("layer", [0, 1])
def test_rigl_update(update: int, layer: int) -> None:
    """Masks, weights, momentum and gradients agree; theirs rounds the dropped fraction down, so ours gets that count.

    Theirs takes no optimiser step at an update; ours does, and so has gradients of regrown weights too.
    """

    def golden(key: str) -> Tensor:
        return torch.from_numpy(RIGL[f"update{update}.{key}.layer{layer}"].copy())

    progress, fraction = float(RIGL[f"update{update}.step"]) / 20, float(RIGL[f"update{update}.fraction"])
    assert 0.3 * cosine(progress) == pytest.approx(fraction, rel=1e-12)
    weight, mask = nn.Parameter(golden("before")), golden("mask_before")
    optimizer = torch.optim.SGD([weight], lr=0.2, momentum=0.9)
    optimizer.state[weight]["momentum_buffer"] = golden("momentum_before")
    weight.grad = golden("gradient")
    live = int(mask.sum())
    asked = math.floor(fraction * live) / live / cosine(progress)
    method = rigl([weight], target=1 - live / mask.numel(), drop_fraction=asked, interval=0.2, stop=1.0)
    method.masks = [mask]
    method.transform_gradients(progress, [weight], optimizer)
    method.refresh(progress, [weight])
    assert not torch.equal(mask, golden("mask_after"))
    assert torch.equal(method.masks[0], golden("mask_after"))
    assert torch.equal(weight, golden("after"))
    assert torch.equal(optimizer.state[weight]["momentum_buffer"], golden("momentum_after"))
    assert torch.equal(weight.grad * mask, golden("live_gradient"))


# -- GraNet, from its authors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("density", [0.8, 0.5, 0.3, 0.1, 0.02])
def test_erk_densities(density: float) -> None:
    shapes = [weight.shape for weight in layers(GRANET, "update0.before.")]
    np.testing.assert_allclose(erdos_renyi_kernel(shapes, density), GRANET[f"erk{density}"], rtol=1e-9)


def test_granet_ramp() -> None:
    """Theirs keeps weights above the last one of the density, so one fewer, and stops an update before the end."""
    weights = layers(GRANET, "update0.before.")
    total = sum(weight.numel() for weight in weights)
    method = granet(weights, target=0.9, initial_density=0.5, ramp_end=0.5, interval=0.05)
    for update, theirs in enumerate(GRANET["counts"][:9], start=1):
        method.refresh(update / 20, weights)
        assert math.floor((1 - method.scheduled_sparsity) * total) - 1 == theirs


@pytest.mark.parametrize("update", [0, 4, 12])
def test_granet_pruning(update: int) -> None:
    """The masks of one ranking of all layers agree, at their number of weights; the ramp ends before update 12."""
    weights = layers(GRANET, f"update{update}.before.")
    after = layers(GRANET, f"update{update}.pruned_mask.")
    density = sum(int(mask.sum()) for mask in after) / sum(mask.numel() for mask in after)
    method = granet(weights, target=1 - density, initial_density=1.0, ramp_end=0.5)
    method.masks = layers(GRANET, f"update{update}.before_mask.")
    assert same(method.masks, after) == (update == 12)
    method.refresh(0.5, weights)
    assert same(method.masks, after)


@pytest.mark.parametrize("update", [0, 4, 12])
@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_granet_regeneration(update: int, layer: int) -> None:
    """Masks and weights agree; theirs rounds the dropped fraction up, so ours gets that count."""

    def golden(key: str) -> Tensor:
        return torch.from_numpy(GRANET[f"update{update}.{key}.layer{layer}"].copy())

    progress, fraction = float(GRANET[f"update{update}.step"]) / 80, float(GRANET[f"update{update}.drop_fraction"])
    assert 0.5 * cosine(progress, final=0.01) == pytest.approx(fraction, rel=1e-9)  # theirs ends at 0.005, ours at 0
    weight, mask = nn.Parameter(golden("pruned")), golden("pruned_mask")
    weight.grad = golden("gradient")
    live = int(mask.sum())
    asked = math.ceil(fraction * live) / live / cosine(progress)
    method = granet([weight], target=1 - live / mask.numel(), drop_fraction=asked)
    method.masks, method.regeneration_due = [mask], True
    method.transform_gradients(progress, [weight], torch.optim.SGD([weight], lr=0.2, momentum=0.9))
    method.refresh(0.0, [weight])
    assert not torch.equal(mask, golden("after_mask"))
    assert torch.equal(method.masks[0], golden("after_mask"))
    assert torch.equal(weight, golden("after"))


# -- ProbMask, from its authors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("density", [0.5, 0.3, 0.1, 0.02])
def test_probmask_projection(density: float) -> None:
    """Theirs ends its bisection where the sum is within 1e-3, ours at floating-point precision."""
    found = torch.cat([part.reshape(-1) for part in layers(PROBMASK, "raw.")])
    theirs = torch.cat([part.reshape(-1) for part in layers(PROBMASK, f"projected{density}.")])
    project_(found, density * found.numel())
    np.testing.assert_allclose(found, theirs, rtol=0, atol=2e-5)


@pytest.mark.parametrize("epoch", [50, 90])
def test_probmask_relaxed_masks_and_gradients(epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """They agree at the same noise: theirs is the difference of two Gumbel variables, ours log(u / (1 - u))."""
    weights = [nn.Parameter(weight) for weight in layers(PROBMASK)]
    pairs = zip(layers(PROBMASK, "uniform0."), layers(PROBMASK, "uniform1."), strict=True)
    drawn = torch.cat([(u1.log() / (u0.log() + u1.log())).reshape(-1) for u0, u1 in pairs])
    monkeypatch.setattr(Tensor, "uniform_", lambda self, generator: self.copy_(drawn))  # noqa: ARG005
    method = probmask(weights, target=0.5, ramp_start=0.0, ramp_end=0.1)
    method.scores.copy_(torch.cat([part.reshape(-1) for part in layers(PROBMASK, "projected0.5.")]))
    method.refresh(epoch / 100, weights)
    method.begin_pass(0)
    sparse = [part.detach().requires_grad_() for part in method.sparsify(weights) or []]
    assert method.relaxed is not None
    x, y = torch.from_numpy(PROBMASK["inputs"]), torch.from_numpy(PROBMASK["labels"])
    loss = F.cross_entropy(F.conv2d(F.conv2d(x, sparse[0]).tanh(), sparse[1]).mean((2, 3)), y)
    loss.backward()
    for weight, part in zip(weights, sparse, strict=True):
        weight.grad = part.grad
    relaxed = method.relaxed
    method.transform_gradients(epoch / 100, weights, torch.optim.SGD(weights))
    assert method.scores.grad is not None
    assert loss.item() == pytest.approx(float(PROBMASK[f"epoch{epoch}.loss"]), rel=1e-9)
    for key, found in (("mask", relaxed), ("grad_scores", method.scores.grad)):
        theirs = torch.cat([part.reshape(-1) for part in layers(PROBMASK, f"epoch{epoch}.{key}.")])
        np.testing.assert_allclose(found, theirs, rtol=1e-9, atol=1e-14, err_msg=key)
    for weight, part in zip(weights, layers(PROBMASK, f"epoch{epoch}.grad_weight."), strict=True):
        assert weight.grad is not None
        np.testing.assert_allclose(weight.grad, part, rtol=1e-9, atol=1e-14)
