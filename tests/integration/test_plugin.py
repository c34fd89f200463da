"""Plugins in a sweep: a method of a module named with --plugin, a model and a dataset of an installed package.

Swept, stopped, looked at where neither is known, resumed and exported.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
from forks import command
from plugin_package import PLUGINS, SPACE, unpacked_wheel
from programs import ended, epochs_of, program, wait_until

import st3sweep
from st3sweep.runs.tables import read_table


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Return a folder that holds the package as it is installed, with its entry points."""
    return unpacked_wheel(tmp_path)


def test_a_sweep_with_plugins(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    (tmp_path / "wrong.yaml").write_text(SPACE.replace("width: 8", "wdth: 8"))
    run, plugin, both = tmp_path / "runs" / "toy", ("--plugin", "toy_method"), f"{PLUGINS}:{installed}"
    code, _, error = command("validate", str(tmp_path / "wrong.yaml"), *plugin, path=both)
    assert code == 2
    assert "wrong.yaml:4:29: model.wdth: unknown field; did you mean model.width?" in error

    start = ("run", str(tmp_path / "space.yaml"), "--storage", str(tmp_path / "runs"), *plugin)
    with program(*start, PYTHONPATH=both) as running:
        wait_until(lambda: epochs_of(run, 0) >= 3, running)
        running.terminate()
        code, output = ended(running)
    assert code == 130, output
    recorded = json.loads((run / "provenance.json").read_text())["plugins"]
    assert set(recorded) == {"arch shapes_net", "dataset shapes", "method toy"}
    assert recorded["arch shapes_net"]["module"] == "st3_shapes.parts"

    # A machine without the plugins reads the run, and says what a resumption needs.
    code, shown, error = command("status", str(run), "--json")
    assert (code, json.loads(shown)["state"], error) == (0, "interrupted", "")
    assert command("results", str(run))[0] == 0
    assert command("pareto", str(run))[0] == 0
    opened = st3sweep.load_run(run)
    assert opened.state == "interrupted"
    assert opened.trials["model"].to_list() == ["shapes_net"]
    code, _, error = command("resume", str(run), path=str(installed))
    assert (code, error) == (2, f"st3sweep: {run}: was run with --plugin toy_method; name it again\n")
    code, _, error = command("resume", str(run), *plugin, path=str(installed))
    assert code == 2
    assert error.startswith("st3sweep: --plugin toy_method: cannot be imported (ModuleNotFoundError")
    code, _, error = command("resume", str(run), *plugin, path=str(PLUGINS))
    missing = "uses the arch shapes_net, which is not registered here; install the plugin st3_shapes.parts"
    assert (code, error) == (2, f"st3sweep: {run}: {missing}\n")
    source = installed / "st3_shapes" / "parts.py"
    before = source.read_text()
    source.write_text(before + "\n# changed\n")
    code, _, error = command("resume", str(run), *plugin, path=both)
    assert code == 2
    assert "the code of the arch shapes_net has changed since the run started (in st3_shapes.parts)" in error
    source.write_text(before)

    with program("resume", str(run), *plugin, PYTHONPATH=both) as running:
        code, output = ended(running)
    assert code == 0, output
    trials = read_table(run, "trials")
    assert trials["status"].to_list() == ["finished", "finished"]
    assert trials["method"].to_list() == ["toy from 0.5"] * 2
    assert read_table(run, "epochs").groupby("trial")["epoch"].apply(list).to_list() == [list(range(1, 31))] * 2
    assert abs(trials["sparsity"] - trials["sparsity_target"]).max() < 0.01  # of 696 weights

    source.write_text(before + "\n# changed\n")
    code, _, error = command("export", str(run), "1", *plugin, path=both)
    assert code == 2
    assert "the code of the arch shapes_net has changed" in error
    assert command("export", str(run), "1", *plugin, "--allow-changed-plugins", path=both)[0] == 0
    source.write_text(before)
    exported = ("export", str(run), "1", "--out", str(tmp_path / "model.safetensors"), "--evaluate", *plugin)
    code, output, error = command(*exported, path=both)
    assert code == 0, error
    top1 = trials["val_top1"].to_list()[1]
    assert f"validation {top1:.2f} %, recorded {top1:.2f} %" in output
    conv = safetensors.torch.load_file(tmp_path / "model.safetensors")["0.weight"]
    assert int((conv == 0).sum()) == int(0.9 * conv.numel())
