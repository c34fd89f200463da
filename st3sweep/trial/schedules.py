"""Schedules: pure functions of progress, the fraction of training steps done (0 to 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence

# Weight decay by target sparsity: the ST-3 appendix's recipe for ImageNet. Rows (sparsity, weight decay).
WEIGHT_DECAY_BY_TARGET: dict[str, tuple[tuple[float, float], ...]] = {
    "resnet50": ((0.80, 1e-4), (0.95, 1e-4), (0.965, 1e-5), (0.98, 1e-5), (0.99, 0.0)),
    "mobilenet_v1": ((0.80, 1e-4), (0.89, 1e-5), (0.95, 1e-5)),
}


def ramp(progress: float, start: float, end: float, power: float = 3.0) -> float:
    """Rise from 0 at ``start`` to 1 at ``end``: ``1 - (1 - t)^power`` with t the fraction of the ramp done.

    Source: Zhu & Gupta 2017, equation 1, with power 3. Differs from the paper: any power; refreshed at every step.
    """
    done = min(1.0, max(0.0, (progress - start) / (end - start)))
    if done < 1e-9:  # rounding at ``start``: in floats, 681 / 1,910 steps differs from 68.1 / 191 epochs
        return 0.0
    risen: float = 1.0 - (1.0 - done) ** power
    return risen


def last_update(progress: float, start: float, end: float, interval: float) -> float:
    """Return the latest of ``start``, ``start + interval``, … and ``end`` that ``progress`` has reached.

    Before the first of them, return ``start``: an update is due whenever the returned number rises.
    """
    if progress >= end:
        return end
    # 1e-6, so that rounding of progress never delays an update by a step.
    return start + interval * max(0, math.floor((progress - start) / interval + 1e-6))


def warm_up(progress: float, warmup: float) -> float:
    """Rise linearly to 1 over the first ``warmup`` of training; 1 without a warm-up."""
    return min(1.0, progress / warmup) if warmup > 0 else 1.0


def step_decay(progress: float, milestones: Sequence[float], gamma: float) -> float:
    """Return ``gamma`` to the power of the number of ``milestones`` reached."""
    return gamma ** sum(progress >= milestone for milestone in milestones)


def cosine(progress: float, start: float = 0.0, final: float = 0.0) -> float:
    """Fall along half a cosine from 1 at ``start`` to ``final`` at the end of training."""
    t = min(1.0, max(0.0, (progress - start) / (1.0 - start)))
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * t))


def weight_decay_by_target(network: str, target: float) -> float:
    """Return the ST-3 appendix's weight decay for the model ``network`` at ``target`` sparsity.

    Between two rows of the table, use the next higher sparsity; above the last row, the last.
    Raises KeyError for a model that the table does not name.
    """
    rows = WEIGHT_DECAY_BY_TARGET[network]
    return next((decay for sparsity, decay in rows if target <= sparsity + 1e-9), rows[-1][1])


def weight_decay_with_sparsity(value: float, final_ratio: float, share_of_target: float) -> float:
    """Fall from ``value`` to ``value * final_ratio`` as ``share_of_target``, sparsity over its target, rises to 1."""
    return value * (1.0 - (1.0 - final_ratio) * share_of_target)
