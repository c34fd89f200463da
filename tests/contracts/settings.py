"""The methods under contract: a new one joins with a line here."""

from __future__ import annotations

from typing import Any

METHODS: list[tuple[str, dict[str, Any]]] = [
    ("st3-l1", {"method": "st3", "target": 0.9}),
    ("st3-sigma", {"method": "st3", "target": 0.8, "criterion": "sigma"}),
    ("st3-hard-no-rescale", {"method": "st3", "target": 0.7, "soft": False, "rescale": False}),
    ("st3-masked", {"method": "st3", "target": 0.8, "backward": "masked"}),
    ("st3-family", {"method": "st3", "target": 0.8, "criterion": "family", "shape_power": 0.5, "mac_power": 0.5}),
    ("st3-lamp", {"method": "st3", "target": 0.8, "criterion": "lamp"}),
    ("gmp", {"method": "gmp", "target": 0.9}),
    ("gmp-global", {"method": "gmp", "target": 0.8, "allocation": "global", "interval": 0.3}),
    ("gmp-lamp", {"method": "gmp", "target": 0.8, "allocation": "global", "criterion": "lamp"}),
    ("gmp-dense-layers", {"method": "gmp", "target": 0.8, "keep_dense": "first_and_depthwise"}),
    ("static-erk", {"method": "static", "target": 0.8}),
    ("static-uniform", {"method": "static", "target": 0.9, "allocation": "uniform", "keep_dense": "first"}),
    ("rigl-erk", {"method": "rigl", "target": 0.8}),
    (
        "rigl-uniform",
        {"method": "rigl", "target": 0.9, "allocation": "uniform", "keep_dense": "first", "interval": 0.3},
    ),
    ("granet", {"method": "granet", "target": 0.9}),
    ("granet-dense-start", {"method": "granet", "target": 0.8, "initial_density": 1.0, "interval": 0.3}),
    ("dense", {"method": "dense"}),
    ("dnw", {"method": "dnw", "target": 0.8}),
    ("dnw-dense-first", {"method": "dnw", "target": 0.7, "keep_dense": "first"}),
    ("probmask", {"method": "probmask", "target": 0.8, "final_masks": 2}),
    ("str", {"method": "str", "s_init": -2.5}),
]

# Weights by which the zeros of the small net may miss the target, by method; 1 where none is said.
ZEROS_OFF = {
    "dnw": 4,  # each of the four layers rounds down by itself
    "probmask": 30,  # of 336: its mask is drawn, and meets the target in expectation
}

# What prunes nothing, by method; a target of 0 where none is said.
UNPRUNED = {"str": {"s_init": -1e4}}

# Methods that set no sparsity: it is the outcome of training.
OUTCOME = {"str"}

# Methods whose sparsity rises along a ramp, so that its end can be projected. Of the others the present densities are
# the final ones, but for those of ``OUTCOME``: they have no final ratio, and what they come to cannot be told before.
RAMPED = {"st3", "gmp", "granet", "probmask"}

# Methods whose last mask is drawn: a projection tells what it holds in expectation, to within ``ZEROS_OFF``.
DRAWN = {"probmask"}

# Interruptions of a training whose images can be fetched five times in a row; as many as the steps need where none are
# said.
INTERRUPTIONS = {"probmask": 5}  # it looks at the training images twice more, at the end
