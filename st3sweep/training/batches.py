"""The batches of this rank for one trial, and evaluation on one of its splits."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from st3sweep.data import Splits
from st3sweep.data.batches import eval_batches, train_batches
from st3sweep.data.images import Images
from st3sweep.training.evaluate import Evaluation, evaluate
from st3sweep.training.state import State
from st3sweep.training.world import World
from st3sweep.trial.settings import TrialSettings


def training_batches(
    spec: TrialSettings, world: World, splits: Splits, epoch: int, first_step: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield this rank's augmented batches (x, y) of ``epoch`` from ``first_step`` on."""
    return train_batches(
        splits,
        spec.data,
        seed=spec.seed,
        epoch=epoch,
        batch_size=spec.train.batch_size,
        rank=world.rank,
        size=world.size,
        device=world.device,
        first_step=first_step,
    )


def evaluation_batch(image_size: int, device: torch.device) -> int:
    """Return the images of a batch of evaluation: 512 on a CPU; on a GPU as many pixels as 512 photographs of 224².

    A number that follows from the data alone, so that a resumed trial sums the same losses. At most 4,096.
    """
    if device.type == "cpu":
        return 512
    return max(512, min(4096, 512 * 224**2 // image_size**2))


def evaluate_split(state: State, spec: TrialSettings, world: World, splits: Splits, images: Images) -> Evaluation:
    """Evaluate the sparse model on ``images``, one of ``splits``."""
    return evaluate(
        state.model,
        state.weights,
        state.method,
        eval_batches(
            images,
            splits,
            batch_size=evaluation_batch(spec.data.image_size, world.device),
            rank=world.rank,
            size=world.size,
            device=world.device,
        ),
        precision=spec.train.precision,
        world=world,
        classes=splits.num_classes,
        loss=spec.model.loss,
        metric=spec.model.metric,
    )
