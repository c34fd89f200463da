"""Contract of every method: training by recorded steps gives the numbers of steps taken one by one, bit by bit.

On a CPU in the form of a GPU: all layers as one row, what changes in tensors, and a tape in place of CUDA graphs, which
repeats the operations of one step as a graph does and refuses those that wait for the device.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from compare import flat as flattened
from compare import timeless
from interruptions import Interrupted, Unreliable
from settings import METHODS
from tape import Tape

from st3sweep import data
from st3sweep.sparse import flat
from st3sweep.sparse.method import Method
from st3sweep.sparse.methods.st3 import ST3
from st3sweep.training import checkpoint, graph, loop
from st3sweep.training.graph import EAGER_FIRST, Steps
from st3sweep.training.loop import fit, start
from st3sweep.training.saver import BEST, LAST
from st3sweep.training.step import TrainingStep
from st3sweep.training.world import World
from st3sweep.trial.settings import TrialSettings
from st3sweep.trial.sparsity import MethodConfig
from st3sweep.util.errors import UserError
from st3sweep.util.storage.local import Local

TinyTrial = Callable[..., TrialSettings]
AT_ONCE = {"st3-l1", "gmp", "probmask"}  # of each kind one: a threshold, masks that are updated, never recorded
every_method = pytest.mark.parametrize(
    "sparsity",
    [pytest.param(s, id=name, marks=[] if name in AT_ONCE else [pytest.mark.slow]) for name, s in METHODS],
)
EAGER = {"probmask"}  # methods whose steps are never recorded


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flat, "launch_bound", lambda _: True)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Steps]]:
    """Record steps on a tape; yields the steps of each ``fit``."""
    found: list[Steps] = []

    class Watched(Steps):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            found.append(self)

    monkeypatch.setattr(graph, "recorder_of", lambda _: Tape())
    monkeypatch.setattr(loop, "Steps", Watched)
    return found


def trained(spec: TrialSettings, folder: Path, splits: data.Splits) -> tuple[Any, ...]:
    """Return what a training left: records, result, and the two checkpoints."""
    records: list[dict[str, Any]] = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "train.graph")
        result = fit(spec, World(), lambda record: bool(records.append(timeless(record))), folder, splits)  # type: ignore[func-returns-value]
    saved = [flattened(checkpoint.load(Local(folder), name)) for name in (LAST, BEST)]
    return records, timeless(result), *saved


def spec_of(tiny_trial: TinyTrial, sparsity: dict[str, Any], how: str, **changes: Any) -> TrialSettings:
    """Return 8 steps an epoch: two of training, with a weight decay that falls, and one of fine-tuning."""
    train = {"epochs": 2, "batch_size": 16, "finetune_epochs": 1, "graph": how}
    if "interval" in MethodConfig.registered[sparsity["method"]].model_fields:
        sparsity = {**sparsity, "interval": 0.25}  # an update every four steps
    decay = {"kind": "cosine", "value": 1e-3, "final_ratio": 0.1}
    return tiny_trial(sparsity=sparsity, train=train, optim={"weight_decay": decay}, **changes)


@every_method
def test_recorded_steps_train_as_eager_ones(
    tiny_trial: TinyTrial, sparsity: dict[str, Any], digits: data.Splits, tmp_path: Path, taken: list[Steps]
) -> None:
    eager = trained(spec_of(tiny_trial, sparsity, "off"), tmp_path / "eager", digits)
    recorded = trained(spec_of(tiny_trial, sparsity, "auto"), tmp_path / "recorded", digits)
    assert recorded == eager
    alone, steps = taken
    assert (alone.eager, alone.replayed) == (24, 0)
    assert steps.eager + steps.replayed == 24
    # The first steps of training are taken eagerly, those of fine-tuning, and updates of masks.
    if sparsity["method"] in EAGER:
        assert (steps.recordings, steps.replayed) == (1, 8 - EAGER_FIRST)
    else:
        assert steps.recordings == 2
        last_update = sparsity["method"] == "granet"  # at the end of training too, an eager step more
        assert steps.replayed >= 12 - last_update


class Elsewhere(Unreliable):
    """Images that are fetched on the host, so that each step gets pixels, and that fail after some fetches."""

    def fits(self, device: torch.device) -> bool:  # noqa: ARG002
        return False


def test_recorded_training_resumed_within_an_epoch_is_bit_identical(
    tiny_trial: TinyTrial, digits: data.Splits, tmp_path: Path, taken: list[Steps]
) -> None:
    """Interrupted after every fifth batch; dropout makes the generator's state matter."""
    model = {"arch": "wide_resnet", "depth": 10, "width": 1, "dropout": 0.3}
    sparsity = {"method": "st3", "target": 0.8}
    eager = trained(spec_of(tiny_trial, sparsity, "off", model=model), tmp_path / "eager", digits)
    spec, interruptions = spec_of(tiny_trial, sparsity, "auto", model=model), 0
    while True:
        splits = dataclasses.replace(digits, train=Elsewhere(digits.train, 5))
        try:
            fit(spec, World(), lambda _: False, tmp_path / "parts", splits, checkpoint_seconds=0)
            break
        except Interrupted:
            interruptions += 1
    assert interruptions == 4
    assert sum(steps.recordings for steps in taken[1:]) == 5
    assert trained(spec, tmp_path / "parts", digits) == eager


def stepping(spec: TrialSettings, splits: data.Splits) -> Steps:
    """Return the steps of a trial before its first."""
    steps = Steps(TrainingStep(start(spec, World(), splits), spec, World(), splits), spec, World())
    steps.step.begin_epoch(0)
    return steps


def take(steps: Steps, sizes: list[int]) -> list[torch.Tensor]:
    """Take steps on batches of ``sizes`` images, and return the parameters then, and the sum of losses."""
    state, first = steps.step.state, 0
    state.model.train()
    for number, size in enumerate(sizes):
        state.optimizer.set_rates(0.1 / (number + 1), 1e-3)
        steps.take((torch.arange(first, first + size),), (number + 1) / len(sizes))
        first = (first + size) % 64
    return [*(p.detach() for p in state.model.parameters()), state.loss_sum]


def test_a_batch_of_another_size_is_another_recording(
    tiny_trial: TinyTrial, digits: data.Splits, taken: list[Steps]
) -> None:
    sizes = [8, 8, 8, 5] * 6
    eager, recorded = (stepping(tiny_trial(train={"graph": how}), digits) for how in ("off", "on"))
    assert all(map(torch.equal, take(eager, sizes), take(recorded, sizes)))
    assert (recorded.recordings, recorded.eager, recorded.replayed) == (2, 2 * EAGER_FIRST, 24 - 2 * EAGER_FIRST)


def test_a_model_that_waits_for_the_device_runs_eagerly_and_says_so_once(
    tiny_trial: TinyTrial, digits: data.Splits, taken: list[Steps]
) -> None:
    eager, recorded = (stepping(tiny_trial(train={"graph": how}), digits) for how in ("off", "auto"))
    for steps in (eager, recorded):
        state, plain = steps.step.state, steps.step.state.model
        state.forward = lambda x, plain=plain: plain(x) * (1.0 if x.sum().item() else 2.0)  # type: ignore[misc]
    with pytest.warns(RuntimeWarning, match="recording failed .*_local_scalar_dense waits") as said:
        found = take(recorded, [8] * 12)
    assert len(said) == 1
    assert all(map(torch.equal, take(eager, [8] * 12), found))
    assert (recorded.recordings, recorded.eager) == (0, 12)


def test_a_method_that_cannot_be_replayed_says_so_once(
    tiny_trial: TinyTrial, digits: data.Splits, tmp_path: Path, taken: list[Steps], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its fine-tuning, by a fixed mask, is recorded."""
    monkeypatch.setattr(ST3, "eager_because", "it draws lots")
    spec = spec_of(tiny_trial, {"method": "st3", "target": 0.8}, "auto")
    with pytest.warns(RuntimeWarning, match="one by one, more slowly: method st3: it draws lots") as said:
        fit(spec, World(), lambda _: False, tmp_path, digits)
    assert len(said) == 1
    assert (taken[0].recordings, taken[0].replayed) == (1, 8 - EAGER_FIRST)


def test_averages_by_gloo_cannot_be_recorded(tiny_trial: TinyTrial, taken: list[Steps]) -> None:
    assert "2 workers average gradients by gloo" in graph.eager_because(tiny_trial(), World(0, 2), Method())
    assert graph.eager_because(tiny_trial(), World(), Method()) == ""


def test_without_a_gpu_training_is_eager(tiny_trial: TinyTrial, digits: data.Splits, tmp_path: Path) -> None:
    """``on`` is refused before a step is taken; ``auto`` says nothing."""
    with pytest.raises(UserError, match=r"train.graph: on needs a GPU, .* use auto or off"):
        fit(tiny_trial(train={"graph": "on"}), World(), lambda _: False, tmp_path, digits)
    assert not list(tmp_path.iterdir())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(tiny_trial(train={"epochs": 1}), World(), lambda _: False, tmp_path, digits)


def test_how_steps_are_taken_is_not_part_of_the_digest(tiny_trial: TinyTrial) -> None:
    assert len({tiny_trial(train={"graph": how}).digest() for how in ("auto", "on", "off")}) == 1


# -- the tape -----------------------------------------------------------------------------------------------------


def test_a_tape_repeats_operations_with_the_numbers_of_its_recording() -> None:
    total, step, host = torch.zeros(2), torch.ones(()), 1.0
    replay = Tape().record(lambda: total.add_(step * host).mul_(2.0))  # type: ignore[arg-type, return-value]
    assert total.tolist() == [0.0, 0.0], "recording does not execute"
    step.fill_(3.0)
    host = 100.0
    replay()
    replay()
    assert total.tolist() == [18.0, 18.0]


def test_a_tape_refuses_what_waits_for_the_device() -> None:
    values = torch.ones(3)
    for wait in (lambda: values.sum().item(), lambda: values[values > 0], lambda: torch.tensor(1.0)):
        with pytest.raises(RuntimeError, match="waits for the device"):
            Tape().record(wait)  # type: ignore[arg-type]
