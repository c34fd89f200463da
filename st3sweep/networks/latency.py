"""Predict the time of an image on a CPU that skips zeros, from the layers of a sparse model.

The time is linear in FEATURES: multiply-accumulates by kind of layer, numbers that the layers write, weights that they
read, output channels, and a constant. The times are not negative and are fitted once a machine to measured networks
(``export/calibration.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

DENSE_ABOVE = 0.35  # of a convolution's weights left, it runs on a dense kernel: ``sparse_runtime/convolution.py``
FEATURES = (
    "sparse",  # multiply-accumulates of convolutions that are not with zero
    "dense",  # all of those of convolutions with more than DENSE_ABOVE
    "depthwise",  # those of depthwise convolutions that are not with zero
    "linear",  # those of linear layers that are not with zero
    "written",  # numbers that convolutions write
    "written_depthwise",  # numbers that depthwise convolutions write
    "weights",  # weights of convolutions that are not zero
    "channels",  # output channels of convolutions
    "networks",  # 1
)

Layer = Mapping[str, Any]  # of a run's table of layers: shape, numel, density, macs_dense


def features(layers: Iterable[Layer]) -> NDArray[np.float64]:
    """Return what a model's time is linear in: (len(FEATURES),), counts of one image."""
    found = dict.fromkeys(FEATURES, 0.0)
    found["networks"] = 1.0
    for layer in layers:
        shape = [int(size) for size in str(layer["shape"]).split("x")]
        live, macs = float(layer["density"]), float(layer["macs_dense"])
        kind = kind_of(shape, live)
        found[kind] += macs if kind == "dense" else macs * live
        if kind != "linear":
            found["written_depthwise" if kind == "depthwise" else "written"] += macs / layer["numel"] * shape[0]
            found["weights"] += live * layer["numel"]
            found["channels"] += shape[0]
    return np.array([found[name] for name in FEATURES])


def kind_of(shape: Sequence[int], density: float) -> str:
    """Return the kind of a layer with a weight of ``shape``, (C_out, C_in / groups, kH, kW) or (out, in)."""
    if len(shape) == 2:
        return "linear"
    if shape[1] == 1 and shape[0] > 1 and max(shape[2:]) > 1:
        return "depthwise"
    return "dense" if density > DENSE_ABOVE else "sparse"


@dataclass(frozen=True)
class Predictor:
    """``times`` in ms, one of each of FEATURES; ``error`` is the median relative one on ``held_out`` networks.

    ``largest`` is the error below which nine of ten of them are.
    """

    times: dict[str, float]
    error: float
    largest: float
    held_out: int
    disturbed: bool  # whether others ran beside the measurements

    def __call__(self, layers: Iterable[Layer]) -> float:
        """Return the predicted time of an image, ms."""
        return float(features(layers) @ [self.times[name] for name in FEATURES])


def fitted(rows: NDArray[np.float64], milliseconds: NDArray[np.float64]) -> dict[str, float]:
    """Return the times of FEATURES, none negative, that fit ``rows`` (networks, FEATURES) with least relative error."""
    from scipy.optimize import nnls  # a run without latency does not wait for it

    relative = rows / milliseconds[:, None]
    scale = np.maximum(relative.max(axis=0), np.finfo(float).tiny)
    times, _ = nnls(relative / scale, np.ones(len(rows)))
    return dict(zip(FEATURES, map(float, times / scale), strict=True))


def fit(rows: NDArray[np.float64], milliseconds: NDArray[np.float64], *, folds: int = 4, disturbed: bool) -> Predictor:
    """Return the predictor of all networks; its error is of each from a fit without its fold.

    Raises ValueError for fewer networks than folds.
    """
    if len(rows) < folds:
        raise ValueError(f"needs at least {folds} networks, but got {len(rows)}")
    errors = []
    for fold in range(folds):
        out = np.arange(len(rows)) % folds == fold
        times = fitted(rows[~out], milliseconds[~out])
        found = rows[out] @ [times[name] for name in FEATURES]
        errors += list(np.abs(found / milliseconds[out] - 1))
    error, largest = np.quantile(errors, (0.5, 0.9))
    return Predictor(fitted(rows, milliseconds), float(error), float(largest), len(rows), disturbed)
