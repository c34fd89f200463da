"""Compute a model's cost at given sparsities of its layers: the command ``cost``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from st3sweep.networks import build_model
from st3sweep.networks.flops import gflops, layer_costs
from st3sweep.networks.layer_budget import read_layer_budget
from st3sweep.networks.published import PUBLISHED, settings
from st3sweep.networks.timm import timm_names
from st3sweep.networks.torchvision_names import NETWORKS
from st3sweep.space.field_errors import explain
from st3sweep.space.overrides import Overrides
from st3sweep.trial.model import ModelConfig
from st3sweep.util.errors import UserError, near_match
from st3sweep.util.text import aligned, format_flops
from st3sweep.util.yaml_lines import parse_value

BY_NAME = ("timm", "torchvision")  # archs whose models are asked for by their names there


@dataclass(frozen=True)
class LayerRow:
    """Cost of a conv or linear layer at ``sparsity``, a fraction: ``macs`` remain of ``macs_dense``, for one image."""

    layer: str
    shape: str
    weights: int
    sparsity: float
    macs_dense: int
    macs: float


@dataclass(frozen=True)
class NetworkCost:
    """Cost of a model: layers and totals. ``sparsity`` is over all weights, ``gflops`` in 1e9 multiply-accumulates."""

    network: str
    image_size: int
    classes: int
    weights: int
    sparsity: float
    macs_dense: int
    macs: float
    gflops_dense: float
    gflops: float
    layers: list[LayerRow]


def network_cost(
    name: str,
    overrides: Mapping[str, str],
    budget: Path | None = None,
    image_size: int | None = None,
    classes: int | None = None,
) -> NetworkCost:
    """Compute the cost of the model ``name``, an arch or a name in torchvision or timm; dense without ``budget``.

    ``overrides`` are settings of the model. Image size and classes default to those of the dataset that the model was
    published on, or of ImageNet. Raises UserError for arguments that the model does not take, and SpecError for errors
    in the budget file.
    """
    spec = _model(name, overrides)
    published = next((one for one in PUBLISHED if one.model["arch"] == spec.arch), None)
    size = image_size or (published.pixels if published else 224)
    number = classes or (published.classes if published else 1000)
    if needed := spec.needed_images(size):
        raise UserError(f"--image-size {size}: {spec.label} {needed}")
    costs = layer_costs(build_model(spec, number, 3), (3, size, size))
    budgets = read_layer_budget(budget, [cost.name for cost in costs]) if budget else {}
    rows = [
        LayerRow(
            layer=cost.name,
            shape="x".join(map(str, cost.shape)),
            weights=cost.numel,
            sparsity=budgets.get(cost.name, 0.0),
            macs_dense=cost.macs,
            macs=cost.macs * (1.0 - budgets.get(cost.name, 0.0)),
        )
        for cost in costs
    ]
    weights = sum(row.weights for row in rows)
    return NetworkCost(
        network=spec.label,
        image_size=size,
        classes=number,
        weights=weights,
        sparsity=sum(row.sparsity * row.weights for row in rows) / weights,
        macs_dense=sum(row.macs_dense for row in rows),
        macs=sum(row.macs for row in rows),
        gflops_dense=gflops(costs),
        gflops=gflops(costs, [1.0 - row.sparsity for row in rows]),
        layers=rows,
    )


def _model(name: str, overrides: Mapping[str, str]) -> Any:
    known, given = settings(), Overrides.of(overrides)
    fields = _named(name, [arch for arch in known if arch not in BY_NAME])
    own = known[fields["arch"]] if name in known else ""
    for setting, text in given.items():
        if setting not in own.replace(",", "").split()[::2]:
            raise UserError(f"{given.where(setting)}: {name} has no such setting; it has: {own or 'none'}")
        try:
            fields[setting] = parse_value(text)
        except ValueError as error:
            raise UserError(f"{given.where(setting)}: {error}") from None
    try:
        return ModelConfig.parse(fields)
    except ValidationError as error:
        setting = str(error.errors()[0]["loc"][-1])
        if setting not in given:
            raise UserError(f"{name}: {explain(error)}") from None
        raise UserError(f"{given.where(setting)}: {explain(error)}") from None


def _named(name: str, archs: list[str]) -> dict[str, Any]:
    """Return the model of the name: an arch, else torchvision's, else timm's. Raises UserError where none has it."""
    if name in archs:
        return {"arch": name}
    if name in NETWORKS:
        return {"arch": "torchvision", "network": name}
    theirs = timm_names() if name not in BY_NAME else ()
    if name in theirs:
        return {"arch": "timm", "name": name}
    near = near_match(name, [*archs, *NETWORKS, *theirs]) if name not in BY_NAME else ""
    by_name = "torchvision's and timm's by name, e.g. resnet18"
    raise UserError(f"{name}: unknown model; available are {', '.join(archs)}, and {by_name}{near}")


def cost_text(cost: NetworkCost) -> str:
    """Return the layers as a table, multiply-accumulates in millions, and a line of totals."""
    heads = ("layer", "shape", "weights", "sparsity", "dense MMACs", "MMACs")
    rows = [
        (
            row.layer,
            row.shape,
            f"{row.weights:,}",
            f"{row.sparsity:.4f}",
            _millions(row.macs_dense),
            _millions(row.macs),
        )
        for row in cost.layers
    ]
    total = (
        f"{cost.network} at {cost.image_size} pixels, {cost.classes:,} classes: sparsity {cost.sparsity:.4f} of "
        f"{cost.weights:,} weights; {_millions(cost.macs)} M of {_millions(cost.macs_dense)} M multiply-accumulates "
        f"({format_flops(cost.gflops, of=cost.gflops_dense)})"
    )
    return f"{aligned([heads, *rows], left=range(2))}\n\n{total}"


def _millions(macs: float) -> str:
    """Format in millions: a whole number from 100 million up, three significant digits below."""
    return f"{macs / 1e6:,.0f}" if macs >= 1e8 else f"{macs / 1e6:.3g}"
