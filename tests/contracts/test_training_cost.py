"""Test the recorded training cost by hand: a model that costs d dense and g at the end of an epoch.

Three epochs of four batches of 32 images; a step costs three times the model, and the third part, back to the weights,
costs d where pruned weights need a gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from st3sweep import data
from st3sweep.training.loop import fit
from st3sweep.training.world import World
from st3sweep.trial.settings import TrialSettings

TinyTrial = Callable[..., TrialSettings]
RAMP = {"start": 0.0, "end": 0.75}
IMAGES, BATCH = 128, 32
Charge = Callable[[float, list[float]], float]


def along(d: float, g: list[float]) -> float:
    """Return the cost of one pass in three epochs, each at the mean of the model's cost before and after it."""
    return IMAGES * sum((before + after) / 2 for before, after in zip([d, *g], g, strict=False))


CHARGED: list[tuple[str, dict[str, Any], Charge]] = [
    ("dense", {"method": "dense"}, lambda d, _: 3 * IMAGES * 3 * d),
    ("static", {"method": "static", "target": 0.8}, lambda _, g: 3 * IMAGES * 3 * g[0]),
    ("dnw", {"method": "dnw", "target": 0.8}, lambda d, g: 3 * IMAGES * (2 * g[0] + d)),
    # Of twelve steps the third and the sixth are updates; the ninth is past the stop.
    (
        "rigl",
        {"method": "rigl", "target": 0.8, "interval": 0.25},
        lambda d, g: 3 * IMAGES * 3 * g[0] + 2 * BATCH * (d - g[0]),
    ),
    ("gmp", {"method": "gmp", "target": 0.8, "ramp": RAMP}, lambda d, g: 3 * along(d, g)),
    ("st3", {"method": "st3", "target": 0.8, "ramp": RAMP}, lambda d, g: 2 * along(d, g) + 3 * IMAGES * d),
    (
        "st3-masked",
        {"method": "st3", "target": 0.8, "ramp": RAMP, "backward": "masked"},
        lambda d, g: 3 * along(d, g),
    ),
    # Seven steps of one pass before the ramp, then five of three masks each; all passes count as dense.
    (
        "probmask",
        {"method": "probmask", "target": 0.8, "masks_per_step": 3, "ramp": {"start": 0.5, "end": 0.75}},
        lambda d, _: (7 + 5 * 3) * BATCH * 3 * d,
    ),
    ("str", {"method": "str", "s_init": -4.0}, lambda d, g: 3 * along(d, g)),
]


@pytest.mark.parametrize(("sparsity", "charge"), [case[1:] for case in CHARGED], ids=[case[0] for case in CHARGED])
def test_training_is_charged_by_hand(
    tiny_trial: TinyTrial, digits: data.Splits, tmp_path: Path, sparsity: dict[str, Any], charge: Charge
) -> None:
    """Fine-tuning has a fixed mask: a step costs three times the sparse model, whatever the method."""
    records: list[dict[str, Any]] = []
    spec = tiny_trial(sparsity=sparsity, train={"finetune_epochs": 1})
    result = fit(spec, World(), lambda record: bool(records.append(record)), tmp_path, digits)  # type: ignore[func-returns-value]
    d, costs = result["gflops_dense"], [record["gflops"] for record in records]
    fine = IMAGES * 3 * (costs[2] + costs[3]) / 2
    # A learned threshold is above 0 before the first step, and a regrown weight may be 0 at the end of an epoch.
    rel = {"str": 0.05, "rigl": 0.005}.get(sparsity["method"], 1e-9)
    assert result["training_gflops"] == pytest.approx(charge(d, costs[:3]) + fine, rel=rel)


def test_a_stopped_training_is_charged_for_its_epochs(
    tiny_trial: TinyTrial, digits: data.Splits, tmp_path: Path
) -> None:
    records: list[dict[str, Any]] = []

    def report(record: dict[str, Any]) -> bool:
        records.append(record)
        return len(records) == 2

    result = fit(tiny_trial(sparsity={"method": "static", "target": 0.8}), World(), report, tmp_path, digits)
    assert result["status"] == "stopped"
    assert result["training_gflops"] == pytest.approx(2 * IMAGES * 3 * records[0]["gflops"])
