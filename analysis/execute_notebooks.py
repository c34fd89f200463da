"""Make the notebooks from their scripts, run them in one kernel, and store their outputs: ``make notebooks``.

Names of notebooks as arguments run only those. ``own_network`` trains, so it is made without outputs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import jupytext
import nbclient
import nbformat
from jupyter_client.manager import KernelManager

FOLDER = Path(__file__).parent / "notebooks"
NOT_RUN = ("own_network",)
METADATA = {
    "jupytext": {"formats": "ipynb,py:percent"},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def made(name: str) -> nbformat.NotebookNode:
    """Return the notebook of script ``name``, without outputs; the same cells get the same identifiers."""
    notebook = jupytext.read(FOLDER / f"{name}.py")
    notebook.metadata = METADATA
    for number, cell in enumerate(notebook.cells):
        cell["id"], cell["metadata"] = f"{name.replace('_', '-')}-{number}", {}
    return notebook


def run(notebook: nbformat.NotebookNode, kernel: KernelManager) -> None:
    """Run the cells in a kernel that forgets what it knew, and keep their outputs, without times and versions."""
    notebook.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))
    nbclient.NotebookClient(notebook, km=kernel, timeout=600).execute()
    notebook.cells.pop(0)
    notebook.metadata = METADATA
    for cell in notebook.cells:
        cell["metadata"] = {}


def main(names: list[str]) -> None:
    """Run the notebooks ``names``, or all."""
    kernel = KernelManager(kernel_name="python3")
    kernel.start_kernel(cwd=str(FOLDER))
    try:
        for name in names or sorted(path.stem for path in FOLDER.glob("*.py")):
            notebook = made(name)
            if name not in NOT_RUN:
                run(notebook, kernel)
            nbformat.validate(notebook)
            nbformat.write(notebook, FOLDER / f"{name}.ipynb")
            print(name)
    finally:
        kernel.shutdown_kernel(now=True)


if __name__ == "__main__":
    main(sys.argv[1:])
