"""A run made by version 0.1 is still read: tables, front, status, export, and as a warm start."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from test_cli import st3sweep

from st3sweep.commands.reading import read_space
from st3sweep.export.model_file import load_exported
from st3sweep.runs.ledger import Ledger
from st3sweep.sweep.warm_start import EarlierRuns
from st3sweep.trial.recipes import resolve

RUN = Path(__file__).parents[1] / "data" / "run_0_1"
RESUMED = json.loads((RUN / "resumed.json").read_text())


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RUN, tmp_path / "earlier"))


def test_digests_are_unchanged() -> None:
    for trial in Ledger(RUN, read_only=True).trials.values():
        assert resolve(trial.spec).digest() == trial.digest


def test_results_and_front(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(st3sweep(capsys, "results", run, "--format", "json")[1])
    assert [row["status"] for row in rows] == ["finished", "finished", "running"]
    for row, expected in zip(rows[:2], RESUMED, strict=False):
        assert {name: row[name] for name in expected} == expected
    front = json.loads(st3sweep(capsys, "pareto", run, "--json")[1])
    assert {row["trial"] for row in front} == {0, 1}


# Each command in turn, in one interpreter, with its exit code and what has been imported by then.
PROGRAM = """\
import sys
from st3sweep.cli import main
for command in ("results", "pareto", "pick", "status"):
    sys.argv = ["st3sweep", command, sys.argv[-1]]
    try:
        main()
    except SystemExit as end:
        print(command, end.code, *sorted({"torch", "ray", "optuna"} & set(sys.modules)), file=sys.stderr)
"""


def test_looking_at_it_needs_neither_torch_nor_ray(run: Path) -> None:
    """Its ledger holds no summaries: ``status`` shows the names of methods, not their labels."""
    lines = (run / "ledger.jsonl").read_text().splitlines()
    first = json.loads(lines[0]) | {"expected_trials": 3}  # of grid points, which that version did not write down
    (run / "ledger.jsonl").write_text("".join(f"{line}\n" for line in [json.dumps(first), *lines[1:]]))
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(run)], capture_output=True, text=True)
    assert done.stderr.splitlines() == ["results 0", "pareto 0", "pick 0", "status 0"]


def test_status(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(st3sweep(capsys, "status", run, "--json")[1])
    assert (found["state"], found["trials"]) == ("interrupted", 3)
    assert [one["trial"] for one in found["open"]] == [2]
    shown = st3sweep(capsys, "status", run)[1]
    assert "2 of 3 trials done" in shown
    assert "ST-3" in shown


def test_export(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said, _ = st3sweep(capsys, "export", run, 1, "--out", tmp_path / "model.safetensors", "--evaluate")
    assert code == 0
    assert "recorded 39.00 %" in said
    _, metadata = load_exported(tmp_path / "model.safetensors")
    assert (metadata["method"], metadata["sparsity"]) == ("ST-3", RESUMED[1]["sparsity"])


def test_warm_start_takes_its_results_over(run: Path, tmp_path: Path) -> None:
    space = yaml.safe_load((RUN / "resolved.yaml").read_text()) | {"warm_start": {"from": [str(run)]}}
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(space))
    found = read_space(tmp_path / "space.yaml")
    earlier = EarlierRuns(found)
    assert earlier.count == 2
    taken = earlier.result(found.trial_for({"sparsity.criterion": "l1", "sparsity.target": 0.9}))
    assert taken is not None
    assert taken["val_top1"] == RESUMED[1]["val_top1"]
    assert len(taken["layers"]) == 10


def test_the_old_key_of_early_stopping_is_read_under_its_new_name(run: Path, tmp_path: Path) -> None:
    assert "scheduler:" in (run / "resolved.yaml").read_text()
    space = read_space(run / "resolved.yaml", {"scheduler.min_trials": "5"})
    assert (space.config.early_stopping.name, space.config.early_stopping.min_trials) == ("ramp_pareto", 5)
