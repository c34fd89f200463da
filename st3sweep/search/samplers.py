"""Samplers that propose points: Optuna's, and a scrambled Sobol' sequence."""

from __future__ import annotations

import hashlib

import optuna

from st3sweep.space.config import SearcherConfig


def seed_of(seed: int, asked: int) -> int:
    """Derive a seed from the sweep's seed and the number of earlier proposals: resuming needs no stored state."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{asked}".encode()).digest()[:4], "big")


def startup_trials(spec: SearcherConfig) -> int:
    """Return the number of random trials before a model is fitted."""
    return spec.startup_trials or 10


def optuna_sampler(name: str, spec: SearcherConfig, seed: int) -> optuna.samplers.BaseSampler:
    """Build Optuna's sampler tpe, nsga2 or, under any other name, random."""
    if name == "tpe":
        return optuna.samplers.TPESampler(
            seed=seed,
            n_startup_trials=startup_trials(spec),
            multivariate=True,
            group=True,
            constant_liar=True,
        )
    if name == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=spec.population or 50)
    return optuna.samplers.RandomSampler(seed=seed)


class Sobol:
    """A scrambled Sobol' sequence in ``[0, 1)^dimensions``, by index.

    Not Optuna's QMCSampler: that takes its dimensions from the first trial to end, so that fields absent from this
    trial stay random, and it counts a point as used although a killed run never started it.
    """

    def __init__(self, dimensions: int, seed: int):
        from scipy.stats import qmc  # takes a second to import

        self._engine = qmc.Sobol(dimensions, scramble=True, seed=seed)

    def at(self, index: int) -> list[float]:
        """Return point number ``index``, from 0."""
        if index < self._engine.num_generated:
            self._engine.reset()
        if index > self._engine.num_generated:
            self._engine.fast_forward(index - self._engine.num_generated)
        return [float(coordinate) for coordinate in self._engine.random(1)[0]]
