"""Measure the exact global threshold of ResNet-50's 25.5 million weights against sorting, selecting and one plain read.

    python benchmarks/threshold.py [--threads 2] [--device cpu] [--sparsity 0.9] [--repeats 5] [--lamp] [--json]

Checks that all methods give the same value. With Triton on CUDA the last two are its kernels. Speeds are relative to
sorting. With ``--lamp``, each layer's threshold by LAMP's scores.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from turns import seconds_of, show

from st3sweep.networks.resnet50 import ResNet50
from st3sweep.sparse.lamp import by_sorting, lamp_thresholds
from st3sweep.sparse.method import prunable
from st3sweep.sparse.selection import two_by_digits
from st3sweep.sparse.threshold import global_threshold


def ways(weights: list[Tensor], sparsity: float) -> dict[str, Callable[[], Tensor]]:
    """Return the competitors: functions from the layers' weights to the threshold."""

    def joined() -> Tensor:
        return torch.cat([weight.abs().reshape(-1) for weight in weights])

    position = (sum(weight.numel() for weight in weights) - 1) * sparsity
    below = math.floor(position)

    def between(lower: Tensor, upper: Tensor) -> Tensor:
        return torch.lerp(lower, upper, position - below)

    def by_sorting() -> Tensor:
        ordered = joined().sort().values
        return between(ordered[below], ordered[below + 1])

    def by_kthvalue() -> Tensor:
        flat = joined()
        return between(flat.kthvalue(below + 1).values, flat.kthvalue(below + 2).values)

    def by_partition() -> Tensor:
        found = np.partition(joined().numpy(), (below, below + 1))
        return between(torch.tensor(found[below]), torch.tensor(found[below + 1]))

    ratio = torch.tensor(sparsity, dtype=torch.float64, device=weights[0].device)
    rank = torch.tensor(below, device=ratio.device)

    def by_digits() -> Tensor:
        lower, upper = two_by_digits(torch.cat([weight.reshape(-1) for weight in weights]), rank)
        return between(lower, upper)

    return {
        "sort and index": by_sorting,
        "digits, plain torch": by_digits,
        **({"torch.kthvalue": by_kthvalue, "numpy.partition": by_partition} if not weights[0].is_cuda else {}),
        "st3sweep": lambda: global_threshold(weights, sparsity),
        "st3sweep, ratio on the device": lambda: global_threshold(weights, ratio),
    }


def ways_of_lamp(weights: list[Tensor], sparsity: float) -> dict[str, Callable[[], Tensor]]:
    """Return the competitors: functions from the layers' weights to each layer's threshold by LAMP's scores."""
    total = sum(weight.numel() for weight in weights)
    kept = total - 1 - math.floor((total - 1) * sparsity)
    return {
        "sort and index": lambda: by_sorting(weights, kept),
        "st3sweep": lambda: lamp_thresholds(weights, sparsity),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--lamp", action="store_true")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    weights = [weight.detach().to(chosen.device) for weight in prunable(ResNet50(1000)).values()]
    competitors = (ways_of_lamp if chosen.lamp else ways)(weights, chosen.sparsity)
    values = {name: tuple(way().reshape(-1).tolist()) for name, way in competitors.items()}
    assert len(set(values.values())) == 1, values
    memory = torch.cat([weight.reshape(-1) for weight in weights])  # contiguous, to be read once
    found = seconds_of({**competitors, "one read of the memory": memory.amax}, chosen.repeats)
    measured = "LAMP: thresholds" if chosen.lamp else "threshold"
    title = f"{measured} at sparsity {chosen.sparsity:g} of {len(memory):,} weights"
    show(title, found, "sort and index", chosen.json, chosen.device)


if __name__ == "__main__":
    main()
