"""``TrainingStep``: a trial's next step, with all that changes from one to the next in tensors on a GPU."""

from __future__ import annotations

import torch
from torch import Tensor

from st3sweep.data import Splits
from st3sweep.data.augment import Keys
from st3sweep.data.batches import Inputs, TrainBatches
from st3sweep.sparse import flat
from st3sweep.training.optim import classification_loss, optimisation_step
from st3sweep.training.state import State
from st3sweep.training.world import World
from st3sweep.trial.settings import TrialSettings


class TrainingStep:
    """The step of a trial: augments a batch, trains on it and adds to ``State.loss_sum``, without synchronisation.

    On a GPU the host tells it what changes by filling tensors: the keys of an epoch's augmentation, learning rate and
    weight decay (``SGD.set_rates``), and the numbers of the method's schedule. So its operations can be replayed.
    """

    def __init__(self, state: State, spec: TrialSettings, world: World, splits: Splits):
        self.state, self.spec, self.world = state, spec, world
        self.batches = TrainBatches(
            splits,
            spec.data,
            batch_size=spec.train.batch_size,
            rank=world.rank,
            size=world.size,
            device=world.device,
        )
        self._keys: Keys | None = None
        self._numbers: Tensor | None = None  # (k,) float64, and its places
        self._places: list[Tensor] = []

    def begin_epoch(self, epoch: int) -> None:
        """Set the keys of the epoch's augmentation."""
        keys = Keys.of(self.spec.seed, epoch)
        if not flat.launch_bound(self.state.loss_sum):
            self._keys = keys
            return
        if self._keys is None:
            self._keys = Keys(*torch.empty(3, dtype=torch.int64, device=self.world.device))
        for tensor, key in zip(self._keys, keys, strict=True):
            tensor.fill_(key)  # type: ignore[union-attr]

    def schedule(self, progress: float) -> None:
        """Move the method's schedule to ``progress``, for a step that ``replayable`` takes or a graph replays."""
        numbers = self.state.method.schedule(progress)
        if self._numbers is None or len(self._places) != len(numbers):
            self._numbers = torch.empty(len(numbers), dtype=torch.float64, device=self.world.device)
            self._places = list(self._numbers)
        for place, number in zip(self._places, numbers, strict=True):
            place.fill_(number)

    def eager(self, inputs: Inputs, progress: float) -> None:
        """Take the step whatever it needs of the host."""
        self._take(inputs, progress, None)

    def replayable(self, inputs: Inputs, progress: float) -> None:
        """Take the step by operations that are the same at every step, after ``schedule``."""
        self._take(inputs, progress, self._numbers)

    def _take(self, inputs: Inputs, progress: float, numbers: Tensor | None) -> None:
        state, train = self.state, self.spec.train
        assert self._keys is not None
        x, y = self.batches.batch(inputs, self._keys)
        loss, _norm = optimisation_step(
            state.model,
            state.weights,
            state.method,
            state.optimizer,
            classification_loss(
                state.forward,
                x,
                y,
                label_smoothing=train.label_smoothing,
                precision=train.precision,
                loss_of_outputs=self.spec.model.loss,
            ),
            progress=progress,
            clip_norm=self.spec.optim.clip_norm,
            world=self.world,
            numbers=numbers,
        )
        state.loss_sum += loss
