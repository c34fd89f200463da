"""ProbMask: learn for each weight the probability that it is kept, and draw the final mask from these.

With s in [0, 1] one probability a weight, 1 at the start, u a uniform random number, ε = 1e-20, t the progress of
training and k the number of weights that the budget leaves:

    g      = log(u / (1 - u))                                         logistic noise
    T      = 1 / (0.97 (1 - t) + 0.03)                                inverse temperature, 1 to 33
    m      = σ(T (log(s + ε) - log(1 - s + ε) + g))                   relaxed mask
    θ̂      = θ m
    ∂L/∂θ  = m ∂L/∂θ̂
    ∂L/∂s  = θ ∂L/∂θ̂ T m (1 - m) (1 / (s + ε) + 1 / (1 - s + ε))
    s     <- the nearest point of [0, 1]^n with Σ s <= k              after its own step, by Adam (``projection.py``)

A step takes the mean loss of several masks. k falls from all weights to the target along a cubic ramp; before the ramp
nothing is masked. Evaluation during training uses a mask that keeps each weight with probability s; the last epoch
draws several such masks and keeps the one of least loss on the training images. A drawn mask has k weights in
expectation only, and fewer where the gradient takes Σ s below k.

Source: Zhou, Zhang, Wang & Yin, CVPR 2021 (arXiv 2105.01571), and the authors' released constants. Differs from the
paper: budget and temperature change at every step, not every epoch; while the budget leaves all weights, where their
masks would be 1 to the last digit, a step takes one pass; m below ε is 0; logistic noise in place of the difference
of two Gumbel variables, which has the same distribution. The authors' code lets Adam's learning rate fall along half a
cosine, as that of the weights, and clips the gradients of weights and s together; here it is constant, which short
trainings need, and s takes no part in clipping. Theirs chooses the last mask by accuracy, with each batch's own
statistics; this by the loss, with the running ones. Projection, relaxed mask and gradients are tested against the
authors' code (``tests/data/parity``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from st3sweep.sparse.flat import Group, groups
from st3sweep.sparse.method import Weights
from st3sweep.sparse.projection import project_
from st3sweep.sparse.stochastic import StochasticMethod
from st3sweep.trial.fields import Time, fail
from st3sweep.trial.schedules import ramp
from st3sweep.trial.settings import TrialSettings
from st3sweep.trial.sparsity import MethodConfig, Ramp, register_method

_EPS = 1e-20


class ProbMaskRamp(Ramp):
    """Ramp of ProbMask, by default with the paper's times: 16 % and 60 % of training."""

    start: Time = 0.16
    end: Time = 0.6
    power: float = Field(3, gt=0)


@register_method
class ProbMaskConfig(MethodConfig):
    """Settings of ProbMask."""

    method: Literal["probmask"] = "probmask"
    target: float = Field(ge=0, lt=1)  # final fraction of zeros, in expectation, over all layers together
    ramp: ProbMaskRamp = ProbMaskRamp()
    masks_per_step: int = Field(2, ge=1)  # each a forward and a backward pass
    score_lr: float = Field(6e-3, gt=0)  # Adam's learning rate of the probabilities
    final_masks: int = Field(10, ge=1)  # drawn at the end; the best on the training images is kept

    @property
    def label(self) -> str:
        return "ProbMask"

    def check(self, trial: TrialSettings) -> None:
        self.ramp.check(trial.train.epochs)
        if trial.train.compile:
            message = "is not supported with method probmask: the passes of a step would share a CUDA graph's output"
            raise fail("train.compile", message, "sparsity.method")

    def ramp_progress(self, progress: float, epochs: int) -> float:
        return self.ramp.at(progress, epochs)

    def build(self, weights: Weights, trial: TrialSettings, macs_per_weight: Sequence[float]) -> ProbMask:  # noqa: ARG002
        return ProbMask(weights, self, epochs=trial.train.epochs, seed=trial.seed)


class ProbMask(StochasticMethod):
    """ProbMask on ``weights`` in a training of ``epochs`` epochs.

    Draws are a function of ``seed``, the step and the mask's number: the same on all ranks. Only the mask chosen at
    the end counts as being at the target.
    """

    eager_because = "each of its masks is drawn with a seed of its own, by the host"

    def __init__(self, weights: Weights, config: ProbMaskConfig, *, epochs: int, seed: int):
        self.target_sparsity, self.ramp = config.target, config.ramp.fractions(epochs)
        self.masks_per_step, self.final_masks, self.seed = config.masks_per_step, config.final_masks, seed
        self.sizes = [weight.numel() for weight in weights]
        self.scores = weights[0].new_ones(sum(self.sizes)).detach()  # s of all layers, one after the other
        self.optimizer = torch.optim.Adam([self.scores], lr=config.score_lr)
        self.progress, self.steps = 0.0, 0
        self.pass_number: int | None = None  # which of a step's masks; None outside of a step
        self.relaxed: Tensor | None = None  # its m, (n,), from ``sparsify`` to ``transform_gradients``
        self.mask: Tensor | None = None  # for evaluation, (n,) bool; drawn when it is first needed
        self.chosen = False

    @property
    def passes_per_step(self) -> int:
        return 1 if self.scheduled_sparsity == 0.0 else self.masks_per_step

    @property
    def dense_passes(self) -> bool:
        return True  # a relaxed mask is 0 only where it underflows

    def begin_pass(self, number: int) -> None:
        self.pass_number = number

    @torch.no_grad()
    def refresh(self, progress: float, weights: Weights) -> None:  # noqa: ARG002
        self.scheduled_sparsity, self.progress = self.target_sparsity * ramp(progress, *self.ramp), progress
        if self.scheduled_sparsity > 0.0:
            project_(self.scores, (1.0 - self.scheduled_sparsity) * len(self.scores))
        self.steps += 1
        self.scores.grad = self.pass_number = self.mask = None

    @torch.no_grad()
    def sparsify(self, weights: Weights) -> list[Tensor] | None:
        if self.scheduled_sparsity == 0.0:
            return None
        if self.pass_number is None:
            if self.mask is None:
                self.mask = self._hard_mask(0)
            mask = self.mask
        else:
            mask = self.relaxed = self._relaxed_mask(self.pass_number)
        sparse = []
        for group, part in self._parts(mask, weights):
            sparse += group.unflatten(group.flatten(weights) * part)
        return sparse

    @torch.no_grad()
    def transform_gradients(self, progress: float, weights: Weights, optimizer: torch.optim.Optimizer) -> None:  # noqa: ARG002
        if self.relaxed is None:
            return
        m, s = self.relaxed, self.scores
        slope = self._sharpness() * m * (1.0 - m) * (1.0 / (s + _EPS) + 1.0 / (1.0 - s + _EPS))  # ∂m/∂s
        gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
        found = []
        for (group, mask), (_, by_score) in zip(self._parts(m, weights), self._parts(slope, weights), strict=True):
            gradient = group.flatten(gradients)
            found.append(group.from_memory_order(gradient * group.flatten(weights) * by_score))
            group.write(gradient.mul_(mask), gradients)
        of_scores = found[0] if len(found) == 1 else torch.cat(found)
        self.scores.grad = of_scores if self.scores.grad is None else self.scores.grad + of_scores
        self.relaxed = None

    def step_own_parameters(self, lr: float | Tensor, weight_decay: float | Tensor) -> None:  # noqa: ARG002 (Adam has its own, and no decay)
        self.optimizer.step()

    def choose_mask(self, loss: Callable[[], float]) -> None:
        self.chosen = True
        if self.scheduled_sparsity == 0.0:
            return
        found = []
        for number in range(self.final_masks):
            self.mask = self._hard_mask(number)
            found.append((loss(), number))
        self.mask = self._hard_mask(min(found)[1])

    @torch.no_grad()
    def projected_densities(self, weights: Weights) -> list[float] | None:  # noqa: ARG002
        """Return each layer's expected density at the final sparsity, over the masks that may be drawn; or None."""
        if self.scheduled_sparsity >= self.target_sparsity:
            return None
        scores = self.scores.clone()
        project_(scores, (1.0 - self.target_sparsity) * len(scores))
        return [*torch.stack([part.mean() for part in torch.split(scores, self.sizes)]).tolist()]

    @property
    def at_target(self) -> bool:
        return self.chosen

    def state_dict(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("progress", "steps", "scores", "chosen")}
        return {
            **super().state_dict(),
            **own,
            "mask": self.mask if self.chosen else None,
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        for name in ("progress", "steps", "chosen", "mask"):
            setattr(self, name, state[name])
        self.scores.copy_(state["scores"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _sharpness(self) -> float:
        return 1.0 / (0.97 * (1.0 - self.progress) + 0.03)

    def _relaxed_mask(self, number: int) -> Tensor:
        drawn = torch.empty_like(self.scores).uniform_(generator=self._generator(f"step {number}"))
        noise = torch.log(drawn.clamp_(min=2**-25) / (1.0 - drawn))  # 2**-25 replaces 0 only
        odds = torch.log(self.scores + _EPS) - torch.log(1.0 - self.scores + _EPS)
        mask = torch.sigmoid(self._sharpness() * (odds + noise))
        return mask.masked_fill_(mask < _EPS, 0.0)  # else denormal where s is 0: ten times slower on a CPU

    def _hard_mask(self, number: int) -> Tensor:
        drawn = torch.empty_like(self.scores).uniform_(generator=self._generator(f"mask {number}"))
        return drawn < self.scores

    def _generator(self, what: str) -> torch.Generator:
        digest = hashlib.sha256(f"probmask {self.seed} {self.steps} {what}".encode()).digest()
        return torch.Generator(self.scores.device).manual_seed(int.from_bytes(digest[:7], "big"))

    def _parts(self, row: Tensor, weights: Weights) -> list[tuple[Group, Tensor]]:
        """Return each group with its part of ``row`` (n,), whose layers are in the order of ``flatten``, as its row."""
        own = groups(weights)
        parts = torch.split(row, [group.n for group in own])
        return [(group, group.to_memory_order(part)) for group, part in zip(own, parts, strict=True)]
