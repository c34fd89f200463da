"""A method from outside the package, named with --plugin, is swept, stopped, resumed and exported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import safetensors.torch
from programs import PROJECT, ended, epochs_of, program, wait_until

from st3sweep.runs.tables import read_table

PLUGINS = Path(__file__).parents[1] / "plugins"
SPACE = """\
schema: st3sweep/v1
name: toy
trial:
  model: {arch: cifar_resnet, depth: 8, width: 4}
  data: {dataset: digits, image_size: 8, train_limit: 128, validation: 100}
  train: {epochs: 30, batch_size: 32}
  sparsity: {method: toy}
search:
  sparsity.target: {choice: [0.5, 0.9]}
searcher: {sampler: grid}
resources: {workers: 1, cpus_per_worker: 1, slots: 1}
"""


def command(*words: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a command that needs no Ray, without the plugin's folder on the path."""
    done = subprocess.run([sys.executable, "-m", "st3sweep", *words], cwd=PROJECT, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_a_method_of_a_plugin(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    run, plugin = tmp_path / "runs" / "toy", ("--plugin", "toy_method")
    start = ("run", str(tmp_path / "space.yaml"), "--storage", str(tmp_path / "runs"), *plugin)
    with program(*start, PYTHONPATH=str(PLUGINS)) as running:
        wait_until(lambda: epochs_of(run, 0) >= 3, running)
        running.terminate()
        code, output = ended(running)
    assert code == 130, output

    # A machine without the plugin reads the run, and says what a resumption needs.
    code, shown, error = command("status", str(run), "--json")
    assert (code, json.loads(shown)["state"], error) == (0, "interrupted", "")
    assert command("results", str(run))[0] == 0
    code, _, error = command("resume", str(run))
    assert (code, error) == (2, f"st3sweep: {run}: was run with --plugin toy_method; name it again\n")
    code, _, error = command("resume", str(run), *plugin)
    assert code == 2
    assert error.startswith("st3sweep: --plugin toy_method: cannot be imported (ModuleNotFoundError")

    with program("resume", str(run), *plugin, PYTHONPATH=str(PLUGINS)) as running:
        code, output = ended(running)
    assert code == 0, output
    trials = read_table(run, "trials")
    assert trials["status"].to_list() == ["finished", "finished"]
    assert trials["method"].to_list() == ["toy from 0.5"] * 2
    assert read_table(run, "epochs").groupby("trial")["epoch"].apply(list).to_list() == [list(range(1, 31))] * 2
    assert abs(trials["sparsity"] - trials["sparsity_target"]).max() < 2e-3

    exported = ("export", str(run), "1", "--out", str(tmp_path / "model.safetensors"), "--evaluate", *plugin)
    with program(*exported, PYTHONPATH=str(PLUGINS)) as running:
        code, output = ended(running)
    assert code == 0, output
    recorded = trials["val_top1"].to_list()[1]
    assert f"validation {recorded:.2f} %, recorded {recorded:.2f} %" in output
    conv = safetensors.torch.load_file(tmp_path / "model.safetensors")["conv1.weight"]
    assert int((conv == 0).sum()) == int(0.9 * conv.numel())
