"""Test the commands that need no Ray, on a real trial that trains in a second."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from st3sweep import __version__, cli
from st3sweep.runs.folder import new_run
from st3sweep.runs.tables import read_table, table_path, write_table
from st3sweep.space.loading import load_space
from st3sweep.sparse.method import Method
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.storage.local import Local
from tests.conftest import TINY

SPACES = Path(__file__).parents[2] / "search_spaces"


def st3sweep(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run a command; return its exit code, stdout and stderr."""
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
    """Train one trial with the command; return its folder."""
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


def test_json_has_every_digit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``to_json`` of pandas rounds to ten decimals, which leaves a weight decay of 1e-5 five digits."""
    row = {"trial": 0, "epoch": 1, "weight_decay": 2.251757813e-5, "sparsity": 0.8999882339098717}
    write_table(table_path(tmp_path, "epochs"), "epochs", [{**row, "val_loss": float("inf")}])
    (found,) = json.loads(st3sweep(capsys, "results", tmp_path, "--table", "epochs", "--format", "json")[1])
    assert {name: found[name] for name in row} == row
    assert (found["val_loss"], found["ramp_progress"]) == (None, None)


@pytest.mark.parametrize("command", ["pareto", "replay"])
def test_unsupported_plot_files_are_refused(
    trained: Path, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("front.xyz", "front"):
        code, text, error = st3sweep(capsys, command, trained, "--plot", tmp_path / name)
        assert (code, text, error.count("\n")) == (2, "", 1)
        assert error.startswith(f"st3sweep: --plot {tmp_path / name}: must end in one of .")


def test_unwritable_files_are_one_line_errors(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "file"
    there.touch()
    code, _, error = st3sweep(capsys, "pareto", trained, "--plot", there / "front.png")
    assert (code, error) == (2, f"st3sweep: --plot {there / 'front.png'}: cannot be written (File exists)\n")
    code, _, error = st3sweep(capsys, "train", trained.parent / "trial.yaml", "--out", there / "run")
    assert (code, error) == (2, f"st3sweep: --out {there / 'run'}: cannot be made (Not a directory)\n")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert st3sweep(capsys, "--version") == (0, f"st3sweep {__version__}\n", "")


def test_train_resumes_and_refuses_another_trial(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trial = trained.parent / "trial.yaml"
    ledger = (trained / "ledger.jsonl").read_bytes()
    assert st3sweep(capsys, "train", trial, "--out", trained)[0] == 0
    assert (trained / "ledger.jsonl").read_bytes() == ledger  # nothing was trained again
    code, _, error = st3sweep(capsys, "train", trial, "--out", trained, "--set", "seed=1")
    assert code == 2
    assert error.count("\n") == 1
    assert "holds another trial" in error


def test_train_resumes_a_trial_stored_before_a_setting_existed(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = Path(shutil.copytree(trained, tmp_path / "earlier"))
    lines = [json.loads(line) for line in (earlier / "ledger.jsonl").read_text().splitlines()]
    [added] = [line for line in lines if line["event"] == "trial"]
    del added["spec"]["train"]["graph"]
    (earlier / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    shutil.rmtree(earlier / "tables", ignore_errors=True)
    assert st3sweep(capsys, "train", trained.parent / "trial.yaml", "--out", earlier)[0] == 0


@pytest.mark.parametrize("format_", ["safetensors", "pt"])
def test_export_writes_the_model_and_describes_it(
    trained: Path, capsys: pytest.CaptureFixture[str], format_: str
) -> None:
    from st3sweep.export.model_file import load_exported

    code, text, _ = st3sweep(capsys, "export", trained, 0, "--format", format_, "--evaluate")
    assert code == 0
    layers, row = read_table(trained, "layers"), read_table(trained, "trials").iloc[0]
    header, *lines = text.splitlines()
    assert header.split() == ["layer", "weights", "zeros", "density", "MFLOPs"]
    for line, layer in zip(lines, layers.itertuples(), strict=False):
        zeros = round((1 - layer.density) * layer.numel)
        assert line.split()[:4] == [layer.layer, str(layer.numel), str(zeros), f"{layer.density:.4f}"]
    assert lines[-5].startswith(f"sparsity {row.sparsity:.4f}, {1000 * row.gflops:.4g} of ")
    assert lines[-4] == f"validation {row.val_top1:.2f} %, recorded {row.val_top1:.2f} %"
    file = trained / "trials" / "0000" / f"model.{format_}"
    assert lines[-1] == f"file: {file}"
    _, metadata = load_exported(file)
    assert {key: metadata[key] for key in ("digest", "seed", "dataset", "method")} == {
        "digest": row.digest,
        "seed": 0,
        "dataset": "digits",
        "method": "ST-3",
    }


def test_a_packed_export_reports_sizes_and_what_float16_costs(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from st3sweep.export.model_file import load_exported

    file = tmp_path / "a.safetensors"
    code, text, _ = st3sweep(capsys, "export", trained, 0, "--format", "packed", "--fp16", "--json", "--out", file)
    assert code == 0
    found = json.loads(text)
    row = read_table(trained, "trials").iloc[0]
    model, metadata = load_exported(file)
    state = model.state_dict()
    assert (found["bytes"]["file"], found["file"]) == (file.stat().st_size, str(file))
    assert found["bytes"]["dense"] == sum(tensor.numel() * tensor.itemsize for tensor in state.values())
    assert found["bytes"]["ideal"] < found["bytes"]["weights"] < 1.2 * found["bytes"]["ideal"]
    # The trial has 4,964 prunable weights, 80 % of them zeros; 0.72 bits each say which.
    assert found["bytes"]["ideal"] == pytest.approx(4964 * (0.2 * 2 + 0.72 / 8), rel=0.05)
    assert found["val_top1"] == row.val_top1
    assert found["fp16"] == metadata["fp16"]
    assert found["fp16"]["val_top1_fp32"] == row.val_top1
    assert abs(found["fp16"]["val_top1"] - row.val_top1) <= 2.0
    assert all(tensor.equal(tensor.half().float()) for name, tensor in state.items() if name == "fc.weight")
    lines = st3sweep(capsys, "export", trained, 0, "--format", "packed", "--fp16")[1].splitlines()
    assert lines[-4].startswith("fp16 loses ")
    assert lines[-3].startswith(f"size {found['bytes']['file']:,} bytes, ")
    assert lines[-2].startswith(f"prunable weights alone: packed {found['bytes']['weights']:,} bytes, ideal ")
    assert lines[-1] == f"file: {trained / 'trials' / '0000' / 'model.packed.safetensors'}"


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
def test_a_sparse_export_has_the_recorded_accuracy(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from st3sweep.sparse_runtime.sparse_model import SparseModel

    arguments = ["export", trained, 0, "--format", "sparse", "--json", "--evaluate", "--out", tmp_path / "a.sparse"]
    for _ in range(2):  # the second replaces the first
        code, text, _ = st3sweep(capsys, *arguments)
        assert code == 0
    found = json.loads(text)
    assert found["evaluated_top1"] == found["val_top1"] == read_table(trained, "trials").iloc[0].val_top1
    assert 0 < found["logits_difference"] < 1e-4
    assert (
        SparseModel(tmp_path / "a.sparse", tune=False).about["digest"] == read_table(trained, "trials").iloc[0].digest
    )
    (tmp_path / "other.sparse").mkdir()
    code, _, error = st3sweep(capsys, *arguments[:-1], tmp_path / "other.sparse")
    assert code == 2
    assert error.endswith("other.sparse: exists and is no exported folder; choose another --out\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fp16"], "--fp16: needs --format packed (got safetensors)"),
        (["--zstd", "--format", "pt"], "--zstd: needs --format packed (got pt)"),
        (
            ["--keep-dead-channels"],
            "--keep-dead-channels: allowed with --format onnx, openvino, sparse (got safetensors)",
        ),
        (["--format", "packed", "--out", "a.zst"], "--out a.zst: must end in .safetensors; see --format"),
        (["--format", "packed", "--zstd", "--out", "a.safetensors"], "must end in .safetensors.zst; see --format"),
    ],
)
def test_options_of_export_that_do_not_fit_are_refused(
    trained: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    code, _, error = st3sweep(capsys, "export", trained, 0, *options)
    assert (code, error.count("\n")) == (2, 1)
    assert message in error


def test_export_does_not_need_the_data(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Except if the checkpoint does not record its model's input."""
    from st3sweep.export.from_run import export
    from st3sweep.training import checkpoint

    run = copied(trained, tmp_path)
    file = run / "trials" / "0000" / "best.ckpt"
    saved = checkpoint.load(Local(file.parent), file.name)
    assert saved.pop("input")["num_classes"] == 10
    checkpoint.save(Local(file.parent), file.name, saved, Method())
    _, from_data = export(run, 0)
    monkeypatch.setattr("st3sweep.data.load", None)
    _, metadata = export(trained, 0)
    assert metadata == from_data


def copied(run: Path, to: Path) -> Path:
    """Copy a run, to damage the copy."""
    return Path(shutil.copytree(run, to / "copy", ignore=shutil.ignore_patterns("model.*")))


def damaged_ledger(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Apply ``change`` to each event of the run's ledger."""
    events = [json.loads(line) for line in (run / "ledger.jsonl").read_text().splitlines()]
    for event in events:
        change(event)
    (run / "ledger.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in events))


def test_export_explains_refusals(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copied(trained, tmp_path)
    best = run / "trials" / "0000" / "best.ckpt"

    def refused(*arguments: object) -> str:
        code, _, error = st3sweep(capsys, "export", *arguments)
        assert (code, error.count("\n")) == (2, 1), error
        return error

    assert f"{run}: no trial 7; its last is 0" in refused(run, 7)
    assert f"{tmp_path}: not the folder of a run" in refused(tmp_path, 0)
    assert "--out a.pt: must end in .safetensors" in refused(run, 0, "--out", "a.pt")
    assert "cannot be written (No such file" in refused(run, 0, "--out", run / "absent" / "a.safetensors")
    whole = best.read_bytes()
    best.write_bytes(whole[:-1])
    assert f"{best}: truncated or altered" in refused(run, 0)
    best.unlink()
    again = f"train them again with: st3sweep reproduce {run} 0"
    removed = "the weights were removed (resources.checkpoints: front, or clean)"
    assert f"{best}: not found; {removed}; {again}\n" in refused(run, 0)
    best.write_bytes(whole)

    def wrong_density(event: dict[str, Any]) -> None:
        if event["event"] == "done":
            event["result"]["layers"][0]["density"] = 0.5

    def old_settings(event: dict[str, Any]) -> None:
        if event["event"] == "trial":
            event["spec"] = {"sparsity": {"method": "st3"}}

    def not_done(event: dict[str, Any]) -> None:
        if event["event"] == "done":
            event["event"] = "put_back"

    damaged_ledger(run, wrong_density)
    assert "zeros in layer conv1, but 18 are recorded" in refused(run, 0)
    damaged_ledger(run, old_settings)
    assert "of another version" in refused(run, 0)
    damaged_ledger(run, not_done)
    assert f"{run}: trial 0 is running; this needs a finished one" in refused(run, 0)
    assert not list(run.glob("trials/*/*model*"))


def test_export_refuses_the_checkpoint_of_another_trial(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(trained, tmp_path)

    def wider(event: dict[str, Any]) -> None:
        if event["event"] == "trial":
            event["spec"]["model"]["width"] = 5

    damaged_ledger(run, wider)
    code, _, error = st3sweep(capsys, "export", run, 0)
    assert code == 2
    assert "not the checkpoint of this trial (its tensors do not fit resnet8_w5)" in error


def test_runs_of_one_name_are_numbered_and_resolved_spaces_read_back(tmp_path: Path) -> None:
    source = SPACES / "quickstart.yaml"
    space = load_space(source, {"train.epochs": "7", "sparsity.criterion": "l1"})
    folders = [new_run(space.config.name, space.document.data, space.document.text, tmp_path, None) for _ in range(2)]
    assert [folder.name for folder in folders] == ["quickstart", "quickstart-2"]
    assert (folders[1] / "space.yaml").read_text() == source.read_text()
    again = load_space(folders[1] / "resolved.yaml")
    assert again.config == space.config
    trial = again.trial_for(next(again.grid()))
    assert isinstance(trial, TrialSettings)
    assert (trial.train.epochs, trial.sparsity.label) == (7, "ST-3")
    facts = json.loads((folders[1] / "provenance.json").read_text())
    assert facts["packages"]["torch"]
    assert facts["host"]["cpus"] >= 1


def test_pick_names_the_trial_and_the_next_command(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said, _ = st3sweep(capsys, "pick", trained, "--max-gflops", "1")
    assert code == 0
    assert said.splitlines()[-1].endswith(" 0")
    assert "st3sweep export" in said
    _, row, _ = st3sweep(capsys, "pick", trained, "--json")
    assert json.loads(row)["val_top1"] == read_table(trained, "trials").loc[0, "val_top1"]
    code, _, said = st3sweep(capsys, "pick", trained, "--min-accuracy", "100.5")
    assert code == 2
    assert "no trial of the front meets the limits; the front is" in said
