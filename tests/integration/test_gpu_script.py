"""Test the script for a bare GPU machine on a CPU, without the packages that such a machine lacks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BARE = """\
import runpy, sys
from importlib.machinery import PathFinder

class Bare(PathFinder):
    absent = {"ray", "optuna", "PIL", "pyarrow", "pandas", "safetensors", "yaml", "rich", "scipy", "sklearn", "typer"}

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in cls.absent else super().find_spec(name, path, target)

sys.meta_path[:] = [Bare if finder is PathFinder else finder for finder in sys.meta_path]
sys.path.insert(0, sys.argv[1])
sys.argv[:2] = ["gpu.py"]
runpy.run_path(sys.path[0] + "/gpu.py", run_name="__main__")
"""


@pytest.mark.slow
def test_every_part_runs_on_a_bare_machine(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    arguments = [str(ROOT / "benchmarks"), "--device", "cpu", "--quick", "--out", str(out)]
    run = subprocess.run(
        [sys.executable, "-c", BARE, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    found = json.loads(out.read_text())["parts"]
    assert set(found) == {"threshold", "graph", "resume", "out_of_memory", "epoch", "at_once", "step", "parity"}
    assert found["threshold"]["wrong cases"] == 0
    assert found["resume"]["RigL"]["ok"]
    assert found["step"]["ResNet-8, batch 32: ST-3, graph"]["ms"] > 0
    assert found["parity"]["st3-l1"] == {"loss": 0.0, "sparsity": 0.0, "ok": True}


@pytest.mark.slow
def test_a_part_that_fails_leaves_the_others(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    arguments = ["--device", "cpu", "--quick", "--out", str(out), "--parts", "epoch,resume", "--data", str(tmp_path)]
    script = str(ROOT / "benchmarks" / "gpu.py")
    run = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    found = json.loads(out.read_text())["parts"]
    assert "DataError" in found["epoch"]["error"]
    assert found["resume"]["ST-3"]["ok"]
