"""Test a sweep where the folder for temporary files is too long for the paths of Ray's sockets, as under Slurm."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from programs import check_nothing_lost, ended, program

from st3sweep.util.sockets import MOST_CHARACTERS

SPACE = """\
schema: st3sweep/v1
name: long
trial:
  model: {arch: cifar_resnet, depth: 8, width: 4}
  data: {dataset: digits, image_size: 8, train_limit: 256}
  train: {epochs: 2, batch_size: 64}
  sparsity: {method: st3, target: 0.8}
search:
  optim.lr: {choice: [0.1, 0.05]}
searcher: {sampler: grid}
resources: {slots: 1}
"""


@pytest.mark.slow
def test_a_sweep_with_a_long_tmpdir(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    long = tmp_path / ("scratch" * 9) / ("job" * 15)
    long.mkdir(parents=True)
    assert len(os.fsencode(long)) > MOST_CHARACTERS
    with program(
        "run", str(tmp_path / "space.yaml"), "--storage", str(tmp_path / "runs"), TMPDIR=str(long), RAY_TMPDIR=""
    ) as running:
        code, output = ended(running)
    assert code == 0, output
    said = "Ray's temporary files are in /tmp/ray: TMPDIR is too long for the paths of its sockets\n"
    assert output.count(said) == 1
    assert "Pareto front" in output
    assert "Traceback" not in output
    assert not list(long.glob("ray*"))
    check_nothing_lost(tmp_path / "runs" / "long", tmp_path / "alone", dict.fromkeys(range(2), "finished"))
