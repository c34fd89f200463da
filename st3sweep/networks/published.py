"""Compare weights and multiply-accumulates of the ST-3 paper's models with the published counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from st3sweep.networks import build_model
from st3sweep.networks.flops import gflops, layer_costs
from st3sweep.trial.model import ModelConfig
from st3sweep.trial.registry import members_of
from st3sweep.util.text import aligned


@dataclass(frozen=True)
class Published:
    """Published counts of a model: conv and linear ``weights``, ``macs`` of one image (None: not published)."""

    label: str
    model: dict[str, Any]
    dataset: str
    classes: int
    pixels: int
    weights: int
    macs: int | None


# Weights and multiply-accumulates behind the tables of the ST-3 paper and its appendix.
PUBLISHED = (
    Published("ResNet-20", {"arch": "cifar_resnet"}, "cifar10", 10, 32, 270_896, 40_813_184),
    Published("ResNet-20", {"arch": "cifar_resnet"}, "cifar100", 100, 32, 276_656, 40_818_944),
    Published("VGG-11", {"arch": "vgg11"}, "cifar10", 10, 32, 9_222_848, 152_769_536),
    Published("VGG, small", {"arch": "vgg_small"}, "cifar10", 10, 32, 371_648, None),
    Published("WideResNet-34x2", {"arch": "wide_resnet"}, "cifar100", 100, 32, 1_862_576, 270_987_776),
    Published("ResNet-50", {"arch": "resnet50"}, "imagenet", 1000, 224, 25_502_912, 4_089_184_256),
    Published("MobileNetV1", {"arch": "mobilenet_v1"}, "imagenet", 1000, 224, 4_209_088, 568_740_352),
)


def counted() -> Iterator[dict[str, Any]]:
    """Yield a row for each model: what ``cost`` counts, what was published, and whether they agree exactly."""
    for one in PUBLISHED:
        model = build_model(ModelConfig.parse(one.model), one.classes, channels=3)
        costs = layer_costs(model, (3, one.pixels, one.pixels))
        weights, macs = sum(cost.numel for cost in costs), sum(cost.macs for cost in costs)
        yield {
            "network": one.label,
            "arch": one.model["arch"],
            "dataset": one.dataset,
            "classes": one.classes,
            "input": f"3x{one.pixels}x{one.pixels}",
            "layers": len(costs),
            "weights": weights,
            "macs": macs,
            "gflops": gflops(costs),
            "published_weights": one.weights,
            "published_macs": one.macs,
            "agrees": weights == one.weights and one.macs in (macs, None),
        }


def settings() -> dict[str, str]:
    """Return the fields of each ``arch`` with their defaults, e.g. ``depth 20, width 16``."""
    return {
        get_args(model.model_fields["arch"].annotation)[0]: ", ".join(
            name if info.is_required() else f"{name} {info.default}"
            for name, info in model.model_fields.items()
            if name not in ModelConfig.model_fields
        )
        for model in members_of(ModelConfig)
    }


def networks_text() -> str:
    """Return as text the table of counts, and below it the settings of each ``arch``."""
    heads = (
        "network",
        "dataset",
        "input",
        "layers",
        "weights",
        "macs",
        "gflops",
        "published weights",
        "and macs",
        "agrees",
    )
    rows = [heads]
    for row in counted():
        numbers = [
            "-" if row[name] is None else f"{row[name]:,}"
            for name in ("layers", "weights", "macs", "gflops", "published_weights", "published_macs")
        ]
        numbers[3] = f"{row['gflops']:.4g}"
        rows.append((row["network"], row["dataset"], row["input"], *numbers, "yes" if row["agrees"] else "NO"))
    fields_of = aligned([(f"  {arch}", fields or "none") for arch, fields in settings().items()], left=range(2))
    return f"{aligned(rows, left=range(3))}\n\narch and settings, with defaults\n{fields_of}"
