"""Measure the size of packed model files against the ideal: the entropy of the mask, plus the raw values.

    python benchmarks/packed_sizes.py [--arch cifar_resnet] [--sparsity 0.8 0.9] [--criterion l1 sigma] [--json]
    python benchmarks/packed_sizes.py --run FOLDER ... [--json]

ResNet-20 (width 16, 10 classes), or another model with 1,000 classes, with random weights and batch norms (log-normal
scales and variances, normal biases and means), pruned once by ST-3 (l1: one threshold for all) or ST-3σ; or the first
trial of each run that ``--run`` names. For ST-3σ the weights of each layer have the standard deviation that its
criterion supposes, so that all layers are about as sparse, and the first layer and depthwise ones stay dense. "weights"
is the packed weights over their ideal; "file" the whole file, with its header, card and other tensors, over the ideal
plus the other tensors as they are.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from st3sweep.export import packed_file
from st3sweep.export.from_run import export
from st3sweep.export.half import in_half
from st3sweep.export.model_file import counted, save, totals
from st3sweep.export.preprocessing import preprocessing
from st3sweep.networks import build_model
from st3sweep.sparse.criteria import sigma
from st3sweep.sparse.method import harden, prunable
from st3sweep.sparse.methods import build_method
from st3sweep.training.components import register_components
from st3sweep.trial.recipes import resolve

State = dict[str, Tensor]


def random_model(arch: str, sparsity: float, criterion: str) -> tuple[State, dict[str, Any]]:
    trial = resolve(
        {
            "model": {"arch": arch},
            "data": {"dataset": "digits"},
            "sparsity": {"method": "st3", "target": sparsity, "criterion": criterion},
        }
    )
    torch.manual_seed(0)
    classes, size = (10, 32) if arch == "cifar_resnet" else (1000, 224)
    model = build_model(trial.model, classes, 3)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.copy_(torch.randn_like(module.weight).mul(0.5).exp())
                module.running_var.copy_(torch.randn_like(module.weight).exp())  # type: ignore[union-attr]
                module.bias.normal_()
                module.running_mean.normal_()  # type: ignore[union-attr]
    weights = list(prunable(model).values())
    if criterion == "sigma":
        for weight in weights:
            torch.nn.init.normal_(weight, std=1 / sigma(weight.shape, 1.0))
        weights = [weight for weight in weights[1:] if weight.shape[1:] != (1, 3, 3)]
    method = build_method(trial, weights, [1.0] * len(weights))
    method.refresh(1.0, weights)
    harden(weights, method)
    inputs = {"channels": 3, "image_size": size, "mean": [0.5] * 3, "std": [0.25] * 3, "num_classes": classes}
    about = {
        "model": trial.model.model_dump(mode="json"), "method": trial.sparsity.label, "dataset": "none",
        **inputs, "preprocessing": preprocessing(trial.data, inputs),
    }  # fmt: skip
    costs, zeros = counted(model, about)
    by_layer = {layer.name: count for layer, count in zip(costs, zeros, strict=True)}
    return model.state_dict(), {**about, "zeros": by_layer, **totals(costs, zeros)}


def measured(state: State, about: dict[str, Any], fp16: bool) -> dict[str, float]:
    """Return the sizes in bytes and their ratios to the ideal."""
    if fp16:
        state, about = in_half(state, about)
    names = packed_file.packable(state, list(about["zeros"]))
    state = packed_file.positive_zeros(state, names)
    sizes = packed_file.sizes(state, names, "float16" if fp16 else "float32")
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for zstd in (False, True):
            save(Path(folder) / "a", state, about, "packed", fp16=fp16, zstd=zstd)
            files.append((Path(folder) / "a").stat().st_size)
        only = {"shapes": dict.fromkeys(names, 0), "values": "float16" if fp16 else "float32"}
        weights_zstd = len(packed_file.compressed(packed_file.packed_content({n: state[n] for n in names}, only, {})))
    ideal = sizes["ideal"] + sizes["other_tensors"]
    return {
        "sparsity": about["sparsity"],
        "dense": sum(tensor.numel() * tensor.itemsize for tensor in state.values()),
        "file": files[0],
        "file_zstd": files[1],
        **sizes,
        "weights / ideal": sizes["weights"] / sizes["ideal"],
        "weights, zstd / ideal": weights_zstd / sizes["ideal"],
        "file / ideal": files[0] / ideal,
        "file, zstd / ideal": files[1] / ideal,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--arch", default="cifar_resnet")
    parser.add_argument("--sparsity", type=float, nargs="+", default=[0.8, 0.9, 0.95, 0.98])
    parser.add_argument("--criterion", nargs="+", default=["l1", "sigma"])
    parser.add_argument("--run", type=Path, nargs="*", default=[])
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    register_components()
    models = [(run.name, export(run, 0)) for run in chosen.run]
    if not models:
        pairs = product(chosen.criterion, chosen.sparsity)
        models = [(criterion, random_model(chosen.arch, sparsity, criterion)) for criterion, sparsity in pairs]
    for name, (state, about) in models:
        for fp16 in (False, True):
            row = measured(state, about, fp16)
            if chosen.json:
                print(json.dumps({"model": name, "fp16": fp16, **row}))
            else:
                ratios = "  ".join(f"{key} {value:.3f}" for key, value in row.items() if "/" in key)
                sizes = "  ".join(f"{key} {row[key]:,.0f}" for key in ("dense", "file", "file_zstd"))
                print(f"{name} {row['sparsity']:.4f} {'fp16' if fp16 else 'fp32'}  {ratios}  {sizes}")


if __name__ == "__main__":
    main()
