"""Test the figures' sizes, formats and legends, the thinning of points, and the plots of importance and profiles."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from st3sweep.analysis import plots
from st3sweep.analysis.figures import COLUMN, MANY, PAGE, new_figure, put_legend, put_note, save, styled, thin
from st3sweep.analysis.importance import IMPORTANCE
from st3sweep.analysis.importance_plots import plot_importance, plot_slices
from st3sweep.analysis.labels import LINE, End, label_ends, readable, spread
from st3sweep.analysis.layer_profiles import PROFILES
from st3sweep.analysis.profile_plots import plot_layer_profiles, plot_timeline, plot_training_curves
from st3sweep.analysis.slices import SLICES
from st3sweep.analysis.timeline import TIMELINE
from st3sweep.commands.figures import figures_of, write_figures
from st3sweep.runs.tables import table_path, write_table
from st3sweep.util.errors import UserError


def test_panels_are_stacked_in_a_column_and_side_by_side_on_a_page() -> None:
    page, panels = new_figure(PAGE, 2.0, panels=3)
    assert len(panels) == 3
    assert page.get_size_inches().tolist() == [7.0, 4.0]
    column, panels = new_figure(COLUMN, 2.0, panels=3)
    assert column.get_size_inches().tolist() == [3.3, 6.0]
    with pytest.raises(ValueError, match="width must be 2 to 40 inches, but got 1"):
        new_figure(1, 2.0)


def test_long_labels_are_cut_and_notes_have_their_own_room() -> None:
    figure, (axes,) = new_figure(COLUMN, 2.0)
    axes.plot([0], [0], label="x" * 50)
    put_legend(figure, [axes])
    put_note(figure, "", "one " * 30, "two")
    (legend,), (note,) = figure.legends, figure.texts
    assert legend.get_texts()[0].get_text() == "x" * 39 + "…"
    assert [line[:3] for line in note.get_text().splitlines()] == ["one", "one", "two"]
    figure.draw_without_rendering()
    boxes = [part.get_window_extent() for part in (note, legend, axes)]
    assert 0 <= boxes[0].y0 < boxes[0].y1 < boxes[1].y0 < boxes[1].y1 < boxes[2].y0


def test_places_are_spread_by_the_least_moves() -> None:
    assert spread(np.array([0.0, 10.0, 30.0]), 8.0).tolist() == [0, 10, 30]
    assert spread(np.array([0.0, 1.0, 2.0, 30.0]), 8.0).tolist() == [-7, 1, 9, 30]
    assert spread(np.array([0.0, 0.0, 9.0]), 10.0).tolist() == pytest.approx([-7, 3, 13])  # 0, -10, -11: mean -7
    # The third draws the second with it, both then the first, and the last all of them.
    assert spread(np.array([0.0, 10.0, 10.5, 11.0]), 8.0).tolist() == [-4.125, 3.875, 11.875, 19.875]
    assert spread(np.array([]), 8.0).tolist() == []


def test_labels_stand_beside_their_ends_unless_they_cover_points() -> None:
    _, (axes,) = new_figure(PAGE, 3.0)
    axes.set(xlim=(1, 100), ylim=(0, 1), xscale="log")
    ends = [End(10.0, 0.5, "ST-3", "#ece133"), End(10.0, 0.5, "GMP", "#0000ff"), End(100.0, 0.5, "DNW", "#000000")]
    assert label_ends(axes, ends, side="left", around=np.array([(10.0, 0.5), (90.0, 0.49)])) == ["DNW"]
    first, second = axes.texts
    assert (first.get_text(), second.get_text(), first.get_ha()) == ("ST-3", "GMP", "right")
    below, above = (text.get_position()[1] for text in (first, second))
    assert above - below == pytest.approx(LINE)
    assert above == pytest.approx(-below)
    assert second.get_color() == (0, 0, 1), "dark enough"
    assert readable("#ece133") < (0.6, 0.6, 0.2), "darker than the line"


def test_one_legend_for_all_panels_which_keep_their_height() -> None:
    figure, panels = new_figure(COLUMN, 2.0, panels=2)
    for axes in panels:
        for name in ("ST-3", "GMP"):
            axes.plot([0], [0], label=name)
    put_legend(figure, panels)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["ST-3", "GMP"]
    assert figure.get_figheight() > 4.0


def test_the_style_holds_within_a_plot_only() -> None:
    before = dict(mpl.rcParams)
    assert styled(lambda: mpl.rcParams["font.size"])() == 8
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(("suffix", "begins"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_every_format_gives_the_same_bytes_again(tmp_path: Path, suffix: str, begins: bytes) -> None:
    files = [tmp_path / f"{number}.{suffix}" for number in range(2)]
    figure, (axes,) = new_figure(COLUMN, 2.0)
    axes.plot([0, 1], [0, 1])
    for file in files:
        save(figure, file)
    assert files[0].read_bytes().startswith(begins)
    if suffix != "svg":  # whose identifiers are random
        assert files[0].read_bytes() == files[1].read_bytes()


def test_thinning_keeps_one_point_of_each_place_and_none_outside() -> None:
    _, (axes,) = new_figure(PAGE, 3.0)
    axes.set(xlim=(0.1, 10), ylim=(0, 100), xscale="log")
    x, y = np.full(MANY + 1, 1.0), np.full(MANY + 1, 50.0)
    assert thin(x[1:], y[1:], axes).tolist() == list(range(MANY)), "so few are all drawn"
    x[7], y[7] = 5.0, 10.0
    x[8] = 1000.0
    x[9] = np.nan
    assert thin(x, y, axes).tolist() == [0, 7]
    grid = np.meshgrid(np.geomspace(0.1, 10, 200), np.linspace(0, 100, 100))
    assert len(thin(grid[0].ravel(), grid[1].ravel(), axes)) == 20_000, "places far apart stay"


def test_a_front_of_many_trials_keeps_its_members() -> None:
    count = MANY + 500
    cost = np.linspace(1, 2, count)
    rows = {"val_top1": 50 + cost, "gflops": cost, "gflops_dense": 4.0, "method": "ST-3", "status": "finished"}
    trials = pd.DataFrame({"trial": range(count), "model": "a", "dataset": "b", **rows})
    (axes,) = plots.plot_front(trials).axes
    drawn = {part.get_label(): len(np.asarray(part.get_offsets())) for part in axes.collections}
    assert drawn["front"] == count
    assert drawn["ST-3"] < 1000


@pytest.mark.parametrize("width", [COLUMN, PAGE])
def test_importance_is_coloured_by_its_verdict(width: float) -> None:
    rows = [
        ("val_top1", "lr", 0.8, 0.6, 1.0, 1.0, 0.7, 64, "matters"),
        ("val_top1", "decay", 0.1, -0.1, 0.2, 0.5, 0.7, 64, "cannot be told"),
        ("gflops", "lr", *[np.nan] * 5, 12, "too few trials: 12 of the 20 needed for 2 settings"),
    ]
    figure = plot_importance(pd.DataFrame(rows, columns=IMPORTANCE), width)
    first, second = figure.axes
    assert [tick.get_text() for tick in first.get_yticklabels()] == ["decay", "lr"]
    widths = {bar.get_y() + 0.3: bar.get_width() for bar in first.patches}  # type: ignore[attr-defined]
    assert widths == pytest.approx({1.0: 0.8, 0.0: 0.1})
    assert second.texts[0].get_text().startswith("too few trials")
    assert figure.get_suptitle() == "Importance of the searched settings, 64 trials"


def test_slices_take_the_last_measure_and_a_log_axis() -> None:
    rows = [("val_top1", "lr", 0.5, "0.5", 1.0, 0.0, 2.0), ("b", "lr", 0.001, "0.001", 5.0, 4.0, 6.0)]
    rows += [("b", "lr", 1.0, "1", 7.0, 6.0, 8.0), ("b", "method", np.nan, "st3", 2.0, 1.0, 3.0)]
    rows += [("b", "method", np.nan, "gmp", 9.0, 8.0, 10.0), ("b", "constant", np.nan, "4", 2.0, 1.0, 3.0)]
    first, second = plot_slices(pd.DataFrame(rows, columns=SLICES)).axes
    assert first.get_xscale() == "log"
    assert np.asarray(first.lines[0].get_xydata()).tolist() == [[0.001, 5], [1, 7]]
    assert [tick.get_text() for tick in second.get_xticklabels()] == ["st3", "gmp"]
    assert first.get_ylim() == second.get_ylim()
    assert first.get_ylim()[0] < 1 < 10 < first.get_ylim()[1], "the spread of every panel is inside"
    (empty,) = plot_slices(pd.DataFrame([], columns=SLICES)).axes
    assert "see the verdicts" in empty.texts[0].get_text()


def test_profiles_and_curves_draw_medians() -> None:
    profile = pd.DataFrame(
        [("front", name, place, 3, 0.1, 0.1, 0.1, 2.0 + place, 1.0, 3.0, 0.5, 0.25, np.nan, 0)
         for place, name in enumerate(("stem", "head"))], columns=PROFILES
    )  # fmt: skip
    left, right = plot_layer_profiles(profile).axes
    assert np.asarray(left.lines[0].get_ydata()).tolist() == [2, 3]
    assert np.asarray(right.lines[0].get_ydata()).tolist() == [25, 25]
    assert [tick.get_text() for tick in left.get_xticklabels()] == ["stem", "head"]
    curves = pd.DataFrame({"group": "ST-3", "measure": "ratio", "epoch": [1, 2], "median": [0.5, 0.9]})
    (axes,) = plot_training_curves(curves.assign(low=0.4, high=1.0), ("ratio", "flip_rate")).axes
    assert np.asarray(axes.lines[0].get_xydata()).tolist() == [[1, 50], [2, 90]]
    assert [(text.get_text(), text.xy) for text in axes.texts] == [("ST-3", (2, 90))]  # type: ignore[attr-defined]


def test_timeline_over_epochs_or_over_time() -> None:
    rows = [
        ("a", 0, "finished", 1, 10, 10, 1.0, 1.0, 90.0, 0.1, np.nan, np.nan, True),
        ("a", 1, "stopped", 0, 4, 10, 0.4, 1.0, 80.0, 0.1, np.nan, np.nan, False),
    ]
    table = pd.DataFrame(rows, columns=TIMELINE)
    figure = plot_timeline(table)
    assert sorted(bar.get_width() for bar in figure.axes[0].patches) == [40, 100]  # type: ignore[attr-defined]
    assert "2 trials, 1 stopped early, 30 % of the epochs not trained" in figure.get_suptitle()
    timed = table.assign(begin_seconds=[0.0, 60.0], end_seconds=[600.0, 300.0])
    (axes,) = plot_timeline(timed).axes
    assert axes.get_xlabel() == "wall time (minutes)"
    assert sorted((bar.get_x(), bar.get_width()) for bar in axes.patches) == [(0, 10), (1, 4)]  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="a timeline is of one run, but got 2"):
        plot_timeline(pd.concat([table, table.assign(run="b")]))


def test_figures_of_a_run_that_has_all_tables_but_a_ledger(tmp_path: Path) -> None:
    trials = [
        {"trial": n, "status": "finished", "method": "ST-3", "model": "m", "dataset": "d", "val_top1": 80.0 + n,
         "test_top1": 80.0 + n, "gflops": 0.1 + n, "gflops_dense": 9.0, "sparsity": 0.9 - n / 10, "params": "{}"}
        for n in range(2)
    ]  # fmt: skip
    epochs = [{"trial": n, "epoch": 1, "progress": 1.0, "val_top1": 80.0, "sparsity": 0.9} for n in range(2)]
    layers = [{"trial": n, "layer": "fc", "position": 0, "numel": 9, "density": 0.1, "macs": 1.0} for n in range(2)]
    for name, rows in (("trials", trials), ("epochs", epochs), ("layers", layers)):
        write_table(table_path(tmp_path, name), name, rows)
    written = write_figures(tmp_path, tmp_path / "out", "svg", COLUMN)
    names = "front selection ramp training timeline layers profiles importance interactions slices"
    assert [path.name for path in written] == [f"{name}.svg" for name in names.split()]
    assert all(path.read_bytes().startswith(b"<?xml") for path in written)
    (tmp_path / "layers.parquet").unlink()
    assert set(figures_of(tmp_path, COLUMN)) == set(names.split()) - {"layers", "profiles"}
    with pytest.raises(UserError, match="--format gif: allowed: png, pdf, svg"):
        write_figures(tmp_path, tmp_path, "gif")
    with pytest.raises(UserError, match="--width 1: allowed: 2 to 40 inches"):
        write_figures(tmp_path, tmp_path, width=1)
