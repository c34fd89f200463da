"""The result of a trial: the best epoch's weights on the test set, which is read here and nowhere else, once."""

from __future__ import annotations

import time
from itertools import islice
from typing import Any

from st3sweep.data import Splits
from st3sweep.networks import flops
from st3sweep.sparse.methods import restore_method
from st3sweep.training import checkpoint
from st3sweep.training.batches import evaluate_split, training_batches
from st3sweep.training.columns import test_columns, validation_columns
from st3sweep.training.recalibrate import recalibrate
from st3sweep.training.saver import BEST, Saver
from st3sweep.training.state import State
from st3sweep.training.world import World
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.storage.interface import Storage


def final_result(state: State, spec: TrialSettings, world: World, splits: Splits, saver: Saver) -> dict[str, Any]:
    """Return the trial's result, with the test accuracy of the best epoch's weights."""
    assert state.best is not None, "every trial ends at its target sparsity"
    started = time.perf_counter()
    record, metric = state.best["record"], spec.model.metric
    validation = {name: value for name, value in record.items() if name.startswith("val_")}
    test = test_columns(None, metric)
    if splits.test is not None or spec.train.bn_recalibration:
        saver.wait()
        world.broadcast(None)  # rank 0 has written the file by now
        _load_best(state, spec, world, saver.storage)
    if spec.train.bn_recalibration:
        batches = islice(training_batches(spec, world, splits, epoch=0), spec.train.bn_recalibration)
        recalibrate(state.model, state.weights, state.method, batches, world, precision=spec.train.precision)
        saver.save_best(state)
        validation = validation_columns(evaluate_split(state, spec, world, splits, splits.validation), metric)
    if splits.test is not None:
        test = test_columns(evaluate_split(state, spec, world, splits, splits.test), metric)
    return {
        "status": "finished",
        "sparsity": record["sparsity"],
        **validation,
        **test,
        "gflops": record["gflops"],
        "gflops_dense": flops.gflops(state.costs),
        "best_epoch": record["epoch"],
        "epochs": state.epoch,
        "training_gflops": state.training_gflops,
        "wall_seconds": state.seconds + time.perf_counter() - started,
        "layers": state.best["layers"],
    }


def _load_best(state: State, spec: TrialSettings, world: World, storage: Storage) -> None:
    best = checkpoint.load(storage, BEST, world.device)
    state.model.load_state_dict(best["model"])
    state.method = restore_method(spec, state.weights, flops.macs_per_weight(state.costs), best["method"])
