"""Measure one optimisation step, dense and sparse, against a plain eager PyTorch loop in the contiguous layout.

    python benchmarks/step.py [--arch cifar_resnet] [--batch 128] [--threads 2] [--device cpu] [--repeats 10] [--json]

The plain loop is that of a tutorial: zero_grad, forward, cross-entropy, backward, clip, SGD; float32. Our dense step is
the same in the layout that ``training/layout.py`` chooses; the sparse ones add a method at 90 % sparsity. Speeds are
relative to the plain loop.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from turns import seconds_of, show

from st3sweep.networks import build_model
from st3sweep.networks.flops import layer_costs, macs_per_weight
from st3sweep.sparse.method import prunable
from st3sweep.sparse.methods import build_method
from st3sweep.training.components import register_components
from st3sweep.training.layout import fastest_layout
from st3sweep.training.optim import build_optimizer, classification_loss, optimisation_step
from st3sweep.trial.recipes import resolve
from st3sweep.trial.settings import TrialSettings

register_components()
METHODS = {
    "st3sweep, dense": {"method": "dense"},
    "st3sweep, ST-3": {"method": "st3", "target": 0.9},
    "st3sweep, ST-3σ": {"method": "st3", "target": 0.9, "criterion": "sigma"},
}


def plain(model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 3.0)
        optimizer.step()

    return step


def ours(
    spec: TrialSettings, model: nn.Module, x: Tensor, y: Tensor, progress: Callable[[], float] = lambda: 1.0
) -> Callable[[], None]:
    """Return the trial's step at ``progress``; by default at full sparsity, as in most of training."""
    costs = layer_costs(model, (x.shape[1], x.shape[2], x.shape[3]))
    model.to(memory_format=fastest_layout(model, x.device))  # type: ignore[call-overload]
    weights = list(prunable(model).values())
    method, optimizer = build_method(spec, weights, macs_per_weight(costs)), build_optimizer(model, weights, spec)
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    loss = classification_loss(model, x, y, label_smoothing=0.0, precision=spec.train.precision)

    def step() -> None:
        optimisation_step(model, weights, method, optimizer, loss, progress=progress(), clip_norm=3.0)

    return step


def trial(arch: str, sparsity: dict[str, object]) -> TrialSettings:
    return resolve({"model": {"arch": arch}, "data": {"dataset": "cifar10", "root": "unused"}, "sparsity": sparsity})


def arguments(description: str) -> argparse.Namespace:
    """Parse the arguments of a step benchmark and set the number of threads."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--arch", default="cifar_resnet")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    return chosen


def network(chosen: argparse.Namespace) -> nn.Module:
    """Return the model, identical at every call."""
    torch.manual_seed(0)
    return build_model(trial(chosen.arch, {"method": "dense"}).model, chosen.classes, 3).to(chosen.device)


def batch(chosen: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Return random images and labels, identical at every call."""
    torch.manual_seed(1)
    x = torch.randn(chosen.batch, 3, chosen.size, chosen.size, device=chosen.device)
    return x, torch.randint(chosen.classes, (chosen.batch,), device=chosen.device)


def main() -> None:
    chosen = arguments((__doc__ or "").splitlines()[0])
    x, y = batch(chosen)
    steps = {"plain eager loop": plain(network(chosen), x, y)}
    steps |= {name: ours(trial(chosen.arch, sparsity), network(chosen), x, y) for name, sparsity in METHODS.items()}
    found = seconds_of(steps, chosen.repeats, warm_up=2)
    title = f"step of {chosen.arch}, batch {chosen.batch} of {chosen.size} pixels"
    show(title, found, "plain eager loop", chosen.json, chosen.device)
    if not chosen.json:
        for name in list(METHODS)[1:]:  # per round: other load affects both steps
            pairs = zip(found[name], found["st3sweep, dense"], strict=True)
            extra = statistics.median(sparse / dense - 1 for sparse, dense in pairs)
            print(f"  {name} takes {100 * extra:+.1f} % of the dense step")


if __name__ == "__main__":
    main()
