"""Estimate the noise of an accuracy: between seeds, from replicates, or binomial, from the number of images."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from st3sweep.analysis.fronts import finished

# Official sizes. Those of other datasets depend on their files, and the tables do not have them.
TRAINING_IMAGES = {"cifar10": 50_000, "cifar100": 50_000}
TEST_IMAGES = {"cifar10": 10_000, "cifar100": 10_000, "digits": 297, "imagenet": 50_000}


def binomial_deviation(accuracy: ArrayLike, images: int) -> NDArray[np.float64]:
    """Return the standard deviation, in percent, of an accuracy (percent, any shape) measured on ``images`` images.

    Takes (k + 1) / (n + 2) for the probability of a correct answer, so that 100 % has noise, too. It leaves out the
    variation between seeds, and the correlation of models that are measured on the same images.
    """
    if images < 1:
        raise ValueError(f"images must be 1 or more, but got {images}")
    probability = (np.asarray(accuracy, dtype=float) / 100 * images + 1) / (images + 2)
    deviation: NDArray[np.float64] = 100 * np.sqrt(probability * (1 - probability) / images)
    return deviation


def validation_images(trials: pd.DataFrame) -> int | None:
    """Return the number of validation images if the settings of all finished trials give the same one, else None."""
    if "spec" not in trials:
        return None
    counts = {_validation_images(spec) for spec in finished(trials)["spec"]}
    return counts.pop() if len(counts) == 1 else None


def test_images(trials: pd.DataFrame) -> int | None:
    """Return the number of test images if ``trials`` are of one dataset whose test set has an official size."""
    datasets = trials["dataset"].dropna().unique()
    return TEST_IMAGES.get(datasets[0]) if len(datasets) == 1 else None


def _validation_images(spec: Any) -> int | None:
    data: dict[str, Any] = json.loads(spec).get("data", {}) if isinstance(spec, str) else {}
    asked, training = data.get("validation"), TRAINING_IMAGES.get(data.get("dataset", ""))
    if isinstance(asked, int):
        return asked
    return round(asked * training) if isinstance(asked, float) and training else None
