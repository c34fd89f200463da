"""Test published points: those of a user's file, its mistakes, and points whose cost is not known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from st3sweep.analysis import plots
from st3sweep.analysis.published_plots import plot_published
from st3sweep.analysis.published_points import PUBLISHED_COLUMNS, published
from st3sweep.util.errors import UserError

HEADER = "model,dataset,method,top1,sparsity,mmacs,source,remark"


def csv(folder: Path, *lines: str, header: str = HEADER) -> Path:
    path = folder / "mine.csv"
    path.write_text("\n".join([header, *lines, ""]), encoding="utf-8")
    return path


def test_rows_of_a_file_come_after_the_package_s(tmp_path: Path) -> None:
    path = csv(tmp_path, "resnet50,imagenet,Mine,77.5,90,400,my paper,", "resnet20,cifar10,Mine,92,90,,lab,draft")
    points = published(more=path)
    assert len(points) == len(published()) + 2
    assert points.tail(2)[["method", "test_top1", "sparsity"]].values.tolist() == [
        ["Mine", 77.5, 0.9],
        ["Mine", 92, 0.9],
    ]
    assert points.tail(2)["gflops"].tolist() == [0.4, pytest.approx(np.nan, nan_ok=True)]
    assert points.tail(2)["remark"].tolist() == ["", "draft"]
    assert published("resnet20", "cifar10", more=[str(path), path])["method"].tolist() == ["Mine", "Mine"]
    assert published("resnet20", "cifar10").empty


def test_a_file_without_remarks_in_another_order(tmp_path: Path) -> None:
    path = csv(tmp_path, "lab,12,50,91,M,cifar10,resnet20", header="source,mmacs,sparsity,top1,method,dataset,model")
    (row,) = published("resnet20", "cifar10", more=path).values.tolist()
    assert row == ["resnet20", "cifar10", "M", 91.0, 0.5, 0.012, "lab", ""]
    assert list(published(more=path).columns) == PUBLISHED_COLUMNS


GOOD = "resnet50,imagenet,Mine,77.5,90,400,my paper,"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            "resnet50,imagenet,Mine,abc,90,400,x,",
            r"mine\.csv:3: top1: 'abc' is not allowed; allowed: percent, 0 to 100",
        ),
        ("resnet50,imagenet,Mine,101,90,400,x,", r"mine\.csv:3: top1: '101' is not allowed"),
        ("resnet50,imagenet,Mine,,90,400,x,", r"mine\.csv:3: top1: '' is not allowed"),
        ("resnet50,imagenet,Mine,70,100,400,x,", r"mine\.csv:3: sparsity: '100' .* below 100"),
        ("resnet50,imagenet,Mine,70,nan,400,x,", r"mine\.csv:3: sparsity: 'nan'"),
        ("resnet50,imagenet,Mine,70,90,0,x,", r"mine\.csv:3: mmacs: '0' .* or empty if unknown"),
        ("resnet50,imagenet,Mine,70,90,inf,x,", r"mine\.csv:3: mmacs: 'inf'"),
        ("resnet50,,Mine,70,90,400,x,", r"mine\.csv:3: dataset: is empty"),
        ("resnet50,imagenet,Mine,70,90", r"mine\.csv:3: source: is empty"),
        ("resnet50,imagenet,Mine,70,90,400,x,,more", r"mine\.csv:3: more values than columns: more"),
    ],
)
def test_a_mistake_is_named_with_file_line_column_and_value(tmp_path: Path, bad: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        published(more=csv(tmp_path, GOOD, bad))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (HEADER.replace("mmacs", "macs"), r"mine\.csv:1: macs: no such column; did you mean mmacs\?"),
        (HEADER.replace(",mmacs", ""), r"mine\.csv:1: mmacs: column missing"),
        (HEADER.replace("mmacs", "top1"), r"mine\.csv:1: top1: the column is there twice"),
        ("", r"mine\.csv:1: model: column missing"),
    ],
)
def test_a_wrong_header_is_named(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        published(more=csv(tmp_path, header=header))


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.csv: cannot be read \(No such file or directory\)"):
        published(more=tmp_path / "gone.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(UserError, match=r"bytes\.csv: not a CSV file in UTF-8"):
        published(more=tmp_path / "bytes.csv")


def test_newer_points_are_there_without_a_cost() -> None:
    newer = published("resnet50", "imagenet").query("method in ('Feather', 'AC/DC')")
    assert newer[["method", "sparsity", "test_top1"]].values.tolist() == [
        ["Feather", 0.9, 76.93], ["AC/DC", 0.8, 76.45], ["AC/DC", 0.9, 75.03], ["AC/DC", 0.95, 73.14],
        ["AC/DC", 0.98, 68.48],
    ]  # fmt: skip
    assert newer["gflops"].isna().all()
    assert newer["remark"].str.startswith("sources differ").tolist() == [False, True, False, False, True]
    assert newer["source"].str.contains("arXiv 2310.02448|IST-DASLab/ACDC").all()


def notes(figure: Figure) -> str:
    """Return the texts of a figure outside its panels, title and notes, each in one line."""
    return "\n".join(" ".join(text.get_text().split()) for text in figure.texts)


def trials() -> pd.DataFrame:
    common = {"status": "finished", "method": "ST-3", "model": "resnet50", "dataset": "imagenet", "sparsity": 0.9}
    row = {
        "trial": 0,
        "val_top1": 76.0,
        "test_top1": 76.0,
        "gflops": 0.8,
        "gflops_dense": 4.089,
        "sparsity_target": 0.9,
    }
    return pd.DataFrame([{**common, **row}])


def test_plots_over_cost_name_the_points_that_have_none() -> None:
    figure = plots.plot_run(trials())
    assert "not drawn over cost: 5 points of unknown cost (Feather, AC/DC)" in notes(figure)
    drawn = [line for line in figure.axes[1].lines if line.get_linestyle() == ":" and len(line.get_xydata())]
    assert sum(len(line.get_xydata()) for line in drawn) == published("resnet50", "imagenet")["gflops"].notna().sum()
    assert not [line for line in drawn if "Feather" in str(line.get_label())]
    beside = {text.get_text(): text.xy for text in figure.axes[1].texts}  # type: ignore[attr-defined]
    assert beside["STR"] == pytest.approx((0.0447, 50.37), abs=0.05), "at the cheap end of its line"
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    named = {text for text in beside if f"{text}, published" not in legend}
    assert named | {text.removesuffix(", published") for text in legend} >= set(published("resnet50")["method"]) - {
        "Feather", "AC/DC"
    }  # fmt: skip
    with_cost = published("mobilenet_v1", "imagenet").dropna(subset=["gflops"])
    without = plots.plot_front(trials(), metric="test_top1", published=with_cost)
    assert "not drawn" not in notes(without)


def test_a_plot_of_points_that_all_lack_a_cost(tmp_path: Path) -> None:
    points = published("resnet50", "imagenet").query("method == 'Feather'")
    assert "not drawn over cost: 1 point of unknown cost (Feather)" in notes(
        plots.plot_front(trials(), metric="test_top1", published=points)
    )
    plots.save(plot_published(points), tmp_path / "points.png")


@pytest.mark.parametrize("model", ["resnet50", "mobilenet_v1"])
def test_published_figure_holds_every_point(model: str) -> None:
    points = published(model, "imagenet")
    sparse = points[points["method"] != "dense"]
    figure = plot_published(points)
    left, right = figure.axes
    for axes, wanted in (
        (left, zip(100 * (1 - sparse["sparsity"]), sparse["test_top1"], strict=True)),
        (right, sparse.dropna(subset=["gflops"])[["gflops", "test_top1"]].itertuples(index=False)),
    ):
        marks = [line for line in axes.lines if line.get_linestyle() == "None"]
        drawn = sorted(tuple(map(float, point)) for line in marks for point in line.get_xydata())
        np.testing.assert_allclose(drawn, sorted(tuple(map(float, point)) for point in wanted))
        low, high = axes.get_ylim()
        assert low < sparse["test_top1"].max() < high
        assert len({line.get_ydata()[0] for line in axes.lines if str(line.get_label()).endswith("dense")}) == 1
    assert left.get_xlim()[0] > left.get_xlim()[1], "sparsity rises to the right"
    hollow = [line for line in left.lines if line.get_markerfacecolor() == "white"]
    assert sum(len(line.get_xydata()) for line in hollow) == (sparse["remark"] != "").sum()
    told = {text.get_text() for axes in figure.axes for text in axes.texts}
    told |= {text.get_text() for legend in figure.legends for text in legend.get_texts()}
    assert told == set(points["method"]), "each is named, in a panel or in the legend"
    figure.draw_without_rendering()
    assert "90" in [tick.get_text() for tick in left.get_xticklabels()]


def test_a_figure_is_of_one_model() -> None:
    with pytest.raises(ValueError, match="one model a figure, but got mobilenet_v1, resnet50"):
        plot_published(published())
    with pytest.raises(ValueError, match="no published point of a sparse model"):
        plot_published(published("resnet50").query("method == 'dense'"))
