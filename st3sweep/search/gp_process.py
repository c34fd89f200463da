"""Propose points by Optuna's Gaussian process, in a process of its own: one request and one reply after another.

A proposal takes seconds, in which a sweep's driver could not pass on a message. ``ahead.ProposalsAhead`` starts it.
"""

from __future__ import annotations

import os
import pickle
import sys
from dataclasses import dataclass, replace
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import TrialState, create_trial


@dataclass(frozen=True)
class Request:
    """What a proposal follows from; parameters are those of the study (``parameters.Parameters``)."""

    seed: int
    directions: tuple[str, ...]  # "maximize" or "minimize", of each objective
    distributions: dict[str, BaseDistribution]
    complete: list[tuple[dict[str, Any], list[float]]]  # parameters and values of each complete trial
    running: list[dict[str, Any]]  # parameters of trials without values yet: other points are proposed

    def beside(self, params: dict[str, Any], seed: int) -> Request:
        """Return the request for a point beside ``params``."""
        return replace(self, seed=seed, running=[*self.running, params])


def propose(request: Request) -> dict[str, Any]:
    """Return the parameters that the Gaussian process proposes."""
    sampler = optuna.samplers.GPSampler(seed=request.seed, n_startup_trials=1, warn_independent_sampling=False)
    study = optuna.create_study(directions=request.directions, sampler=sampler)
    facts: dict[str, Any] = {"distributions": request.distributions}
    study.add_trials([create_trial(params=params, values=values, **facts) for params, values in request.complete])
    study.add_trials([create_trial(params=one, state=TrialState.RUNNING, **facts) for one in request.running])
    return study.ask(request.distributions).params


def serve() -> None:
    """Answer requests on standard input, until it is closed, with parameters or with the text of an error."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no reply
    while True:
        try:
            request = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            reply: dict[str, Any] | str = propose(request)
        except Exception as error:  # of numerics, for instance: the sweep continues without this proposal
            reply = f"{type(error).__name__}: {error}"
        pickle.dump(reply, replies)
        replies.flush()
