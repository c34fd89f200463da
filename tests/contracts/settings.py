"""The methods under contract: a new one joins with a line here."""

from __future__ import annotations

from typing import Any

METHODS: list[tuple[str, dict[str, Any]]] = [
    ("st3-l1", {"method": "st3", "target": 0.9}),
    ("st3-sigma", {"method": "st3", "target": 0.8, "criterion": "sigma"}),
    ("st3-hard-no-rescale", {"method": "st3", "target": 0.7, "soft": False, "rescale": False}),
    ("st3-masked", {"method": "st3", "target": 0.8, "backward": "masked"}),
    ("st3-family", {"method": "st3", "target": 0.8, "criterion": "family", "shape_power": 0.5, "mac_power": 0.5}),
    ("dense", {"method": "dense"}),
]
