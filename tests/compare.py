"""Prepare results, records and checkpoints for comparison: without durations, or as bytes."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from st3sweep.sparse.method import Method


def timeless(tree: Any) -> Any:
    """Return a result, record or checkpoint without its durations."""
    if isinstance(tree, dict):
        return {
            key: timeless(value)
            for key, value in tree.items()
            if key not in ("seconds", "epoch_seconds", "wall_seconds")
        }
    return [timeless(value) for value in tree] if isinstance(tree, list) else tree


def flat(tree: Any) -> Any:
    """Return ``tree`` without durations and with the bytes of each tensor in its place."""
    if isinstance(tree, dict):
        return {key: flat(value) for key, value in timeless(tree).items()}
    if isinstance(tree, list):
        return [flat(value) for value in tree]
    return (str(tree.dtype), tuple(tree.shape), tree.numpy().tobytes()) if isinstance(tree, Tensor) else tree


def thresholds_of(method: Method) -> list[float] | None:
    """Return the threshold of each layer, None where the method has none."""
    found = method.thresholds()
    return None if found is None else found.tolist()
