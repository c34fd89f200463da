"""Figures of a fabricated run with known front, units and outlier."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from fabricated_run import FRONT, fabricate
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg

from st3sweep.analysis import fronts, plots, tables, trial_plots
from st3sweep.analysis.axes import METHODS, style_of
from st3sweep.analysis.selection import plot_selection


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return fabricate(tmp_path / "sweep")


@pytest.fixture
def trials(run: Path) -> pd.DataFrame:
    return tables.load_trials(run)


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
    accuracy, sparsity, bar = trial_plots.plot_ramp(tables.load_epochs(run), trials).axes
    assert (len(accuracy.lines), len(sparsity.lines)) == (6, 6)
    np.testing.assert_allclose(accuracy.lines[0].get_xydata(), [(1, 96), (2, 97), (3, 98), (4, 99)])
    np.testing.assert_allclose(sparsity.lines[3].get_ydata(), [24.5, 49, 73.5, 98])
    assert accuracy.lines[1].get_color() == accuracy.lines[4].get_color() != accuracy.lines[0].get_color()
    assert bar.get_ylabel() == "target sparsity (%)"
    epochs = tables.load_epochs(run)
    assert epochs["threshold"].isna().all()
    *_, threshold, _ = trial_plots.plot_ramp(epochs.assign(threshold=epochs["epoch"] / 8), trials).axes
    np.testing.assert_allclose(threshold.lines[0].get_xydata(), [(1, 1 / 8), (2, 2 / 8), (3, 3 / 8), (4, 4 / 8)])


def test_stopped_trials_are_counted_and_crossed_out(run: Path, trials: pd.DataFrame) -> None:
    stopped = {"status": "stopped", "val_top1": np.nan, "test_top1": np.nan, "gflops": np.nan}
    trials = trials.assign(**{name: trials[name].mask(trials["trial"] == 2, value) for name, value in stopped.items()})
    accuracy, _, _ = trial_plots.plot_ramp(tables.load_epochs(run).query("trial != 2 or epoch <= 2"), trials).axes
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
    (axes,) = trial_plots.plot_layers(tables.load_layers(*runs), chosen).axes
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
    trial_plots.plot_ramp(tables.load_epochs(run).iloc[:0], failed).draw_without_rendering()
    trial_plots.plot_layers(tables.load_layers(run), failed).draw_without_rendering()


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
        "ramp": trial_plots.plot_ramp(epochs, rows),
        "layers": trial_plots.plot_layers(layers, rows),
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
def test_tables_need_no_pyplot() -> None:
    """Nor torch, ray and optuna, which the tests of layers look for in all of analysis."""
    modules = ("tables", "fronts", "seeds", "noise", "dominance", "published_points")
    imports = ", ".join(f"st3sweep.analysis.{module}" for module in modules)
    code = f"import sys, {imports}; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
