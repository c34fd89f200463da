"""Test a plugin package that pip has installed: found by its entry point, and read without once it is gone."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path

import pytest
from plugin_package import SPACE, command, environment, pip, sources
from programs import ended, epochs_of, events, started_process, wait_until

READ = """\
import json, sys
import st3sweep
run = st3sweep.load_run(sys.argv[1])
print(json.dumps([run.state, run.trials["model"].to_list(), run.front()["trial"].to_list(), len(run.epochs)]))
print([name for name in sys.modules if name.partition(".")[0] in ("torch", "ray", "st3_shapes")])
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="pip is not installed in this environment")
def test_a_plugin_that_pip_has_installed(tmp_path: Path) -> None:
    """Train and sweep with its model, dataset and method; uninstall it and read the run; install it and resume."""
    python, package = environment(tmp_path / "environment"), sources(tmp_path)
    install = ("install", "--quiet", "--no-deps", "--no-build-isolation", str(package))
    text = SPACE.replace("method: toy", "method: late")
    (tmp_path / "space.yaml").write_text(text)
    trial = text.partition("trial:\n")[2].partition("search:")[0].replace("late", "late, target: 0.8")
    (tmp_path / "trial.yaml").write_text("\n".join(line[2:] for line in trial.replace("30", "2").splitlines()))

    def st3sweep(*words: str) -> tuple[int, str, str]:
        return command(*words, python=python, folder=tmp_path)

    code, _, error = st3sweep("validate", "space.yaml")
    assert code == 2
    assert "space.yaml:4:11: model.arch: is 'shapes_net', allowed: cifar_resnet, " in error

    pip(python, *install)
    code, said, error = st3sweep("train", "trial.yaml", "--out", "alone", "--device", "cpu")
    assert (code, error) == (0, "")
    assert "best epoch" in said
    run = tmp_path / "runs" / "toy"
    with started_process([str(python), "-m", "st3sweep", "run", "space.yaml"], tmp_path, PYTHONPATH="") as running:
        wait_until(lambda: epochs_of(run, 1) >= 3, running)
        running.terminate()
        code, output = ended(running)
    assert code == 130, output
    recorded = json.loads((run / "provenance.json").read_text())["plugins"]
    assert set(recorded) == {"arch shapes_net", "dataset shapes", "method late"}
    assert {facts["version"] for facts in recorded.values()} == {"1.2"}

    pip(python, "uninstall", "--quiet", "--yes", "st3-shapes")
    code, said, error = st3sweep("results", "runs/toy")
    assert (code, error) == (0, "")
    assert "shapes_net" in said
    code, said, error = st3sweep("pareto", "runs/toy", "--json")
    assert (code, [row["trial"] for row in json.loads(said)], error) == (0, [0], "")
    opened = subprocess.run(
        [python, "-c", READ, run], cwd=tmp_path, env={"PYTHONPATH": ""}, capture_output=True, text=True, check=True
    )
    lines = opened.stdout.splitlines()
    assert json.loads(lines[0])[:3] == ["interrupted", ["shapes_net"] * 2, [0]]
    assert lines[1] == "[]"
    missing = "uses the arch shapes_net, which is not registered here; install the plugin st3_shapes.parts"
    assert st3sweep("resume", "runs/toy") == (2, "", f"st3sweep: {run}: {missing}\n")

    pip(python, *install)
    with started_process([str(python), "-m", "st3sweep", "resume", "runs/toy"], tmp_path, PYTHONPATH="") as running:
        code, output = ended(running)
    assert code == 0, output
    assert [event["status"] for event in events(run, "done")] == ["finished", "finished"]
    assert [event["trial"] for event in events(run, "trial")] == [0, 1]
