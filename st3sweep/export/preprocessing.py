"""Say what an image goes through before the model: what a user needs to run an exported model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from st3sweep.trial.data import DataConfig


def preprocessing(data: DataConfig, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the steps of evaluation, in order, as plain values; ``inputs`` are those of ``Splits.input_facts``.

    ``channel_order``, ``resize`` and ``centre_crop`` as of ``DataConfig.preprocessing``, all None where images come
    ready from the user's own data; ``interpolation``; then pixels are divided by ``divide_by``, less ``mean``, divided
    by ``std``, as float32 of ``input_shape`` (batch, channels, height, width), the batch of any size.
    """
    ready = {"channel_order": None, "resize": None, "centre_crop": None}
    size = inputs["image_size"]
    return {
        **ready,
        **data.preprocessing(),
        "interpolation": "bilinear, of Pillow",
        "divide_by": inputs.get("divide_by", 255),  # missing in older checkpoints
        "mean": inputs["mean"],
        "std": inputs["std"],
        "input_shape": [None, inputs["channels"], size, size],
    }


def in_words(steps: Mapping[str, Any]) -> str:
    """Return the steps in a line of text."""
    words = [steps["channel_order"] or "images as the data give them"]
    if steps["resize"]:
        [(what, pixels)] = steps["resize"].items()
        words.append(f"{what.replace('_', ' ')} resized to {pixels} pixels ({steps['interpolation']})")
    if steps["centre_crop"]:
        words.append(f"centre crop of {steps['centre_crop']} pixels")
    words.append(f"pixels / {steps['divide_by']}, less {steps['mean']}, divided by {steps['std']}")
    return ", ".join(words)
