"""Test that two ranks, in separate processes, agree with one in numbers, decisions and resumption."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import two_ranks
from compare import flat, timeless
from filelock import FileLock
from settings import METHODS
from small_training import same, sparse_of, trained
from torch import Tensor
from torch.func import functional_call

from st3sweep import data
from st3sweep.data.batches import train_batches
from st3sweep.networks import build_model
from st3sweep.sparse.method import prunable
from st3sweep.sparse.methods import build_method
from st3sweep.training import checkpoint
from st3sweep.training.optim import build_optimizer, optimisation_step
from st3sweep.training.saver import BEST, LAST
from st3sweep.trial.rates import learning_rate
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.storage.local import Local

TinyTrial = Callable[..., TrialSettings]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all pytest processes of this run share."""
    own = tmp_path_factory.getbasetemp()
    return (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "ranks"


@pytest.fixture(scope="session")
def ranks(tiny_trial: TinyTrial, folder: Path) -> list[dict[str, Any]]:
    """Return the results of the two ranks: the first process that asks runs them, the others wait."""
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "lock"):
        if not (folder / "ended").exists():
            run_ranks(tiny_trial, folder)
            (folder / "ended").touch()
    return two_ranks.results(2, folder)


def run_ranks(tiny_trial: TinyTrial, folder: Path) -> None:
    small = {name: tiny_trial(sparsity=sparsity) for name, sparsity in METHODS}
    whole = {"st3": tiny_trial(train={"finetune_epochs": 1}), "one epoch": one_epoch(tiny_trial)}
    whole["calibrated"] = tiny_trial(sparsity={"method": "str", "target": 0.7, "calibrate": {"runs": 2}})
    two_ranks.run(small, whole, with_dropout(tiny_trial), folder)


def one_epoch(tiny_trial: TinyTrial) -> TrialSettings:
    return tiny_trial(train={"epochs": 1}, sparsity={"ramp": {"start": 0.0, "end": 0.8}})


def with_dropout(tiny_trial: TinyTrial) -> TrialSettings:
    return tiny_trial(model={"arch": "wide_resnet", "depth": 10, "width": 1, "dropout": 0.3}, train={"epochs": 2})


@pytest.mark.parametrize("name", [name for name, _ in METHODS])
def test_two_ranks_agree_with_each_other_and_with_one(
    tiny_trial: TinyTrial, ranks: list[dict[str, Any]], name: str
) -> None:
    alone = trained(tiny_trial(sparsity=dict(METHODS)[name]))
    for kind, expected in (("dense", alone.weights), ("sparse", sparse_of(alone))):
        first, second = (rank[name][kind] for rank in ranks)
        assert same(first, second)
        for found, weight in zip(first, expected, strict=True):
            torch.testing.assert_close(found, weight.detach(), rtol=1e-9, atol=1e-14)
            assert torch.equal(found != 0, weight != 0)


@pytest.mark.parametrize("name", [name for name, _ in METHODS])
def test_averages_during_the_pass_train_as_averages_after_it(ranks: list[dict[str, Any]], name: str) -> None:
    for rank in ranks:
        for kind in ("dense", "sparse", "other"):
            assert same(rank[f"in buckets: {name}"][kind], rank[name][kind])


def test_averages_do_not_depend_on_the_messages(ranks: list[dict[str, Any]]) -> None:
    check_averages(ranks)


@pytest.mark.slow
def test_averages_of_three_ranks_do_not_depend_on_the_messages(tmp_path: Path) -> None:
    """Gloo adds three numbers in an order that depends on their places in a message."""
    two_ranks.start(3, two_ranks.averages_of_rank, tmp_path)
    check_averages(two_ranks.results(3, tmp_path))


def check_averages(ranks: list[dict[str, Any]]) -> None:
    """Check averages bit by bit, also of accumulated passes; a frozen parameter and an unused one have no gradient."""
    for rank in ranks:
        for passes, averages in rank["averages"].items():
            after = averages.pop(None)
            assert [position for position, gradient in enumerate(after) if gradient is None] == [
                0,
                *[1] * (passes == 1),
            ]
            for found in averages.values():
                assert all((a is b is None) or torch.equal(a, b) for a, b in zip(found, after, strict=True))
    for first, second in zip(*(rank["averages"].values() for rank in ranks[:2]), strict=True):
        for one, other in zip(first.values(), second.values(), strict=True):
            assert all((a is b is None) or torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_last_layers_are_sent_before_the_first_ones_have_gradients(ranks: list[dict[str, Any]]) -> None:
    """In the same order on all ranks; a message waits for those before it, and one without a gradient to the end."""
    for rank in ranks:
        events = rank["events"][2000]
        assert [event for event in events if event.startswith(("sent", "end"))] == [
            *("sent 3", "sent 900", "sent 300", "sent 90000", "sent 300", "sent 1500", "sent 3"),
            "end of the pass",
        ]
        place = events.index("sent 3")
        assert place < events.index("sent 90000") < events.index("first.weight")
        assert place > max(map(events.index, ("last.bias", "scale")))
        assert rank["events"][1 << 30][-3:] == ["end of the pass", "sent 93003", "sent 3"]


def test_a_pass_that_fails_leaves_no_trace(ranks: list[dict[str, Any]]) -> None:
    assert [rank["after an error"] for rank in ranks] == [True, True]


def test_an_error_of_one_rank_is_known_to_all(ranks: list[dict[str, Any]]) -> None:
    other = "UserError('on another rank: ValueError: a file')"
    assert [rank["errors"] for rank in ranks] == [[other, "None"], ["ValueError('a file')", "None"]]


def test_two_ranks_report_the_same_and_rank_0_decides_when_to_stop(ranks: list[dict[str, Any]]) -> None:
    first, second = (rank["st3"] for rank in ranks)
    assert [record["epoch"] for record in first["records"]] == [1, 2, 3, 4]
    assert timeless(first["records"]) == timeless(second["records"])
    assert first["result"]["status"] == "finished"
    assert timeless(first["result"]) == timeless(second["result"])


def test_two_ranks_find_the_same_start_value(ranks: list[dict[str, Any]]) -> None:
    first, second = (rank["calibrated"] for rank in ranks)
    assert first["result"]["layers"][0]["threshold"] > 0
    assert timeless(first["result"]) == timeless(second["result"])


def test_two_ranks_resume_within_an_epoch_to_the_bit(ranks: list[dict[str, Any]], folder: Path) -> None:
    """Each rank has its own generator, which dropout uses, and its own batch-norm statistics."""
    assert [rank["interruptions"] for rank in ranks] == [2, 2]
    for name in (LAST, BEST):
        a, b = (checkpoint.load(Local(folder / kind), name) for kind in ("dropout", "dropout in pieces"))
        assert flat(a) == flat(b)
    first, second = (rank["generator seed"] for rank in ranks)
    assert first != second, "dropout would drop the same channels on all ranks"


def test_two_ranks_average_the_statistics_of_batch_norm(
    tiny_trial: TinyTrial, ranks: list[dict[str, Any]], folder: Path, digits: data.Splits
) -> None:
    """They equal those of one rank that runs both half-batches, with separate running statistics."""
    spec = one_epoch(tiny_trial)
    torch.manual_seed(spec.seed)
    model = build_model(spec.model, digits.num_classes, 1)
    weights = list(prunable(model).values())
    optimizer = build_optimizer(model, weights, spec)
    method = build_method(spec, weights, [1.0] * len(weights))
    own = [{name: buffer.clone() for name, buffer in model.named_buffers()} for _ in range(2)]
    settings: dict[str, Any] = {"seed": spec.seed, "epoch": 0, "batch_size": spec.train.batch_size, "device": "cpu"}
    shares = [train_batches(digits, spec.data, rank=rank, size=2, **settings) for rank in range(2)]

    def half(rank: int, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(model, own[rank], (x,)), y) / 2

    for step, batches in enumerate(zip(*shares, strict=True)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(spec, step, 4)
        optimizer.param_groups[0]["weight_decay"] = 1e-4
        optimisation_step(
            model,
            weights,
            method,
            optimizer,
            lambda batches=batches: half(0, *batches[0]) + half(1, *batches[1]),  # type: ignore[misc]
            progress=(step + 1) / 4,
            clip_norm=spec.optim.clip_norm,
        )
    saved = checkpoint.load(Local(folder / "one epoch"), LAST)["model"]
    assert not torch.allclose(own[0]["bn1.running_mean"], own[1]["bn1.running_mean"], rtol=1e-2)
    for name, found in saved.items():
        expected = (own[0][name] + own[1][name]) / 2 if name in own[0] else model.state_dict()[name]
        torch.testing.assert_close(found, expected.to(found.dtype), rtol=1e-3, atol=1e-5, msg=name)
