"""The notebook of an own network: killed while it sweeps, then run from top to bottom."""

from __future__ import annotations

from pathlib import Path

import nbclient
import nbformat
from programs import events, forked, wait_until

import st3sweep

NOTEBOOK = Path(__file__).parents[2] / "analysis" / "notebooks" / "own_network.ipynb"


def test_a_notebook_trains_sweeps_resumes_and_exports_an_own_network(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "own"
    with forked(str(NOTEBOOK.with_suffix(".py")), folder=tmp_path) as program:
        wait_until(lambda: events(run, "done"), program)
    assert st3sweep.load_run(run).state == "interrupted"

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=400, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    printed = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    assert "complete 6 trials" in printed
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 1
    assert (tmp_path / "own.safetensors").exists()
    done = events(run, "done")
    assert sorted(event["trial"] for event in done) == list(range(6)), "each once"
    assert {event["status"] for event in done} == {"finished"}
    assert len(events(run, "session")) == 2
    chosen = st3sweep.load_run(run).pick()
    trials = st3sweep.load_run(run).trials
    assert (trials["val_worst_class"] <= trials["val_top1"]).all(), "the metric has travelled to the workers"
    assert trials["test_worst_class"].notna().all()
    assert f"{chosen['val_top1']:.1f} % validation" in printed
    assert chosen["val_top1"] > 80
