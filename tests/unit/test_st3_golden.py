"""Test ST-3 against the authors' released maths computed in float64: thresholds, weights, twelve steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from make_methods import st3
from torch import nn

from st3sweep.sparse.method import prunable, sparse_weights
from st3sweep.sparse.methods.st3 import ST3
from st3sweep.training.optim import optimisation_step

GOLDEN = np.load(Path(__file__).parents[1] / "data" / "st3_golden.npz")
LAYERS = ("conv", "depthwise", "pointwise", "fc")
COMBINATIONS = [(c, s, r) for c in ("l1", "l1std") for s in ("soft", "hard") for r in ("rescale", "plain")]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.pointwise = nn.Conv2d(8, 16, 1, bias=False)
        self.fc = nn.Linear(16, 10, bias=False)
        self.double()
        for name in LAYERS:
            getattr(self, name).weight.data = torch.from_numpy(GOLDEN[f"{name}.dense"]).double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.pointwise(self.depthwise(self.conv(x))).mean(dim=(2, 3)))


def method_for(weights: list[torch.Tensor], combination: tuple[str, str, str], **settings: float) -> ST3:
    criterion, soft, rescale = combination
    return st3(
        weights,
        criterion={"l1": "l1", "l1std": "sigma"}[criterion],
        soft=soft == "soft",
        rescale=rescale == "rescale",
        **settings,  # type: ignore[arg-type]
    )


def close(found: torch.Tensor | float, key: str) -> None:
    found = np.asarray(found.detach() if isinstance(found, torch.Tensor) else found)
    np.testing.assert_allclose(found, GOLDEN[key], rtol=1e-9, atol=1e-14, err_msg=key)
    assert np.array_equal(found == 0, GOLDEN[key] == 0), f"{key}: other weights are zero"


@pytest.mark.parametrize("combination", COMBINATIONS, ids="-".join)
@pytest.mark.parametrize("ratio", [0.3, 0.8, 0.95])
def test_thresholds_and_sparse_weights(combination: tuple[str, str, str], ratio: float) -> None:
    weights = list(prunable(Net()).values())
    method = method_for(weights, combination, target=ratio)
    method.refresh(1.0, weights)
    prefix = f"{'.'.join(combination)}.r{ratio}"
    assert method.tau is not None
    close(method.tau[0] * method.scales[0], f"{prefix}.global_threshold")
    for layer, tau, sparse in zip(LAYERS, method.tau, method.sparsify(weights) or [], strict=True):
        close(tau, f"{prefix}.{layer}.threshold")
        close(sparse, f"{prefix}.{layer}.sparse")


@pytest.mark.parametrize("combination", COMBINATIONS, ids="-".join)
def test_twelve_steps_of_training(combination: tuple[str, str, str]) -> None:
    net = Net()
    weights = list(prunable(net).values())
    method = method_for(weights, combination, target=0.7, ramp_start=0.0, ramp_end=8 / 12)
    optimizer = torch.optim.SGD(weights, lr=0.1, momentum=0.9, weight_decay=1e-4)
    prefix = f"{'.'.join(combination)}.trajectory"
    for step in range(12):
        x, y = torch.from_numpy(GOLDEN["inputs"][step]).double(), torch.from_numpy(GOLDEN["labels"][step]).long()
        loss, norm = optimisation_step(
            net,
            weights,
            method,
            optimizer,
            lambda x=x, y=y: F.cross_entropy(net(x), y),
            progress=(step + 1) / 12,
            clip_norm=0.25,
        )
        np.testing.assert_allclose(loss, GOLDEN[f"{prefix}.loss"][step], rtol=1e-9)
        np.testing.assert_allclose(norm, GOLDEN[f"{prefix}.grad_norm"][step], rtol=1e-9)
    for layer, weight in zip(LAYERS, weights, strict=True):
        close(weight, f"{prefix}.{layer}.dense")
    with sparse_weights(weights, method):
        for layer, weight in zip(LAYERS, weights, strict=True):
            close(weight, f"{prefix}.{layer}.sparse")
