"""Tables and figures of a fabricated run with known front, units and outlier."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg

from st3sweep.analysis import fronts, plots, published_points, tables
from st3sweep.analysis.axes import METHODS, style_of
from st3sweep.analysis.selection import plot_selection
from st3sweep.runs.tables import ResultsError, table_path, write_table

DENSE = 0.0032
# trial, method, sparsity, val_top1, test_top1, gflops. Front by hand: 3, 2, 1, 0. Trial 5 collapsed, 6 failed.
TRIALS = [
    (0, "ST-3", 0.50, 99.0, 98.0, 0.0016),
    (1, "ST-3σ", 0.80, 98.0, 98.5, 0.0008),
    (2, "ST-3σ", 0.90, 96.0, 95.5, 0.0004),
    (3, "ST-3", 0.98, 92.0, 91.0, 0.0001),
    (4, "ST-3", 0.80, 97.0, 96.5, 0.0009),
    (5, "ST-3", 0.70, 10.0, 10.0, 0.0012),
]
FRONT = [3, 2, 1, 0]


def fabricate(run: Path, model: str = "digits_cnn", dataset: str = "digits", dense: float = DENSE) -> Path:
    """Write a run of 6 finished trials and a failed one, of 4 epochs and 3 layers each."""
    run.mkdir(parents=True)
    task: dict[str, Any] = {"model": model, "dataset": dataset}
    trials: list[dict[str, Any]] = []
    epochs: list[dict[str, Any]] = []
    layers: list[dict[str, Any]] = []
    for trial, method, sparsity, val, test, gflops in TRIALS:
        cost = {"gflops": gflops / DENSE * dense, "gflops_dense": dense}
        accuracy = {"val_top1": val, "test_top1": test}
        own = {"trial": trial, "method": method, "sparsity_target": sparsity, "sparsity": sparsity - 0.001}
        trials.append({"status": "finished", **own, **task, **cost, **accuracy})
        for epoch in (4, 2, 1, 3):  # a reader must not rely on the order of rows
            row = {"trial": trial, "epoch": epoch, "sparsity": sparsity * epoch / 4, "val_top1": val - 4 + epoch}
            epochs.append(row)
        for position, layer in enumerate(("stem", "conv", "head")):
            density = (1 - sparsity) * (1.0, 0.5, 2.0)[position]
            layers.append({"trial": trial, "layer": layer, "position": position, "density": density})
    failed = {"trial": 6, "status": "failed", "error": "loss is NaN", "method": "ST-3", "sparsity_target": 0.95}
    trials.append({**failed, **task})
    for name, rows in (("trials", trials), ("epochs", epochs), ("layers", layers)):
        write_table(table_path(run, name), name, rows)
    return run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return fabricate(tmp_path / "sweep")


@pytest.fixture
def trials(run: Path) -> pd.DataFrame:
    return tables.load_trials(run)


# Front


def test_front_rows(trials: pd.DataFrame) -> None:
    rows = fronts.front(trials)
    assert rows["trial"].tolist() == FRONT
    assert rows["gflops"].is_monotonic_increasing


def test_an_unfinished_trial_is_not_on_the_front_and_dominates_none(trials: pd.DataFrame) -> None:
    ghosts = [
        trials.iloc[[0]].assign(**ghost, val_top1=100.0, gflops=1e-9)  # type: ignore[arg-type]
        for ghost in (
            {"trial": 9, "status": "running"},
            {"trial": 10, "status": "stopped"},
            {"trial": 11, "replicate_of": 0},
        )
    ]
    both = pd.concat([trials, *ghosts])  # index 0 twice: rows must be distinguished by position
    marked = fronts.mark_front(both)
    assert marked["on_front"].dtype == bool
    assert sorted(marked.loc[marked["on_front"].to_numpy(), "trial"]) == sorted(FRONT)
    assert "on_front" not in both
    assert fronts.front_hypervolume(both) == fronts.front_hypervolume(trials)


def test_front_of_other_objectives(trials: pd.DataFrame) -> None:
    by_test = fronts.front(trials, (("test_top1", "max"), ("gflops", "min")))
    assert by_test["trial"].tolist() == [3, 2, 1]
    with pytest.raises(ValueError, match=r"no column \['latency'\]"):
        fronts.front(trials, (("latency", "min"), ("gflops", "min")))


@pytest.mark.parametrize(
    ("asked", "picked"),
    [
        ({}, [0]),
        ({"max_gflops": 0.0008}, [1]),  # at the limit
        ({"max_gflops": 0.00079}, [2]),
        ({"min_accuracy": 96.0}, [2]),
        ({"min_accuracy": 96.5}, [1]),
        ({"min_accuracy": 91.0, "max_gflops": 0.0009}, [3]),
        ({"max_gflops": 0.00005}, []),
        ({"min_accuracy": 99.5}, []),
        ({"min_accuracy": 99.0, "max_gflops": 0.001}, []),
    ],
)
def test_pick(trials: pd.DataFrame, asked: dict[str, float], picked: list[int]) -> None:
    assert fronts.pick(trials, **asked)["trial"].tolist() == picked


def test_hypervolume_of_the_front(trials: pd.DataFrame) -> None:
    # Strips between the costs of the front (in 1e-4 gflops: 1, 4, 8, 16, up to the dense 32) times their accuracy.
    area = (3 * 92 + 4 * 96 + 8 * 98 + 16 * 99) * 1e-4
    assert fronts.front_hypervolume(trials) == pytest.approx(area)
    assert fronts.front_hypervolume(trials, (90.0, 0.0004)) == pytest.approx(3e-4 * 2)
    assert fronts.front_hypervolume(trials[trials["status"] == "failed"]) == 0.0


def test_one_reference_for_one_model(tmp_path: Path, run: Path) -> None:
    mixed = tables.load_trials(run, fabricate(tmp_path / "other", "resnet20", "cifar10", 0.041))
    with pytest.raises(ValueError, match=r"0\.0032.*0\.041"):
        fronts.front_hypervolume(mixed)


# Tables


def test_load_tables_of_runs(tmp_path: Path, run: Path) -> None:
    other = fabricate(tmp_path / "other")
    both = tables.load_trials(run, other)
    assert both.columns[0] == "run"
    assert both["run"].tolist() == ["sweep"] * 7 + ["other"] * 7
    assert both.index.is_unique
    assert (len(tables.load_epochs(run, other)), len(tables.load_layers(run))) == (48, 18)
    with pytest.raises(ValueError, match="got none"):
        tables.load_trials()


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path: Path, run: Path) -> None:
    first, second, third = (fabricate(tmp_path / place / "study") for place in ("a/x", "b/x", "c"))
    both = tables.load_trials(first, second, third, run)
    parent = tmp_path.name  # three names of each path are needed
    assert both["run"].unique().tolist() == [
        "a/x/study",
        "b/x/study",
        f"{parent}/c/study",
        f"{tmp_path.parent.name}/{parent}/sweep",
    ]
    assert len(tables.load_trials(run, run)) == 7, "one run twice is one"
    assert tables.load_trials(run, run.parent / "." / run.name)["run"].unique().tolist() == ["sweep"]


def test_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = fabricate(tmp_path / "runs" / "b"), fabricate(tmp_path / "runs" / "a")
    os.utime(table_path(old, "trials"), (1, 1))
    (tmp_path / "runs" / "no_tables").mkdir()
    (tmp_path / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "er")
    monkeypatch.delenv("ST3_RUN", raising=False)
    assert tables.run_folder() == new
    monkeypatch.setenv("ST3_RUN", "runs/b")
    assert tables.run_folder() == old
    monkeypatch.setenv("ST3_RUN", str(tmp_path / "gone"))
    with pytest.raises(ResultsError, match="gone"):
        tables.run_folder()
    monkeypatch.delenv("ST3_RUN")
    with pytest.raises(ResultsError, match="no run in nowhere/"):
        tables.run_folder("nowhere")


def test_published_units() -> None:
    points = tables.published("resnet50", "imagenet")
    assert list(points.columns) == published_points.PUBLISHED_COLUMNS
    row = points[(points["method"] == "ST-3") & (points["sparsity"] == 0.8)]
    assert row[["test_top1", "gflops"]].values.tolist() == [[76.95, 1.215]]
    assert points.loc[points["method"] == "dense", ["sparsity", "gflops"]].values.tolist() == [[0.0, 4.089]]
    everything = tables.published()
    assert set(everything["model"]) == {"resnet50", "mobilenet_v1"}
    assert everything["sparsity"].between(0, 1, inclusive="left").all()
    assert (everything["remark"] != "").sum() == 3
    assert tables.published("resnet50", "cifar10").empty


def test_front_table(trials: pd.DataFrame) -> None:
    lines = tables.front_table(trials).splitlines()
    assert " ".join(lines[0].split()) == "trial method sparsity % val top-1 % test top-1 % MFLOPs fewer than dense"
    assert [line.split() for line in lines[1:]] == [
        ["3", "ST-3", "97.9", "92.00", "91.00", "0.100", "32.0×"],
        ["2", "ST-3σ", "89.9", "96.00", "95.50", "0.400", "8.0×"],
        ["1", "ST-3σ", "79.9", "98.00", "98.50", "0.800", "4.0×"],
        ["0", "ST-3", "49.9", "99.00", "98.00", "1.600", "2.0×"],
    ]
    # Numbers end where their header ends, so the text is a table in any fixed-width font.
    assert len({len(line) for line in lines}) == 1
    for name in ("sparsity %", "val top-1 %", "test top-1 %", "MFLOPs"):
        end = lines[0].index(name) + len(name)
        assert {line[end] for line in lines} == {" "}
        assert all(line[end - 1].isdigit() for line in lines[1:])


def test_front_table_with_other_units_several_runs_and_no_trials(
    tmp_path: Path, run: Path, trials: pd.DataFrame
) -> None:
    big = tables.load_trials(fabricate(tmp_path / "big", "resnet50", "imagenet", 4.089))
    assert "GFLOPs" in tables.front_table(big).splitlines()[0]
    assert "0.128" in tables.front_table(big).splitlines()[1]
    untested = tables.front_table(trials.assign(test_top1=np.nan))
    assert untested.splitlines()[1].split()[4] == "-"
    assert tables.front_table(tables.load_trials(run, tmp_path / "big")).startswith("run ")
    assert tables.front_table(trials[trials["status"] == "failed"]) == "no trial finished"


# Figures


def points_of(axes: Axes, label: str) -> list[list[float]]:
    """Return (x, y) of the points labelled ``label`` in the legend of ``axes``."""
    (found,) = [drawn for drawn in axes.collections if drawn.get_label() == label]
    return np.asarray(found.get_offsets()).tolist()


def line_of(axes: Axes, drawstyle: str) -> list[list[float]]:
    (found,) = [line for line in axes.lines if line.get_drawstyle() == drawstyle]
    return np.asarray(found.get_xydata()).tolist()


def test_front_figure(trials: pd.DataFrame) -> None:
    (axes,) = plots.plot_front(trials).axes
    assert axes.get_xscale() == "log"
    assert "MFLOPs" in axes.get_xlabel()
    np.testing.assert_allclose(points_of(axes, "ST-3σ"), [(0.8, 98), (0.4, 96)])
    assert len(points_of(axes, "ST-3")) == 4
    np.testing.assert_allclose(points_of(axes, "front"), [(0.1, 92), (0.4, 96), (0.8, 98), (1.6, 99)])
    stairs = line_of(axes, "steps-post")
    np.testing.assert_allclose(stairs[1:5], [(0.1, 92), (0.4, 96), (0.8, 98), (1.6, 99)])
    np.testing.assert_allclose(stairs[0], (0.1, 0))
    assert stairs[-1] == [axes.get_xlim()[1], 99]
    assert [text.get_text() for text in axes.texts] == ["dense: 3.2 MFLOPs"]
    figure = axes.get_figure()
    assert figure is not None
    assert figure.get_suptitle() == (
        "Validation accuracy over inference cost: digits_cnn on digits\n6 finished trials, 4 on the front"
    )


def test_a_front_plotted_by_another_metric_has_no_staircase(trials: pd.DataFrame) -> None:
    (axes,) = plots.plot_front(trials, metric="test_top1").axes
    rings = points_of(axes, "front by validation top-1")
    np.testing.assert_allclose(rings, [(0.1, 91), (0.4, 95.5), (0.8, 98.5), (1.6, 98)])
    assert all(line.get_drawstyle() == "default" for line in axes.lines)


def test_a_collapsed_trial_does_not_squash_the_axis(trials: pd.DataFrame) -> None:
    (axes,) = plots.plot_front(trials).axes
    low, high = axes.get_ylim()
    assert 85 < low < 92
    assert 99 < high < 101
    assert axes.get_title(loc="right") == "1 of 6 points below the axis (down to 10.0 %)"
    arrows = [np.asarray(drawn.get_offsets()).tolist() for drawn in axes.collections if drawn.get_label()[:1] == "_"]
    np.testing.assert_allclose([place for places in arrows for place in places], [(1.2, 0.03)])
    (whole,) = plots.plot_front(trials[trials["trial"] != 5]).axes
    assert whole.get_title(loc="right") == ""


def test_the_steep_end_of_a_front_stays_in_the_figure() -> None:
    steep = tables.published("resnet50", "imagenet").query("method == 'ST-3'")
    rows = steep.assign(status="finished", trial=range(len(steep)), val_top1=steep["test_top1"], gflops_dense=4.089)
    (axes,) = plots.plot_front(rows).axes
    assert axes.get_ylim()[0] < 63.88
    assert axes.get_title(loc="right") == ""


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.0005, 8.0, "0.001 0.01 0.1 1 10"),
        (0.08, 3.5, "0.1 0.3 1 3"),
        (2.0, 45.0, "2 5 10 20 50"),
        (2.4, 41.0, "3 5 7 10 15 20 30"),
        (2.1, 2.9, "2 2.25 2.5 2.75 3"),
    ],
)
def test_log_ticks_are_plain_numbers(trials: pd.DataFrame, low: float, high: float, labels: str) -> None:
    rows = trials.iloc[:2].assign(gflops=[low / 1000, high / 1000], gflops_dense=np.nan)
    (axes,) = plots.plot_front(rows).axes
    figure = axes.get_figure()
    assert figure is not None
    figure.draw_without_rendering()
    assert " ".join(tick.get_text() for tick in axes.get_xticklabels()) == labels
    assert all(tick.get_text() == "" for tick in axes.get_xticklabels(minor=True))


@pytest.mark.parametrize(
    ("model", "dataset", "panels"),
    [
        ("digits_cnn", "digits", 1),
        ("resnet50", "cifar10", 1),
        ("digits_cnn", "imagenet", 1),
        ("resnet50", "imagenet", 2),
    ],
)
def test_published_points_need_model_and_dataset(tmp_path: Path, model: str, dataset: str, panels: int) -> None:
    trials = tables.load_trials(fabricate(tmp_path / "sweep", model, dataset, 4.089))
    figure = plots.plot_run(trials)
    assert len(figure.axes) == panels
    own = [line for line in figure.axes[0].lines if "published" in str(line.get_label())]
    assert not own, "published points are test accuracies and must not be in the validation panel"
    if panels == 2:
        right = figure.axes[1]
        assert right.get_ylabel() == "test top-1 (%)"
        (line,) = [line for line in right.lines if line.get_label() == "ST-3, published"]
        assert [1.215, 76.95] in np.asarray(line.get_xydata()).tolist()
        np.testing.assert_allclose(points_of(right, "ST-3σ"), [(4.089 * 8 / 32, 98.5), (4.089 * 4 / 32, 95.5)])


def test_two_models_have_no_published_panel(tmp_path: Path) -> None:
    runs = [fabricate(tmp_path / model, model, "imagenet", 1.0) for model in ("resnet50", "mobilenet_v1")]
    assert len(plots.plot_run(tables.load_trials(*runs)).axes) == 1


def test_published_points_are_not_compared_with_validation(trials: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="val_top1"):
        plots.plot_front(trials, published=tables.published("resnet50"))


def test_ramp_figure(run: Path, trials: pd.DataFrame) -> None:
    accuracy, sparsity, bar = plots.plot_ramp(tables.load_epochs(run), trials).axes
    assert (len(accuracy.lines), len(sparsity.lines)) == (6, 6)
    np.testing.assert_allclose(accuracy.lines[0].get_xydata(), [(1, 96), (2, 97), (3, 98), (4, 99)])
    np.testing.assert_allclose(sparsity.lines[3].get_ydata(), [24.5, 49, 73.5, 98])
    assert accuracy.lines[1].get_color() == accuracy.lines[4].get_color() != accuracy.lines[0].get_color()
    assert bar.get_ylabel() == "target sparsity (%)"
    epochs = tables.load_epochs(run)
    assert epochs["threshold"].isna().all()
    *_, threshold, _ = plots.plot_ramp(epochs.assign(threshold=epochs["epoch"] / 8), trials).axes
    np.testing.assert_allclose(threshold.lines[0].get_xydata(), [(1, 1 / 8), (2, 2 / 8), (3, 3 / 8), (4, 4 / 8)])


def test_stopped_trials_are_counted_and_crossed_out(run: Path, trials: pd.DataFrame) -> None:
    stopped = {"status": "stopped", "val_top1": np.nan, "test_top1": np.nan, "gflops": np.nan}
    trials = trials.assign(**{name: trials[name].mask(trials["trial"] == 2, value) for name, value in stopped.items()})
    accuracy, _, _ = plots.plot_ramp(tables.load_epochs(run).query("trial != 2 or epoch <= 2"), trials).axes
    (cross,) = accuracy.collections
    assert np.asarray(cross.get_offsets()).tolist() == [[2, 94]]
    assert len(accuracy.lines) == 6
    figure = plots.plot_front(trials)
    assert figure.get_suptitle().endswith("5 finished trials, 3 on the front, 1 stopped early")
    np.testing.assert_allclose(points_of(figure.axes[0], "front"), [(0.1, 92), (0.8, 98), (1.6, 99)])
    assert [line.split()[0] for line in tables.front_table(trials).splitlines()[1:]] == ["3", "1", "0"]


def test_layers_figure(tmp_path: Path, run: Path) -> None:
    runs = (run, fabricate(tmp_path / "other"))
    chosen = fronts.front(tables.load_trials(run))
    (axes,) = plots.plot_layers(tables.load_layers(*runs), chosen).axes
    assert len(axes.lines) == len(FRONT), "trials of the other run are not among the chosen"
    legend = [text.get_text() for text in axes.get_figure().legends[0].get_texts()]  # type: ignore[union-attr]
    assert legend == sorted(legend, key=lambda text: float(text.split()[-2])), "in the order of sparsity"
    densest = chosen.sort_values("sparsity").iloc[0]
    assert legend[0] == f"{densest['trial']}: {densest['method']}, {100 * densest['sparsity']:.1f} %"
    place = [line.get_label() for line in axes.lines].index(legend[-1])
    np.testing.assert_allclose(axes.lines[place].get_ydata(), [2, 1, 4])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["stem", "conv", "head"]


def test_figures_without_a_finished_trial(run: Path, trials: pd.DataFrame) -> None:
    failed = trials[trials["status"] == "failed"]
    (axes,) = plots.plot_front(failed).axes
    assert [text.get_text() for text in axes.texts] == ["no finished trial has val_top1"]
    plots.plot_ramp(tables.load_epochs(run).iloc[:0], failed).draw_without_rendering()
    plots.plot_layers(tables.load_layers(run), failed).draw_without_rendering()


def _zero_cost(trials: pd.DataFrame) -> pd.DataFrame:
    return trials.assign(gflops=trials["gflops"].where(trials["trial"] != 3, 0.0))


DEGENERATE = {
    "one trial": lambda trials: trials.head(1),
    "a trial of zero cost": _zero_cost,
    "all of zero cost": lambda trials: trials.assign(gflops=0.0),
    "zero cost and no dense cost": lambda trials: trials.assign(gflops=0.0, gflops_dense=np.nan),
    "all equal": lambda trials: trials.assign(gflops=0.001, val_top1=50.0, test_top1=50.0, sparsity=0.5),
    "accuracies of NaN": lambda trials: trials.assign(val_top1=np.nan, test_top1=np.nan),
    "one accuracy of NaN": lambda trials: trials.assign(val_top1=trials["val_top1"].where(trials["trial"] != 2)),
    "costs of NaN": lambda trials: trials.assign(gflops=np.nan, gflops_dense=np.nan),
    "one method only": lambda trials: trials.assign(method="ST-3"),
    "none finished": lambda trials: trials.assign(status="failed"),
    "no trial": lambda trials: trials.head(0),
}


@pytest.mark.filterwarnings("error", "ignore::ResourceWarning")  # of what other tests have left
@pytest.mark.parametrize("name", DEGENERATE)
def test_every_figure_and_table_of_a_degenerate_run(name: str, run: Path) -> None:
    trials, epochs, layers = tables.load_trials(run), tables.load_epochs(run), tables.load_layers(run)
    rows = DEGENERATE[name](trials)
    if "zero cost" in name:
        layers = layers.assign(density=0.0)
    figures = {
        "run": plots.plot_run(rows),
        "front": plots.plot_front(rows, metric="test_top1"),
        "ramp": plots.plot_ramp(epochs, rows),
        "layers": plots.plot_layers(layers, rows),
        "selection": plot_selection(rows, validation_images=100),
    }
    for kind, figure in figures.items():
        figure.set_dpi(30)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        assert np.asarray(canvas.buffer_rgba()).min(axis=(0, 1)).max() == 255, kind  # opaque everywhere
        assert (np.asarray(canvas.buffer_rgba())[..., :3].min(axis=2) < 128).mean() > 0.002, f"{kind} is blank"
        assert all(max(axes.get_window_extent().size) > 30 for axes in figure.axes), f"{kind}: no room for a panel"
    assert tables.front_table(rows)


def test_a_trial_of_zero_cost_is_on_the_axis(trials: pd.DataFrame) -> None:
    (axes,) = plots.plot_front(_zero_cost(trials)).axes
    low, high = axes.get_xlim()
    ticks = dict(zip((tick.get_text() for tick in axes.get_xticklabels()), axes.get_xticks(), strict=True))
    least = 0.4  # MFLOPs, of the next trial
    assert low < ticks["0"] < least < high
    points = np.concatenate([np.asarray(part.get_offsets()) for part in axes.collections])
    assert any(np.allclose(point, (ticks["0"], 92.0)) for point in points), "the trial that costs nothing"
    assert min(position for label, position in ticks.items() if label != "0") > ticks["0"]
    assert "∞" in tables.front_table(_zero_cost(trials))


def test_save_leaves_no_figure_in_pyplot(tmp_path: Path, trials: pd.DataFrame) -> None:
    from matplotlib import pyplot

    before = dict(mpl.rcParams)
    plots.save(plots.plot_run(trials), tmp_path / "new" / "front.png")
    assert (tmp_path / "new" / "front.png").read_bytes().startswith(b"\x89PNG")
    assert pyplot.get_fignums() == []
    assert dict(mpl.rcParams) == before


def test_a_method_looks_the_same_everywhere() -> None:
    assert style_of("ST-3σ", ["ST-3σ"]) == style_of("ST-3σ", [*METHODS, "new"])
    known = [style_of(method, METHODS) for method in METHODS]
    assert len(set(known)) == len({marker for _, marker in known}) == len(METHODS)
    style_of("new", ["new", "ST-3"])


@pytest.mark.long
def test_layers_of_imports() -> None:
    tables = (
        ("tables", "fronts", "seeds", "noise", "dominance", "published_points"),
        "'torch', 'ray', 'matplotlib.pyplot'",
    )
    figures = ("plots", "selection", "hypervolume_curves", "published_plots", "replicates"), "'torch', 'ray'"
    for modules, forbidden in (tables, figures):
        imports = ", ".join(f"st3sweep.analysis.{module}" for module in modules)
        code = f"import sys, {imports}; print(*{{{forbidden}}} & set(sys.modules))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "", modules
