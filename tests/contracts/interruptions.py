"""Interrupt training every few batches, and resume it each time from its checkpoint within the epoch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from st3sweep import data
from st3sweep.data.images import ArrayImages
from st3sweep.training.loop import fit
from st3sweep.training.world import World
from st3sweep.trial.settings import TrialSettings


class Interrupted(Exception):
    """Simulates the death of the process."""


class Unreliable(ArrayImages):
    """Images that raise Interrupted after ``times`` fetches."""

    def __init__(self, images: Any, times: int):
        super().__init__(images.on(torch.device("cpu")).numpy(), images.labels.numpy(), images.sample_ids.numpy())
        self.times = times

    def fetch(self, indices: Tensor, seed: int, epoch: int, train: bool) -> Tensor:
        self.times -= 1
        if self.times < 0:
            raise Interrupted
        return super().fetch(indices, seed, epoch, train)


def fit_in_pieces(
    spec: TrialSettings, world: World, folder: Path, splits: data.Splits, batches: int
) -> tuple[dict[str, Any], int]:
    """Return the result of ``fit`` interrupted after every ``batches`` batches, and the number of interruptions."""
    interruptions = 0
    while True:
        flaky = dataclasses.replace(splits, train=Unreliable(splits.train, batches))
        try:
            return fit(spec, world, lambda _: False, folder, flaky, checkpoint_seconds=0), interruptions
        except Interrupted:
            interruptions += 1
