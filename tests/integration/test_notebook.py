"""Test that the notebooks run from top to bottom, and that the two files of each hold the same cells."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import jupytext
import nbclient
import nbformat
import pytest
from jupyter_client.manager import KernelManager

from st3sweep.runs.tables import table_path, write_table

NOTEBOOKS = Path(__file__).parents[2] / "analysis" / "notebooks"
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))


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
        layers += [
            {"trial": trial, "layer": f"conv{n}", "position": n, "numel": 9, "density": 1 - sparsity} for n in (0, 1)
        ]
    trials.append({"trial": 3, "status": "failed", "error": "loss is NaN", "method": "ST-3", **task})
    for name, rows in (("trials", trials), ("epochs", epochs), ("layers", layers)):
        write_table(table_path(run, name), name, rows)
    return run


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KernelManager]:
    """Start one kernel for all notebooks, in a folder of no project: nothing depends on the working directory."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(tmp_path_factory.mktemp("elsewhere")))
    yield manager
    manager.shutdown_kernel(now=True)


def executed(name: str, kernel: KernelManager, run: Path | None = None) -> nbformat.NotebookNode:
    """Return notebook ``name`` with fresh outputs; a cell that raises makes this raise."""
    notebook = copy.deepcopy(nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4))
    setting = "os.environ.pop('ST3_RUN', None)" if run is None else f"os.environ['ST3_RUN'] = {str(run)!r}"
    notebook.cells.insert(0, nbformat.v4.new_code_cell(f"%reset -f\nimport os\n{setting}"))
    nbclient.NotebookClient(notebook, km=kernel, timeout=300).execute()
    notebook.cells.pop(0)
    return notebook


def outputs_of(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def printed(notebook: nbformat.NotebookNode) -> str:
    return "".join(part.text for part in outputs_of(notebook) if part.output_type == "stream" and part.name == "stdout")


def figures(notebook: nbformat.NotebookNode) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs_of(notebook))


def test_pareto_front_of_a_run(run: Path, kernel: KernelManager) -> None:
    notebook = executed("pareto_front", kernel, run)
    assert figures(notebook) == 4
    assert "sweep: 4 trials" in printed(notebook)
    assert "fewer than dense" in printed(notebook)


def test_search_of_a_run_too_small_to_tell(run: Path, kernel: KernelManager) -> None:
    notebook = executed("search", kernel, run)
    assert figures(notebook) == 3


# Published points are data of the package, and these sweeps of the repository: what is printed must be that of today.
@pytest.mark.parametrize(
    ("name", "shown", "says"),
    [
        ("published_fronts", 2, "Feather"),
        ("ablation", 2, "ST-3 no-soft no-rescale minus ST-3 no-soft"),
        ("methods", 3, "static+ERK"),
        ("early_stopping", 3, "compute saved %"),
    ],
)
def test_stored_outputs_are_those_of_today(name: str, shown: int, says: str, kernel: KernelManager) -> None:
    stored = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    fresh = executed(name, kernel)
    assert figures(stored) == figures(fresh) == shown
    assert printed(stored) == printed(fresh)
    assert says in printed(fresh)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "shown"), [("search", 3), ("pareto_front", 4)])
def test_default_sweeps(name: str, shown: int, kernel: KernelManager) -> None:
    """The forests of another version of scikit-learn may differ in the last digit, so text is not compared."""
    fresh = executed(name, kernel)
    assert figures(fresh) == shown
    assert "matters" in printed(fresh) or "methods: 129 trials" in printed(fresh)


@pytest.mark.parametrize("name", NAMES)
def test_notebook_matches_its_script(name: str) -> None:
    script, notebook = (jupytext.read(NOTEBOOKS / f"{name}.{suffix}") for suffix in ("py", "ipynb"))
    cells = [[(cell.cell_type, cell.source) for cell in paired.cells] for paired in (script, notebook)]
    assert cells[0] == cells[1]


@pytest.mark.parametrize("name", NAMES)
def test_notebook_opens_with_its_question_and_shows_its_outputs(name: str) -> None:
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    outputs = outputs_of(notebook)
    if name == "own_network":  # it trains, and its outputs depend on the machine
        assert not outputs, "outputs do not belong in the repository"
        return
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[0].source.splitlines()[0].endswith("?")
    assert figures(notebook)
    assert [part for part in outputs if part.output_type == "error"] == []
    assert "/home/" not in printed(notebook), "no path of a machine"
