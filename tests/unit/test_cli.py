"""The commands that need no Ray, on a real trial of a second."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from st3sweep import cli
from st3sweep.loading import load_space
from st3sweep.run_folder import new_run
from st3sweep.spec import TrialSpec
from tests.conftest import TINY

SPACES = Path(__file__).parents[2] / "search_spaces"


def st3sweep(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    before, sys.argv = sys.argv, ["st3sweep", *map(str, arguments)]
    try:
        with pytest.raises(SystemExit) as ended:
            cli.main()
    finally:
        sys.argv = before
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out, shown.err


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one trained trial, through the command."""
    folder = tmp_path_factory.mktemp("single")
    trial = folder / "trial.yaml"
    trial.write_text(yaml.safe_dump(TINY))
    before, sys.argv = sys.argv, ["st3sweep", "train", str(trial), "--out", str(folder / "run"), "--device", "cpu"]
    try:
        with pytest.raises(SystemExit) as ended:
            cli.main()
    finally:
        sys.argv = before
    assert ended.value.code == 0
    return folder / "run"


def test_results_in_every_format_are_the_same_table(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, path, _ = st3sweep(capsys, "results", trained, "--format", "parquet")
    table = pd.read_parquet(path.strip())
    assert code == 0
    assert table.loc[0, "status"] == "finished"
    assert abs(table.loc[0, "sparsity"] - 0.8) < 1e-3
    csv = pd.read_csv(io.StringIO(st3sweep(capsys, "results", trained, "--format", "csv")[1]))
    rows = json.loads(st3sweep(capsys, "results", trained, "--format", "json")[1])
    text = st3sweep(capsys, "results", trained)[1]
    assert csv.loc[0, "val_top1"] == pytest.approx(rows[0]["val_top1"]) == pytest.approx(table.loc[0, "val_top1"])
    assert f"{table.loc[0, 'val_top1']:.4g}" in text
    epochs = st3sweep(capsys, "results", trained, "--table", "epochs", "--format", "csv")[1]
    assert pd.read_csv(io.StringIO(epochs))["epoch"].tolist() == [1, 2, 3]


def test_pareto_prints_the_front_and_draws_it(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text, _ = st3sweep(capsys, "pareto", trained, "--plot", tmp_path / "front.png")
    assert code == 0
    assert text.splitlines()[1].split()[:2] == ["0", "ST-3"]
    assert (tmp_path / "front.png").read_bytes().startswith(b"\x89PNG")
    assert [row["trial"] for row in json.loads(st3sweep(capsys, "pareto", trained, "--json")[1])] == [0]


def test_train_goes_on_where_it_was_and_refuses_another_trial(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = trained.parent / "trial.yaml"
    ledger = (trained / "ledger.jsonl").read_bytes()
    assert st3sweep(capsys, "train", trial, "--out", trained)[0] == 0
    assert (trained / "ledger.jsonl").read_bytes() == ledger  # nothing was trained again
    code, _, error = st3sweep(capsys, "train", trial, "--out", trained, "--set", "seed=1")
    assert code == 2
    assert error.count("\n") == 1
    assert "holds another trial" in error


def test_runs_of_one_name_are_numbered_and_resolved_spaces_read_back(tmp_path: Path) -> None:
    source = SPACES / "quickstart.yaml"
    space = load_space(source, {"train.epochs": "7", "sparsity.criterion": "l1"})
    folders = [new_run(space, source, tmp_path, None) for _ in range(2)]
    assert [folder.name for folder in folders] == ["quickstart", "quickstart-2"]
    assert (folders[1] / "space.yaml").read_text() == source.read_text()
    again = load_space(folders[1] / "resolved.yaml")
    assert again.spec == space.spec
    trial = again.trial_for(next(again.grid()))
    assert isinstance(trial, TrialSpec)
    assert (trial.train.epochs, trial.sparsity.label) == (7, "ST-3")
    facts = json.loads((folders[1] / "provenance.json").read_text())
    assert facts["packages"]["torch"]
    assert facts["host"]["cpus"] >= 1
