"""Test the plan that --dry-run prints, for the three shipped spaces."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from wrong_specs import RIGHT

from st3sweep import cli
from st3sweep.commands.plan import plan_text, sample_points
from st3sweep.space.loading import load_space, load_trial
from st3sweep.training import gpu_memory

SPACES = Path(__file__).parents[2] / "search_spaces"
DryRun = Callable[..., tuple[str, str]]


@pytest.fixture
def dry_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> DryRun:
    """Return ``dry_run("quickstart.yaml", "--set", ...)`` -> stdout and stderr, run without data; must exit with 0."""
    monkeypatch.chdir(tmp_path)

    def call(name: str, *arguments: str) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["st3sweep", "run", str(SPACES / name), "--dry-run", *arguments])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        assert exit_.value.code == 0
        assert not Path("runs").exists()
        printed = capsys.readouterr()
        return printed.out, printed.err

    return call


def facts(plan: str) -> dict[str, str]:
    """Return the lines before ``searched`` by their first word, wrapped lines joined."""
    head = re.sub(r"\n +", " ", plan.partition("\n\nsearched\n")[0])
    return dict(line.split(maxsplit=1) for line in head.splitlines())


def test_quickstart(dry_run: DryRun, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    # Sets the fields that the shipped file may change, so that the numbers below can be written by hand.
    tuned = ["model.depth=8", "model.width=8", "data.image_size=16", "train.epochs=20"]
    tuned.append("search.sparsity.target={choice: [0.5, 0.7, 0.98]}")
    plan, stderr = dry_run("quickstart.yaml", *(word for one in tuned for word in ("--set", one)))
    assert stderr == ""
    assert facts(plan) == {
        "sweep": "quickstart",
        "model": "resnet8_w8: 19,464 prunable weights; dense, at 16 pixels: 772,416 multiply-accumulates "
        "(0.772 MFLOPs)",
        "data": "digits: 10 classes; images: 1,200 to train on, 300 to validate, 297 to test",
        "recipe": "paper",
        "precision": "float32",
        "objectives": "val_top1 max, gflops min",
        "sampler": "grid; seed 0",
        "trials": "6, the whole grid; 20 epochs each",
        "disk": "480 kB a running trial; with checkpoints: finished 98.2 kB a trial, 589 kB in all; "
        "front 98.2 kB a trial of the front; all 480 kB a trial, 2.88 MB in all",
        "resources": "1 CPU a trial; 6 at a time on this machine's 6 CPUs",
    }
    assert "\nsearched\n  sparsity.criterion  l1, sigma\n  sparsity.target     0.5, 0.7, 0.98\n" in plan


def test_precision(dry_run: DryRun):
    """On GPUs, auto is bfloat16 where there is hardware for it."""
    on_gpus = ("--set", "resources.gpus_per_worker=1")
    products = "float32, with TF32 products"
    plan, _ = dry_run("quickstart.yaml", *on_gpus)
    assert facts(plan)["precision"] == f"bfloat16 by autocast on GPUs that have it, else {products}"
    plan, _ = dry_run("quickstart.yaml", *on_gpus, "--set", "train.precision=fp32", "--set", "train.deterministic=true")
    assert facts(plan)["precision"] == f"{products}; deterministic algorithms"


@pytest.mark.parametrize(("gpus", "said"), [(0, None), (1, "the GPU: "), (2, "the GPUs: ")])
def test_gpus_that_no_trial_asks_for(dry_run: DryRun, monkeypatch: pytest.MonkeyPatch, gpus: int, said: str | None):
    """A space that names no GPU trains on the CPU, which would go unnoticed."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    plan = facts(dry_run("quickstart.yaml")[0])
    wanted = said and f"trials train on the CPU; to use {said}--set resources.gpus_per_worker=1"
    assert plan.get("GPU") == wanted
    assert "GPU" not in facts(dry_run("quickstart.yaml", "--set", "resources.gpus_per_worker=1")[0])


def test_one_of_a_thing_is_no_plural(dry_run: DryRun, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr(gpu_memory, "measured", lambda *_: gpu_memory.Memory(79_000_000_000, 80_000_000_000))
    words = ["resources.gpus_per_worker=1", "resources.trials_per_gpu=auto", "resources.trials_per_process=1"]
    more = ["train.epochs=1", "early_stopping={name: residual, min_trials: 1, rungs: [0.5, 1]}"]
    plan = facts(dry_run("quickstart.yaml", *(word for setting in words + more for word in ("--set", setting)))[0])
    assert plan["GPU"] == "shared by 1 trial: one takes 79.0 of a GPU's 80.0 GB"
    assert "; new processes after 1 trial;" in plan["resources"]
    assert plan["resources"].endswith("; 1 at a time on this machine's 1 CPU and 1 GPU")
    assert plan["trials"].endswith("; 1 epoch each")
    assert plan["stopping"].endswith("once 1 trial has reached a rung")


def test_trials_per_gpu(dry_run: DryRun, monkeypatch: pytest.MonkeyPatch):
    """Without a GPU the number that is asked for is shown, and ``auto`` is left to the cluster."""
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    on_gpus = ("--set", "resources.gpus_per_worker=1", "--set")
    plan = facts(dry_run("quickstart.yaml", *on_gpus, "resources.trials_per_gpu=4")[0])
    assert plan["resources"].startswith("1 CPU and 1/4 GPU a trial; ")
    plan = facts(dry_run("quickstart.yaml", *on_gpus, "resources.trials_per_gpu=auto")[0])
    assert plan["resources"].startswith("1 CPU and a share of a GPU a trial; ")
    said = "as many trials as its memory holds: decided on the cluster, since this machine has no GPU"
    assert plan["GPU"] == f"shared by {said}"


def test_early_stopping(dry_run: DryRun):
    assert "stopping" not in facts(dry_run("quickstart.yaml")[0])
    plan, _ = dry_run("quickstart.yaml", "--set", "early_stopping={name: residual, min_trials: 5, rungs: [0.5, 1]}")
    rungs = "0.5, 1 of the ramp, then every 0.1 of training"
    said = f"residual: keeps the best 1/2 at {rungs}, once 5 trials have reached a rung"
    assert facts(plan)["stopping"] == said
    plan, _ = dry_run(
        "quickstart.yaml", "--set", "early_stopping.name=asha", "--set", "early_stopping.reduction_factor=3"
    )
    said = "asha: keeps the best 1/3 at 0.25, 0.6 of training, once 8 trials have reached a rung"
    assert facts(plan)["stopping"] == said


def test_cifar10_resnet20_without_its_data(dry_run: DryRun, tmp_path: Path):
    plan, stderr = dry_run("cifar10_resnet20.yaml")
    assert facts(plan)["model"].startswith("resnet20: 270,896 prunable weights; dense, at 32 pixels: 40,813,184 ")
    assert facts(plan)["trials"] == "32; 160 epochs each"
    assert facts(plan)["sampler"] == "tpe, 8 random trials first; seed 0"
    assert "  sparsity.target     0.5 to 0.99, scale log1m\n" in plan
    said = f"cifar10_resnet20.yaml:12:28: data.root: no such folder: {tmp_path}/data/cifar10\n"
    assert stderr.strip("\n") + "\n" == f"not ready to run: {SPACES}/{said}"


def test_mobilenet_without_its_data(dry_run: DryRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    plan, stderr = dry_run("mobilenet.yaml")
    network = "mobilenet_v1: 4,209,088 prunable weights; dense, at 224 pixels: 568,740,352 multiply-accumulates"
    assert facts(plan)["model"].startswith(network)
    assert facts(plan)["trials"] == "96; 100 epochs each"
    many = "as many at a time as a cluster holds; none fits on this machine's 6 CPUs and 0 GPUs"
    assert facts(plan)["resources"] == f"12 CPUs and 1 GPU a trial; {many}"
    lines = re.sub(r"\n {8,}", " ", plan.partition("\n\nsearched\n")[2].partition("\n\n")[0]).splitlines()
    searched = dict(line.split(maxsplit=1) for line in lines)
    assert list(searched) == list(load_space(SPACES / "mobilenet.yaml").config.search)
    condition = "only when optim.weight_decay.kind is with_sparsity or cosine"
    assert searched["optim.weight_decay.final_ratio"] == f"0.001 to 1, scale log; {condition}"
    assert "\n\nconstraints\n  sparsity.ramp.end - sparsity.ramp.start >= 0.2\n" in plan
    said = f"mobilenet.yaml:11:29: data.root: no such folder: {tmp_path}/data/imagenet\n"
    assert stderr.strip("\n") + "\n" == f"not ready to run: {SPACES}/{said}"


@pytest.mark.parametrize("name", ["quickstart.yaml", "cifar10_resnet20.yaml", "mobilenet.yaml"])
def test_lines_are_short_and_columns_aligned(name: str):
    plan = plan_text(load_space(SPACES / name), None)
    lines = plan.splitlines()
    assert max(map(len, lines)) <= 120
    head = lines[: lines.index("searched") - 1]
    assert {re.search(r"^\S+ +(?=\S)|^ +", line).end() for line in head} == {12}
    comments = {line.index("#") for line in lines if "#" in line}
    assert len(comments) == 1


def test_the_trial_says_where_each_value_comes_from(dry_run: DryRun):
    plan, _ = dry_run("quickstart.yaml", "--set", "optim.lr=0.3", "--set", "seed=5")
    trial = plan.partition("complete\n")[2]
    for field, note in {
        "lr: 0.3": "--set", "momentum: 0.9": "recipe", "milestones: [0.5, 0.75]": "recipe", "soft: true": "default",
        "padding: 1": "default", "seed: 5": "the sweep's",
    }.items():  # fmt: skip
        assert re.search(rf"^ +{re.escape(field)} +# {note}$", trial, re.MULTILINE), field
    assert re.search(r"^ +target: 0\.\d+ +# searched$", trial, re.MULTILINE)
    assert re.search(r"^ +epochs: \d+$", trial, re.MULTILINE)  # as the file says: no comment


def test_the_trial_can_be_saved_and_loaded(dry_run: DryRun):
    plan, _ = dry_run("quickstart.yaml")
    Path("trial.yaml").write_text(plan.partition("complete\n")[2])
    space = load_space(SPACES / "quickstart.yaml")
    assert load_trial("trial.yaml") == space.trial_for(sample_points(space)[0])


def test_numbers_of_trials(tmp_path: Path):
    def count(**overrides: str) -> int | None:
        targets = {"search.sparsity.target": "{choice: [0.5, 0.6, 0.7]}"}
        return load_space(SPACES / "quickstart.yaml", targets | overrides).expected_trials()

    assert count() == 6
    assert count(**{"budget.trials": "5"}) == 5
    assert count(**{"budget.trials": "50"}) == 6
    assert count(**{"sparsity.criterion": "l1"}) == 3
    assert count(searcher="{sampler: random}", **{"budget.trials": "50"}) == 50


def test_all_searched_models_and_lengths_are_listed(tmp_path: Path):
    text = RIGHT.replace("depth: 8, ", "").replace("    epochs: 20\n", "")
    text = text.replace("search:\n", "search:\n  model.depth: {choice: [8, 14]}\n  train.epochs: {int: [10, 30]}\n")
    (tmp_path / "space.yaml").write_text(text.replace("workers: 1", "workers: 2"))
    plan = plan_text(load_space(tmp_path / "space.yaml"), None)
    assert "model       resnet8_w8\n" in plan
    assert "model       resnet14_w8\n" in plan
    assert "trials      8; 10 to 30 epochs each\n" in plan
    assert "resources   2 workers a trial, 1 CPU each; " in plan


def test_budget_and_replicates_are_listed(tmp_path: Path):
    text = RIGHT.replace("budget: {trials: 8}", "budget: {wall: 72h, money: 50, price_per_device_hour: 0.5}")
    (tmp_path / "space.yaml").write_text(f"{text}replicates: {{seeds: 4, near: 0.5}}\n")
    plan = facts(plan_text(load_space(tmp_path / "space.yaml"), None))
    assert plan["trials"] == "as many as the budget allows; 20 epochs each"
    assert (
        plan["budget"]
        == "at most 72h of wall time, 50 in money at 0.5 an hour of a CPU; 25% of it reserved for replicates"
    )
    assert plan["replicates"] == ("4 seeds, the first included, for trials on the front or at most 0.5 points below it")
