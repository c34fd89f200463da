"""Own losses and metrics, top-5 accuracy, and the epoch that is best by them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cloudpickle
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import st3sweep
from st3sweep.analysis.fronts import front, pick
from st3sweep.analysis.plots import plot_run
from st3sweep.analysis.tables import front_table
from st3sweep.runs.tables import read_table, write_table
from st3sweep.space.loading import load_space
from st3sweep.sparse.method import Method
from st3sweep.training.columns import is_better
from st3sweep.training.components import components_from_functions, register_from_functions
from st3sweep.training.evaluate import evaluate
from st3sweep.trial.metric import Metric
from st3sweep.trial.model import ModelConfig
from st3sweep.trial.settings import TrialSettings

Train = Callable[..., Any]


@pytest.fixture(autouse=True)
def _models_as_before() -> Iterator[None]:
    before = dict(ModelConfig.registered)
    yield
    ModelConfig.registered.clear()
    ModelConfig.registered.update(before)
    TrialSettings.model_rebuild(force=True)


def images(count: int, seed: int, classes: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    return torch.randn(count, 1, 4, 4, generator=generator) + labels.view(-1, 1, 1, 1), labels


def net(classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, classes))


def train(classes: int = 3, **how: Any) -> Any:
    trial: Mapping[str, Any] = {"train": {"epochs": 4, "batch_size": 16}, "sparsity": {"method": "st3", "target": 0.5}}
    data = images(48, 0, classes), images(25, 1, classes), images(25, 2, classes)
    return st3sweep.train(trial, model=net(classes), data=data, progress=False, **how)


def brier(outputs: Tensor, labels: Tensor) -> Tensor:
    return (outputs.softmax(1) - F.one_hot(labels, outputs.shape[1])).square().sum(1).mean()


def test_a_metric_sees_all_images_at_once() -> None:
    """The largest label of the split: a mean over batches would differ."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    x, y = images(5, 0)
    seen: list[tuple[Tensor, Tensor]] = []
    metric = Metric("seen", lambda outputs, labels: seen.append((outputs, labels)) or 7)
    found = evaluate(model, [], Method(), [(x[:2], y[:2]), (x[2:], y[2:])], metric=metric)
    assert found.metric == 7.0
    ((outputs, labels),) = seen
    with torch.no_grad():
        torch.testing.assert_close(outputs, model(x))
    assert torch.equal(labels, y)
    assert found.top5 is None, "of 20 classes or fewer"


def test_top5_by_hand() -> None:
    """Labels at ranks 1, 2, 5 and 6 of the outputs."""
    outputs = torch.zeros(4, 21)
    for row, rank in enumerate((1, 2, 5, 6)):
        outputs[row] = -torch.arange(21.0)
        outputs[row, rank - 1] = -(rank - 1.0)
    y = torch.tensor([0, 1, 4, 5])
    found = evaluate(nn.Identity(), [], Method(), [(outputs[:3], y[:3]), (outputs[3:], y[3:])], classes=21)
    assert (found.top1, found.top5) == (25.0, 75.0)


@pytest.mark.parametrize(("classes", "there"), [(20, False), (21, True)])
def test_top5_is_a_column_above_20_classes(classes: int, there: bool, tmp_path: Path) -> None:
    trained = train(classes, folder=tmp_path)
    assert (trained.val_top5 is not None) == (trained.test_top5 is not None) == there
    epochs, row = trained.epochs, read_table(tmp_path, "trials").iloc[0]
    assert epochs["val_top5"].notna().all() == there
    if there:
        assert (epochs["val_top5"] >= epochs["val_top1"]).all()
        assert row["val_top5"] == epochs.set_index("epoch").loc[row["best_epoch"], "val_top5"]


def test_an_own_loss_replaces_cross_entropy() -> None:
    plain, same, scaled = train(), train(loss=F.cross_entropy), train(loss=lambda out, y: 3 * F.cross_entropy(out, y))
    for column in ("train_loss", "val_top1"):
        assert plain.epochs[column].tolist() == same.epochs[column].tolist()
    assert same.epochs["val_loss"].tolist() == pytest.approx(plain.epochs["val_loss"].tolist())
    first = (plain.epochs["val_loss"] / scaled.epochs["val_loss"]).tolist()
    assert first != pytest.approx([1 / 3] * 4, abs=1e-3), "larger gradients: other weights"
    assert scaled.epochs["train_loss"][0] > 2 * plain.epochs["train_loss"][0]


@pytest.mark.parametrize("goal", ["max", "min"])
def test_the_best_epoch_is_that_of_the_metric(goal: Any, tmp_path: Path) -> None:
    trained = train(metric=Metric("brier", brier, goal), folder=tmp_path)
    epochs = trained.epochs[trained.epochs["at_target"]].set_index("epoch")
    assert len(epochs) > 1
    assert trained.best_epoch == (epochs["val_brier"].idxmax() if goal == "max" else epochs["val_brier"].idxmin())
    assert trained.metrics["val_brier"] == epochs.loc[trained.best_epoch, "val_brier"]
    row = read_table(tmp_path, "trials").iloc[0]
    assert row["val_brier"] == trained.metrics["val_brier"]
    assert row["test_brier"] == trained.metrics["test_brier"] != row["val_brier"]
    x, y = images(25, 2)
    with torch.no_grad():
        assert float(brier(trained.model(x), y)) == pytest.approx(row["test_brier"], rel=1e-5)


def test_an_epoch_without_a_number_is_never_better() -> None:
    metric = Metric("m", brier, "min")
    nan, one, two = ({"val_m": value} for value in (math.nan, 1.0, 2.0))
    assert is_better(one, two, metric)
    assert is_better(two, nan, metric)
    assert not is_better(nan, two, metric)
    assert not is_better(two, two, metric)


@pytest.mark.parametrize("name", ["top1", "Loss", "", "a b", "top5"])
def test_names_of_metrics_are_checked(name: str) -> None:
    with pytest.raises(ValueError, match="needs a name of small letters"):
        Metric(name, brier)
    with pytest.raises(ValueError, match="goal is 'up'; allowed: max, min"):
        Metric("brier", brier, "up")  # type: ignore[arg-type]


def test_the_code_of_loss_and_metric_is_part_of_the_digest() -> None:
    def hashes(**attached: Any) -> str:
        st3sweep.register_model("mine", net, **attached)
        return ModelConfig.registered["mine"].code

    plain = hashes()
    assert len({plain, hashes(loss=brier), hashes(metric=Metric("a", brier)), hashes(metric=Metric("b", brier))}) == 4
    assert hashes() == plain


def test_loss_and_metric_travel_to_workers() -> None:
    st3sweep.register_model("mine", net, loss=brier, metric=Metric("brier", brier, "min"))
    code = ModelConfig.registered["mine"].code
    sent = cloudpickle.dumps([one for one in components_from_functions() if one[1] == "mine"])
    del ModelConfig.registered["mine"]
    register_from_functions(cloudpickle.loads(sent))
    model = ModelConfig.registered["mine"]
    assert (model.loss, model.metric, model.code) == (brier, Metric("brier", brier, "min"), code)
    assert ModelConfig.parse({"arch": "mine"}).loss is brier, "not bound to the settings"


def test_a_loss_excludes_label_smoothing_and_needs_a_model() -> None:
    with pytest.raises(st3sweep.SpecError, match=r"train\.label_smoothing: has no effect with model .*loss of its own"):
        train(loss=brier, overrides={"train.label_smoothing": 0.1})
    with pytest.raises(st3sweep.UserError, match=r"metric: goes with model=; .* register_model"):
        st3sweep.train({"model": {"arch": "cifar_resnet"}}, metric=Metric("a", brier))


SPACE = """schema: st3sweep/v1
name: own
trial:
  model: {arch: mine}
  data: {dataset: digits}
  sparsity: {method: st3}
search:
  sparsity.target: {choice: [0.5, 0.9]}
searcher: {sampler: grid}
objectives:
  - {metric: val_brier, goal: min}
  - {metric: gflops, goal: min}
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("val_brier", "val_brir", r":11:6: objectives\.0\.metric: is 'val_brir', allowed: .*, val_brier;.*val_brier"),
        ("goal: min}\n", "goal: max}\n", r":11:25: objectives\.0\.goal: is max, but metric brier is better smaller"),
        ("arch: mine", "arch: cifar_resnet", r"objectives\.0\.metric: is 'val_brier', allowed: val_top1, .*seconds$"),
    ],
)
def test_an_objective_must_be_a_metric_of_the_model(old: str, new: str, message: str, tmp_path: Path) -> None:
    st3sweep.register_model("mine", net, metric=Metric("brier", brier, "min"))
    file = tmp_path / "space.yaml"
    file.write_text(SPACE)
    assert load_space(file).config.goals() == [("val_brier", "min"), ("gflops", "min")]
    file.write_text(SPACE.replace(old, new, 1))
    with pytest.raises(st3sweep.SpecError, match=message):
        load_space(file)


def test_fronts_are_of_the_metric_that_was_searched(tmp_path: Path) -> None:
    """By accuracy trials 0 and 2 are on the front, by the error that was minimised 0 and 1."""
    facts = {"status": "finished", "method": "ST-3", "model": "mine", "dataset": "digits", "gflops_dense": 4.0}
    numbers = [(0, 80.0, 0.5, 1.0), (1, 81.0, 0.2, 2.0), (2, 90.0, 0.3, 2.0)]
    rows = [
        {"trial": n, "val_top1": top1, "val_brier": error, "gflops": cost, **facts} for n, top1, error, cost in numbers
    ]
    write_table(tmp_path / "trials.parquet", "trials", rows)
    (tmp_path / "resolved.yaml").write_text(SPACE)
    run = st3sweep.load_run(tmp_path)
    assert run.front()["trial"].tolist() == [0, 1]
    assert run.pick()["trial"] == 1
    assert front(run.trials)["trial"].tolist() == [0, 2]
    assert pick(run.trials)["trial"].tolist() == [2]
    objectives = (("val_brier", "min"), ("gflops", "min"))
    assert "val brier" in front_table(run.trials, objectives).splitlines()[0]
    low, high = plot_run(run.trials, objectives).axes[0].get_ylim()  # type: ignore[arg-type]
    assert 0.1 < low < 0.2 < 0.5 < high < 0.6


def test_tables_keep_metrics_as_numbers(tmp_path: Path) -> None:
    path = tmp_path / "epochs.parquet"
    write_table(path, "epochs", [{"trial": 0, "epoch": 1, "val_f1": 0.5}, {"trial": 1, "epoch": 1}])
    values = read_table(tmp_path, "epochs")["val_f1"]
    assert values[0] == 0.5
    assert pd.isna(values[1])
    with pytest.raises(ValueError, match=r"table epochs has no column \['f1'\]"):
        write_table(path, "epochs", [{"trial": 0, "f1": 0.5}])
