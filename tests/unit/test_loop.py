"""Test ``fit`` on a few digits: the best epoch, the use of the test set, resuming, and failures."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import pytest
import torch
from make_methods import st3
from torch import Tensor, nn

from st3sweep import data
from st3sweep.data.batches import eval_batches
from st3sweep.data.images import ArrayImages
from st3sweep.data.own import own_splits
from st3sweep.networks import build_model
from st3sweep.runs.tables import EPOCHS, LAYERS, TRIALS
from st3sweep.runs.trial_state import finite_values
from st3sweep.space.config import Objective
from st3sweep.sparse.method import prunable
from st3sweep.training import checkpoint
from st3sweep.training.checkpoint import load, previous
from st3sweep.training.evaluate import evaluate
from st3sweep.training.loop import Diverged, fit, start
from st3sweep.training.saver import BEST, LAST
from st3sweep.training.world import World
from st3sweep.trial.data import DataConfig
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.errors import UserError
from st3sweep.util.storage.local import Local

TinyTrial = Callable[..., TrialSettings]
Record = dict[str, Any]


class Watched(ArrayImages):
    """Images that record the number of reported epochs at each access."""

    def __init__(self, images: ArrayImages, records: list[Record]):
        super().__init__(images.on(images.labels.device).numpy(), images.labels.numpy(), images.sample_ids.numpy())
        self.records = records
        self.looks: list[int] = []

    def fetch(self, indices: Tensor, seed: int, epoch: int, train: bool) -> Tensor:
        self.looks.append(len(self.records))
        return super().fetch(indices, seed, epoch, train)


class Finished(NamedTuple):
    """A finished trial, with its records and files."""

    result: Record
    records: list[Record]
    test: Watched
    folder: Path


@pytest.fixture(scope="module")
def spec(tiny_trial: TinyTrial) -> TrialSettings:
    return tiny_trial(train={"epochs": 5, "finetune_epochs": 1})


@pytest.fixture(scope="module")
def finished(spec: TrialSettings, digits: data.Splits, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    records: list[Record] = []
    test = Watched(digits.test, records)  # type: ignore[arg-type]
    splits = data.Splits(digits.train, digits.validation, test, digits.num_classes, digits.mean, digits.std)
    folder = tmp_path_factory.mktemp("fit")
    result = fit(spec, World(), lambda record: bool(records.append(record)), folder, splits)  # type: ignore[func-returns-value]
    return Finished(result, records, test, folder)


def collect(
    spec: TrialSettings, folder: Path, splits: data.Splits, until: int | None = None
) -> tuple[Record, list[Record]]:
    """Return result and records of ``fit``, stopped after epoch ``until``."""
    records: list[Record] = []

    def report(record: Record) -> bool:
        records.append(record)
        return record["epoch"] == until

    return fit(spec, World(), report, folder, splits), records


def timeless(record: Record) -> Record:
    return {key: value for key, value in record.items() if key not in ("seconds", "wall_seconds")}


def test_records_and_result_have_the_columns_of_the_tables(finished: Finished) -> None:
    result, records, _, _ = finished
    assert {"trial", *records[0]} == set(EPOCHS.names)
    assert {"trial", *result["layers"][0]} == set(LAYERS.names)
    assert set(result) - {"layers", "val_loss"} <= set(TRIALS.names)
    assert [record["epoch"] for record in records] == [1, 2, 3, 4, 5, 6]
    assert [record["progress"] for record in records] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])
    layers = result["layers"]
    mean = sum(layer["numel"] * layer["threshold"] for layer in layers) / sum(layer["numel"] for layer in layers)
    assert records[result["best_epoch"] - 1]["threshold"] == pytest.approx(mean) != 0
    assert (result["status"], result["epochs"]) == ("finished", 6)


def test_the_result_has_every_objective_that_a_space_may_name(finished: Finished) -> None:
    result, records, _, _ = finished
    metrics = get_args(Objective.model_fields["metric"].annotation)
    assert finite_values(result, list(metrics)) is not None
    assert result["val_loss"] == records[result["best_epoch"] - 1]["val_loss"]


def test_final_gflops_and_ramp_of_each_epoch(
    tiny_trial: TinyTrial, digits: data.Splits, finished: Finished, tmp_path: Path
) -> None:
    """The recipe's ramp is from epoch 5 to 80 of 160, here 0.15625 to 2.5 of five; then one epoch of fine-tuning."""
    records = finished.records
    found = [record["ramp_progress"] for record in records]
    left = (1.5 / 2.34375, 0.5 / 2.34375)  # of the ramp's time
    assert found == pytest.approx([1 - left[0] ** 3, 1 - left[1] ** 3, 1, 1, 1, 1])
    assert all((record["gflops_final"] == record["gflops"]) == record["at_target"] for record in records)
    for record in records[:2]:
        assert record["gflops_final"] < record["gflops"]
        assert record["gflops_final"] == pytest.approx(records[2]["gflops"], rel=0.2), "later epochs change little"
    _, records = collect(tiny_trial(sparsity={"method": "dense"}, train={"epochs": 1}), tmp_path, digits)
    assert records[0]["ramp_progress"] is None
    assert records[0]["gflops_final"] == records[0]["gflops"]


def test_a_budget_is_the_final_gflops_from_the_first_epoch(
    tiny_trial: TinyTrial, digits: data.Splits, tmp_path: Path
) -> None:
    spec = tiny_trial(sparsity={"target": None, "ramp": {"start": 0.5, "end": 0.9}}, gflops={"target": 1e-5})
    _, records = collect(spec, tmp_path, digits)
    assert [record["ramp_progress"] for record in records] == pytest.approx([0, 1 - (7 / 12) ** 3, 1])
    assert [record["gflops_final"] for record in records] == pytest.approx([1e-5] * 3, rel=0.01)
    assert records[0]["gflops"] > 2e-5


def test_the_best_epoch_is_one_at_the_target(finished: Finished) -> None:
    result, records, _, _ = finished
    assert [record["at_target"] for record in records] == [False, False, True, True, True, True]
    assert all(record["sparsity"] == pytest.approx(0.8, abs=1e-3) for record in records[2:])
    assert [record["ratio"] for record in records[2:]] == [0.8] * 4
    at_target = [record for record in records if record["at_target"]]
    best = next(record for record in records if record["epoch"] == result["best_epoch"])
    assert best in at_target
    assert best["val_top1"] == max(record["val_top1"] for record in at_target) == result["val_top1"]


def test_weight_decay_falls_with_the_scheduled_sparsity(
    tiny_trial: TinyTrial, digits: data.Splits, tmp_path: Path
) -> None:
    """An epoch records that of its last step, by the sparsity before it: after 3, 7 and 11 steps of a ramp of nine."""
    decay = {"kind": "with_sparsity", "value": 1e-3, "final_ratio": 0.1}
    sparsity = {"method": "st3", "target": 0.8, "ramp": {"start": 0.0, "end": 0.75}}
    spec = tiny_trial(sparsity=sparsity, optim={"weight_decay": decay}, train={"finetune_epochs": 1})
    _, records = collect(spec, tmp_path, digits)
    shares = [1 - (1 - 3 / 9) ** 3, 1 - (1 - 7 / 9) ** 3, 1, 1]
    assert [record["weight_decay"] for record in records] == pytest.approx([1e-3 * (1 - 0.9 * s) for s in shares])
    decays = [group["weight_decay"] for group in load(Local(tmp_path), LAST)["optimizer"]["param_groups"]]
    assert decays == [pytest.approx(1e-4), 0], "neither biases nor batch norm decay"


def test_an_epoch_before_the_target_is_never_the_best(
    tiny_trial: TinyTrial, digits: data.Splits, tmp_path: Path
) -> None:
    """At the target almost no weights are left: every earlier epoch is better."""
    spec = tiny_trial(sparsity={"target": 0.995, "ramp": {"start": 0.9, "end": 1.0}})
    result, records = collect(spec, tmp_path, digits)
    assert max(record["val_top1"] for record in records[:-1]) > records[-1]["val_top1"] == result["val_top1"]
    assert result["best_epoch"] == 3


def test_sparsity_and_gflops_are_those_of_the_best_epoch(finished: Finished) -> None:
    result, records, _, folder = finished
    best, layers = records[result["best_epoch"] - 1], result["layers"]
    assert (result["gflops"], result["sparsity"]) == (best["gflops"], best["sparsity"])
    numel = sum(layer["numel"] for layer in layers)
    assert result["sparsity"] == pytest.approx(1 - sum(l["numel"] * l["density"] for l in layers) / numel)  # noqa: E741
    assert result["gflops"] == pytest.approx(sum(layer["macs"] for layer in layers) / 1e9)
    assert result["gflops_dense"] == pytest.approx(sum(layer["macs_dense"] for layer in layers) / 1e9)
    assert all(layer["macs"] == layer["macs_dense"] * layer["density"] for layer in layers)
    assert [layer["position"] for layer in layers] == list(range(10))
    assert layers[0]["shape"] == "4x1x3x3"
    weights, taus = load(Local(folder), BEST)["model"], [layer["threshold"] for layer in layers]
    counted = [
        int((weights[f"{layer['layer']}.weight"].abs() > tau).sum()) for layer, tau in zip(layers, taus, strict=True)
    ]
    if result["best_epoch"] <= 5:  # before the mask is fixed, when there are thresholds
        assert [layer["density"] * layer["numel"] for layer in layers] == pytest.approx(counted)


def test_the_test_set_is_read_once_and_at_the_end(finished: Finished) -> None:
    result, records, test, _ = finished
    assert test.looks == [len(records)]  # its 297 images are one batch
    assert 0 <= result["test_top1"] <= 100


def test_no_test_set_no_test_accuracy(tiny_trial: TinyTrial, digits: data.Splits, tmp_path: Path) -> None:
    splits = data.Splits(digits.train, digits.validation, None, digits.num_classes, digits.mean, digits.std)
    result, _ = collect(tiny_trial(train={"epochs": 1}), tmp_path, splits)
    assert (result["status"], result["test_top1"]) == ("finished", None)


def test_the_test_accuracy_is_that_of_the_best_epoch(
    tiny_trial: TinyTrial, digits: data.Splits, tmp_path: Path
) -> None:
    """With the validation images as test set, both accuracies are equal, after fine-tuning too."""
    splits = data.Splits(
        digits.train, digits.validation, digits.validation, digits.num_classes, digits.mean, digits.std
    )
    best_epochs = set()
    for lr in (1e-6, 0.3):  # fine-tuning without and with an effect
        spec = tiny_trial(train={"epochs": 4, "finetune_epochs": 2, "finetune_lr": lr})
        result, _ = collect(spec, tmp_path / str(lr), splits)
        assert result["test_top1"] == result["val_top1"]
        best_epochs.add(result["best_epoch"])
    assert min(best_epochs) <= 4


def test_fine_tuning_fixes_the_zeros(finished: Finished) -> None:
    _, records, _, folder = finished
    assert records[5]["gflops"] == records[4]["gflops"]
    assert records[5]["lr"] == pytest.approx(1e-3)
    masks = load(Local(folder), LAST)["method"]["fixed_masks"]
    zeros = sum(int((~mask).sum()) for mask in masks)
    assert zeros / sum(mask.numel() for mask in masks) == pytest.approx(records[4]["sparsity"])


def test_a_trial_resumed_after_its_end_only_reports_again(
    spec: TrialSettings, digits: data.Splits, finished: Finished
) -> None:
    result, records, _, folder = finished
    before = (folder / LAST).read_bytes()
    again, reported = collect(spec, folder, digits)
    assert reported == records
    assert timeless(again) == timeless(result)
    assert (folder / LAST).read_bytes() == before


@pytest.mark.parametrize(("kept_bytes", "until"), [(0, 3), (1000, 4)])
def test_a_damaged_checkpoint_costs_one_epoch(
    spec: TrialSettings,
    digits: data.Splits,
    finished: Finished,
    tmp_path: Path,
    kept_bytes: int,
    until: int,
) -> None:
    _, first = collect(spec, tmp_path, digits, until=3)
    last = tmp_path / LAST
    last.write_bytes(last.read_bytes()[:kept_bytes])
    with pytest.warns(RuntimeWarning, match=f"{last}: truncated or altered"):
        _, second = collect(spec, tmp_path, digits, until=until)
    assert [record["epoch"] for record in first] == [1, 2, 3]
    assert [record["epoch"] for record in second] == list(range(1, until + 1))
    epochs = [load(Local(tmp_path), name)["epoch"] for name in (LAST, previous(LAST))]
    assert epochs == [until, until - 1], "the damaged one is gone"
    result, records = collect(spec, tmp_path, digits)
    assert [timeless(record) for record in records] == [timeless(record) for record in finished.records]
    assert timeless(result) == timeless(finished.result)


def test_a_trial_whose_checkpoints_are_all_damaged_restarts(
    spec: TrialSettings, digits: data.Splits, tmp_path: Path
) -> None:
    _, first = collect(spec, tmp_path, digits, until=2)
    for file in (tmp_path / LAST, tmp_path / previous(LAST)):
        file.write_bytes(b"")
    with pytest.warns(RuntimeWarning, match="truncated or altered"):
        _, second = collect(spec, tmp_path, digits, until=2)
    assert [timeless(record) for record in second] == [timeless(record) for record in first]


def test_a_loss_that_is_not_finite_ends_the_trial(tiny_trial: TinyTrial, digits: data.Splits, tmp_path: Path) -> None:
    spec = tiny_trial(optim={"lr": 1e9, "clip_norm": None, "schedule": {"kind": "cosine", "warmup": 0.99}})
    with pytest.raises(Diverged, match=r"the training loss is (nan|inf) in epoch 1$"):
        collect(spec, tmp_path, digits)
    assert not list(tmp_path.iterdir()), "a diverged state is not saved"


def test_weight_decay_acts_on_conv_and_linear_weights_only(
    tiny_trial: TinyTrial, digits: data.Splits, tmp_path: Path
) -> None:
    """In a step with almost no gradient, decayed parameters are halved, and the rest stays."""
    decay = {"kind": "constant", "value": 5e5}
    optim = {"lr": 1e-6, "clip_norm": 1e-6, "schedule": {"kind": "cosine"}, "weight_decay": decay}
    spec = tiny_trial(optim=optim, train={"epochs": 1, "batch_size": 128}, sparsity={"method": "dense"})
    torch.manual_seed(spec.seed)
    before = build_model(spec.model, digits.num_classes, 1).state_dict()
    collect(spec, tmp_path, digits)
    for name, after in load(Local(tmp_path), LAST)["model"].items():
        if "running" not in name and "tracked" not in name:
            decayed = after.dim() > 1
            torch.testing.assert_close(after, before[name] * (0.5 if decayed else 1.0), rtol=1e-5, atol=1e-6)


def test_evaluation_by_hand() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False), nn.Dropout(0.99))
    weights = [model[1].weight]
    with torch.no_grad():
        weights[0].copy_(torch.tensor([[3.0, 0.1], [-0.1, 1.0]]))
    method = st3(weights, target=0.5, soft=False, rescale=False)
    method.refresh(1.0, weights)  # leaves [[3, 0], [0, 1]]
    x, y = torch.tensor([[[1.0, 1.0]], [[0.0, 1.0]], [[1.0, 4.0]]]), torch.tensor([0, 1, 0])
    losses = [math.log(1 + math.exp(-2)), math.log(1 + math.exp(-1)), math.log(1 + math.exp(1))]
    for mode in (True, False):
        model.train(mode)
        loss, top1, *_ = evaluate(model, weights, method, [(x[:2], y[:2]), (x[2:], y[2:])])
        assert loss == pytest.approx(sum(losses) / 3)
        assert top1 == pytest.approx(200 / 3)
        assert model.training == mode


@pytest.mark.long
def test_learning_happens(tiny_trial: TinyTrial, digits: data.Splits, tmp_path: Path) -> None:
    """On 600 digits a pruned model is far above chance after five epochs."""
    spec = tiny_trial(data={"train_limit": 600}, model={"width": 8}, train={"epochs": 5}, sparsity={"target": 0.5})
    result, records = collect(spec, tmp_path, data.load(spec.data))
    assert result["val_top1"] > 40
    assert records[-1]["train_loss"] < records[0]["train_loss"]
    assert np.isfinite(result["test_top1"])


def test_the_checkpoint_has_the_plain_keys_of_the_model(finished: Finished) -> None:
    *_, folder = finished
    keys = checkpoint.load(Local(folder), BEST)["model"]
    assert {"conv1.weight", "stage2.0.shortcut.0.weight", "fc.weight", "fc.bias"} <= set(keys)
    assert not [key for key in keys if "parametrizations" in key or "_orig" in key or "mask" in key]


def test_recalibrated_statistics_are_those_of_the_result(
    tiny_trial: TinyTrial, digits: data.Splits, tmp_path: Path
) -> None:
    """Accuracies and the exported file are of the model with recomputed statistics."""
    plain, _ = collect(tiny_trial(), tmp_path / "plain", digits)
    spec = tiny_trial(train={"bn_recalibration": 2})
    result, _ = collect(spec, tmp_path / "anew", digits)
    assert (result["best_epoch"], result["sparsity"]) == (plain["best_epoch"], plain["sparsity"])
    old, new = (load(Local(tmp_path / name), BEST) for name in ("plain", "anew"))
    for name, tensor in new["model"].items():
        counted = "running" in name or "num_batches" in name
        assert torch.equal(tensor, old["model"][name]) != counted, name
    model = build_model(spec.model, digits.num_classes, 1)
    model.load_state_dict(new["model"])
    weights = list(prunable(model).values())
    method = st3(weights, target=0.8)
    method.load_state_dict(new["method"])
    for name, images in (("val_top1", digits.validation), ("test_top1", digits.test)):
        batches = eval_batches(images, digits, batch_size=512, rank=0, size=1, device="cpu")
        assert evaluate(model, weights, method, batches)[1] == result[name]
    again, _ = collect(spec, tmp_path / "anew", digits)
    assert timeless(again) == timeless(result), "a crash after the file was written changes nothing"


def test_one_value_per_channel_is_an_error_of_a_line(tiny_trial: TinyTrial, digits: data.Splits) -> None:
    """MobileNet's last stage has one pixel for images of 32: a batch of one image leaves batch norm a single value."""
    images = torch.zeros(8, 1, 32, 32, dtype=torch.uint8), torch.arange(8) % 2
    splits = own_splits((images, images, None), DataConfig(dataset="own"))
    small: dict[str, Any] = {"model": {"arch": "mobilenet_v1", "width": 0.25, "stem_stride": 2}}
    trial = tiny_trial(**small, data={"image_size": 32}, train={"batch_size": 1})
    with pytest.raises(UserError, match=r"^train\.batch_size: 1: 1 image a worker gives a batch norm one value"):
        start(trial, World(), splits)
    start(tiny_trial(**small, data={"image_size": 32}, train={"batch_size": 2}), World(), splits)
    start(tiny_trial(train={"batch_size": 1}), World(), digits)  # its last stage has four pixels
