"""Contract of every method on a GPU: a step adds few operations, as many for a deep model, and waits for nothing.

Run on a CPU as on a GPU: all layers as one group (``sparse/flat.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from dispatches import Dispatches
from settings import METHODS, RAMPED
from small_training import sparse_of, trained
from torch import nn

from st3sweep.networks import resnet50
from st3sweep.networks.cifar_resnet import CifarResNet
from st3sweep.sparse import flat
from st3sweep.sparse.method import Method, prunable
from st3sweep.sparse.methods import build_method
from st3sweep.sparse.stochastic import StochasticMethod
from st3sweep.training.optim import build_optimizer, classification_loss, optimisation_step
from st3sweep.trial.recipes import resolve
from st3sweep.trial.settings import TrialSettings

# Operations that a method may add to the dense step, whatever the number of layers.
LIMITS = {
    "st3": 50,
    "gmp": 20,
    "static": 20,
    "rigl": 20,
    "granet": 20,
    "dense": 0,
    "dnw": 25,
    "str": 40,
    "probmask": 310,
}
# Operations that two steps, in which masks are updated and regrown, may add to two dense ones.
UPDATE_LIMITS = {"gmp": 90, "rigl": 90, "granet": 120}
LAMP_LIMIT = 85  # it ranks the weights of each layer, then all


every_method = pytest.mark.parametrize(("name", "sparsity"), METHODS, ids=[name for name, _ in METHODS])


class TwoPasses(StochasticMethod):
    """Dense training with two passes a step, which ProbMask's operations are counted against."""

    passes_per_step = 2

    def begin_pass(self, number: int) -> None: ...

    def choose_mask(self, loss: Callable[[], float]) -> None: ...


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flat, "launch_bound", lambda _: True)


def narrow_resnet50() -> nn.Module:
    """Return ResNet-50 with a sixteenth of its inner channels: as many layers, and the same operations."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resnet50, "STAGES", ((4, 3, 1), (8, 4, 2), (16, 6, 2), (32, 3, 2)))
        return resnet50.ResNet50(10)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "ResNet-20": lambda: CifarResNet(20, 16, 10),
    "ResNet-50": narrow_resnet50,
}


def dispatches(
    model: str, sparsity: dict[str, Any], method: Method | None = None, steps: tuple[float, ...] = (0.65,)
) -> Dispatches:
    """Return what ``steps`` dispatch, after three at 65 % of training, after which no mask is updated at once."""
    spec = settings(sparsity)
    torch.manual_seed(0)
    net = MODELS[model]().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    weights = list(prunable(net).values())
    method = method or build_method(spec, weights, [1.0] * len(weights))
    optimizer = build_optimizer(net, weights, spec)
    x = torch.randn(2, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    loss = classification_loss(net, x, torch.tensor([0, 1]), label_smoothing=0.0, precision="fp32")
    counter = Dispatches()
    for _ in range(3):  # by then momenta are there and the update that is due is done
        optimisation_step(net, weights, method, optimizer, loss, progress=0.65, clip_norm=3.0)
    masks = [mask.clone() for mask in getattr(method, "masks", [])]
    with counter:
        for progress in steps:
            optimisation_step(net, weights, method, optimizer, loss, progress=progress, clip_norm=3.0)
    if len(steps) > 1:
        assert not all(map(torch.equal, masks, method.masks))  # type: ignore[attr-defined]
    return counter


def settings(sparsity: dict[str, Any]) -> TrialSettings:
    trial = {"model": {"arch": "cifar_resnet"}, "data": {"dataset": "cifar10", "root": "unused"}, "sparsity": sparsity}
    return resolve(trial)


@cache
def dense(model: str, passes: int) -> Counter[str]:
    return dispatches(model, {"method": "dense"}, TwoPasses() if passes == 2 else None).counts


@every_method
def test_a_step_adds_few_operations_whatever_the_depth(name: str, sparsity: dict[str, Any]) -> None:
    passes = 2 if sparsity["method"] == "probmask" else 1
    limit = LAMP_LIMIT if name == "st3-lamp" else LIMITS[sparsity["method"]]
    found = {}
    for model in MODELS:
        step = dispatches(model, sparsity)
        more, fewer = step.counts - dense(model, passes), dense(model, passes) - step.counts
        found[model] = more.total() - fewer.total()
        # Adam counts its steps in a tensor that is always on the host.
        assert step.waiting == Counter({"_local_scalar_dense": 1} if passes == 2 else {})
    assert found["ResNet-20"] == found["ResNet-50"] <= limit


@pytest.mark.parametrize(
    ("name", "sparsity"),
    [found for found in METHODS if found[1]["method"] in UPDATE_LIMITS],
    ids=lambda value: str(value),
)
def test_an_update_of_masks_adds_as_many_operations_whatever_the_depth(name: str, sparsity: dict[str, Any]) -> None:
    sparsity = {**sparsity, "interval": 0.02}
    if sparsity["method"] in RAMPED:
        sparsity["ramp"] = {"start": 0.0, "end": 0.9}
    found = {}
    for model in MODELS:
        counts = dispatches(model, sparsity, steps=(0.7, 0.705)).counts
        found[model] = counts.total() - 2 * dense(model, 1).total()
    assert found["ResNet-20"] == found["ResNet-50"] <= UPDATE_LIMITS[sparsity["method"]]


@every_method
def test_layers_together_train_as_layers_one_by_one(
    name: str,
    sparsity: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In float64, to the rounding of sums."""
    spec = settings({**sparsity, "ramp": {"start": 0.0, "end": 0.75}} if sparsity["method"] in RAMPED else sparsity)
    together = trained(spec)
    assert len(flat.groups(together.weights)) == 1
    monkeypatch.setattr(flat, "launch_bound", lambda _: False)
    apart = trained(spec)
    assert len(flat.groups(apart.weights)) == 4
    for one, other in zip(together.net.parameters(), apart.net.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    for one, other in zip(sparse_of(together), sparse_of(apart), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
