"""A run that version 0.1 was stopped in is resumed to its end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from programs import ended, program

from st3sweep.runs.tables import read_table

RUN = Path(__file__).parents[1] / "data" / "run_0_1"


def test_resume(tmp_path: Path) -> None:
    run = Path(shutil.copytree(RUN, tmp_path / "earlier"))
    with program("resume", str(run)) as running:
        code, output = ended(running)
    assert code == 0, output
    trials, expected = read_table(run, "trials"), json.loads((RUN / "resumed.json").read_text())
    same = ["trial", "status", "digest", "method", "model", "seed", "epochs"]  # training differs from CPU to CPU
    assert trials[same].to_dict("records") == [{name: row[name] for name in same} for row in expected]
    for row, before in zip(trials.to_dict("records")[:2], expected, strict=False):
        assert {name: row[name] for name in ("val_top1", "test_top1", "gflops", "sparsity")}.items() <= before.items()
    assert trials["sparsity"].to_list() == pytest.approx([row["sparsity"] for row in expected], abs=1e-3)
    epochs = read_table(run, "epochs")
    assert epochs[epochs["trial"] == 2]["epoch"].to_list() == list(range(1, 13))
    assert "early_stopping:" in (run / "resolved.yaml").read_text()
