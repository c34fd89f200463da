"""Test that the notebooks run from top to bottom, and that the two files of each hold the same cells."""

from __future__ import annotations

import copy
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
    assert "sweep: 4 trials" in printed(notebook)
    assert "fewer than dense" in printed(notebook)


def test_published_fronts_notebook_shows_what_it_computes(tmp_path: Path) -> None:
    """Its outputs are stored, since they follow from the package's data alone: printed text must be that of today."""
    stored = nbformat.read(NOTEBOOKS / "published_fronts.ipynb", as_version=4)
    fresh = copy.deepcopy(stored)
    nbclient.NotebookClient(fresh, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    for notebook in (stored, fresh):
        outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
        assert [output.output_type for output in outputs if output.output_type == "error"] == []
        assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    assert printed(stored) == printed(fresh)
    assert "Feather" in printed(fresh)
    first = stored.cells[0]
    assert first.cell_type == "markdown"
    assert first.source.splitlines()[0].endswith("?")


def printed(notebook: nbformat.NotebookNode) -> str:
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")


@pytest.mark.parametrize("name", sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")))
def test_notebook_matches_its_script(name: str) -> None:
    script, notebook = (jupytext.read(NOTEBOOKS / f"{name}.{suffix}") for suffix in ("py", "ipynb"))
    cells = [[(cell.cell_type, cell.source) for cell in paired.cells] for paired in (script, notebook)]
    assert cells[0] == cells[1]
    if name != "published_fronts":  # its outputs depend on no run
        assert not [cell for cell in notebook.cells if cell.get("outputs")], "outputs do not belong in the repository"
