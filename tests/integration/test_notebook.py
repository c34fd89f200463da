"""Test that the notebook runs from top to bottom, and that its two files hold the same cells."""

from __future__ import annotations

from pathlib import Path

import jupytext
import nbclient
import nbformat
import pytest

from st3sweep.runs.tables import table_path, write_table

NOTEBOOKS = Path(__file__).parents[2] / "analysis" / "notebooks"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Make a run with three finished trials and a failed one of a model with two layers."""
    run = tmp_path / "sweep"
    run.mkdir()
    task = {"model": "digits_cnn", "dataset": "digits"}
    trials, epochs, layers = [], [], []
    for trial, (sparsity, accuracy) in enumerate([(0.5, 99.0), (0.8, 97.0), (0.9, 93.0)]):
        cost = {"gflops": 0.0031 * (1 - sparsity), "gflops_dense": 0.0031}
        own = {"trial": trial, "method": "ST-3", "sparsity_target": sparsity, "sparsity": sparsity}
        trials.append({"status": "finished", "val_top1": accuracy, "test_top1": accuracy, **own, **task, **cost})
        epochs += [{"trial": trial, "epoch": n, "val_top1": accuracy - 3 + n, "sparsity": sparsity} for n in (1, 2, 3)]
        layers += [{"trial": trial, "layer": f"conv{n}", "position": n, "density": 1 - sparsity} for n in (0, 1)]
    trials.append({"trial": 3, "status": "failed", "error": "loss is NaN", "method": "ST-3", **task})
    for name, rows in (("trials", trials), ("epochs", epochs), ("layers", layers)):
        write_table(table_path(run, name), name, rows)
    return run


def test_notebook_executes(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ST3_RUN", str(run))
    notebook = nbformat.read(NOTEBOOKS / "pareto_front.ipynb", as_version=4)
    # A cell that raises makes execute() raise; another working directory shows that nothing depends on this one.
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    printed = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    assert "sweep: 4 trials" in printed
    assert "fewer than dense" in printed


@pytest.mark.parametrize("name", sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")))
def test_notebook_matches_its_script(name: str) -> None:
    script, notebook = (jupytext.read(NOTEBOOKS / f"{name}.{suffix}") for suffix in ("py", "ipynb"))
    cells = [[(cell.cell_type, cell.source) for cell in paired.cells] for paired in (script, notebook)]
    assert cells[0] == cells[1]
    assert not [cell for cell in notebook.cells if cell.get("outputs")], "outputs do not belong in the repository"
