"""Test comparisons of fronts: verdicts and intervals by hand, and the words for them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import st3sweep
from st3sweep.analysis.dominance import dominance, sentences
from st3sweep.cli import app
from st3sweep.commands.against import points_against
from st3sweep.runs.tables import table_path, write_table
from st3sweep.util.errors import UserError

T_2 = 4.302653  # Student's t at 97.5 % with two degrees of freedom
TASK = {"model": "resnet50", "dataset": "imagenet"}
Rows = list[tuple[float, float, list[float]]]


def rows_of(rows: Rows, **more: Any) -> list[dict[str, Any]]:
    """Return trials from (sparsity, gflops, test accuracies of its seeds); the first seed is the trial's own."""
    found: list[dict[str, Any]] = []
    for sparsity, gflops, tests in rows:
        own = len(found)
        for test in tests:
            one = {"val_top1": tests[0] - 1, "test_top1": test, "gflops": gflops, "gflops_dense": 4.089}
            of = None if len(found) == own else own
            found.append({
                "trial": len(found), "replicate_of": of, "method": "ST-3", "status": "finished", "sparsity": sparsity,
                "sparsity_target": sparsity, "seed": len(found) - own, **one, **TASK, **more,
            })  # fmt: skip
    return found


def run_of(*rows: tuple[float, float, list[float]], **more: Any) -> pd.DataFrame:
    return pd.DataFrame(rows_of(list(rows), **more))


def point(test: float, gflops: float, method: str = "STR", remark: str = "") -> pd.DataFrame:
    row = {"method": method, "test_top1": test, "sparsity": 0.9023, "gflops": gflops, "source": "x", "remark": remark}
    return pd.DataFrame([{**TASK, **row}])


def test_a_clear_win_over_seeds_by_hand() -> None:
    trials = run_of((0.9, 0.302, [75.5, 75.6, 75.7]))
    table = dominance(trials, point(74.31, 0.343))
    (row,) = table.itertuples()
    # Three seeds of deviation 0.1, and the published training as a fourth of the same deviation.
    half = T_2 * 0.1 * math.sqrt(1 / 3 + 1)
    assert (row.difference, row.low, row.high) == pytest.approx((1.29, 1.29 - half, 1.29 + half), abs=1e-6)
    assert (row.verdict, row.basis, row.seeds, row.against_seeds) == ("beats", "seeds", 3, 1)
    assert sentences(table) == [
        "trial 0 (ST-3 at 90 %) beats STR at 90.23 % by +1.29 points (95 % interval +0.79 to +1.79; seeds: 3 and 1)"
        " at 12 % fewer GFLOPs"
    ]


def test_an_interval_that_spans_zero_cannot_be_told() -> None:
    table = dominance(run_of((0.9, 0.302, [73.0, 74.5, 76.0])), point(74.31, 0.343))
    assert table["verdict"].tolist() == ["cannot be told"]
    (sentence,) = sentences(table)
    assert sentence.startswith("trial 0 (ST-3 at 90 %) against STR at 90.23 %: +0.19 points at 12 % fewer GFLOPs; ")
    assert sentence.endswith("cannot be told, since the 95 % interval -7.26 to +7.64 spans 0")


@pytest.mark.parametrize(("test", "spans"), [(75.6, False), (74.4, True)])
def test_one_seed_cannot_be_told_and_says_the_least_noise(test: float, spans: bool) -> None:
    table = dominance(run_of((0.9, 0.302, [test])), point(74.31, 0.343))
    half = 1.959964 * math.sqrt(2 * 0.25 * 0.75 / 50_000) * 100  # about 75 % correct of ImageNet's 50,000
    assert table[["verdict", "basis"]].values.tolist() == [["cannot be told", "binomial"]]
    assert (table["high"] - table["low"])[0] / 2 == pytest.approx(half, rel=0.01)
    (sentence,) = sentences(table)
    assert "cannot be told: one seed each; the test images alone give ±0.54 (binomial, 50,000)" in sentence
    assert sentence.endswith("more than the difference") == spans


def test_one_seed_on_a_test_set_of_unknown_size() -> None:
    trials, other = run_of((0.9, 0.302, [75.6])).assign(dataset="own"), point(74.31, 0.343).assign(dataset="own")
    assert sentences(dominance(trials, other))[0].endswith("the number of test images is not known")
    known = dominance(trials, other, test_images=100)
    assert (known["high"] - known["low"])[0] / 2 == pytest.approx(19.59964 * math.sqrt(2 * 0.75 * 0.25), rel=0.02)
    assert "(binomial, 100), more than the difference" in sentences(known)[0]


def test_a_point_that_is_cheaper_and_better_beats_the_cheapest_that_costs_no_less() -> None:
    trials = run_of((0.95, 0.2, [71.0, 71.1, 71.2]), (0.9, 0.4, [73.0, 73.1, 73.2]), (0.8, 0.8, [76.0, 76.1, 76.2]))
    table = dominance(trials, point(74.31, 0.343))
    assert table[["own", "verdict"]].values.tolist() == [["trial 3 (ST-3 at 90 %)", "beaten"]]
    assert sentences(table)[0].startswith("trial 3 (ST-3 at 90 %) is beaten by STR at 90.23 % by +1.21 points (")
    assert sentences(table)[0].endswith(" at 17 % more GFLOPs")


def test_the_most_accurate_trial_that_costs_no_more_is_compared() -> None:
    trials = run_of((0.95, 0.2, [74.5, 74.5, 74.6]), (0.9, 0.343, [75.0, 75.1, 75.2]), (0.8, 0.8, [76.0, 76.1, 76.2]))
    table = dominance(trials, point(74.31, 0.343))
    assert table[["own", "verdict"]].values.tolist() == [["trial 3 (ST-3 at 90 %)", "beats"]]
    assert sentences(table)[0].endswith("at equal cost (0.343 GFLOPs)")


def test_a_trade_off_is_neither() -> None:
    trials = run_of((0.95, 0.1, [70.0, 70.1, 70.2]), (0.8, 0.8, [76.0, 76.1, 76.2]))
    table = dominance(trials, point(74.31, 0.343))
    assert table[["own", "verdict"]].values.tolist() == [["trial 0 (ST-3 at 95 %)", "neither"]]
    assert sentences(table)[0].endswith("-4.21 points at 71 % fewer GFLOPs; neither beats the other")


def test_every_point_has_a_row_also_without_a_cost_or_a_trial() -> None:
    points = pd.concat([point(76.93, np.nan, "Feather"), point(64.5, 0.164, remark="suspect: 64 or 68")])
    table = dominance(run_of((0.9, 0.1, [75.0, 75.1, 75.2])), points)
    assert table["verdict"].tolist() == ["no cost", "beats"]
    first, second = sentences(table)
    assert first == "Feather at 90.23 % (76.93 %): no cost was published, so it cannot be compared"
    assert second.endswith("(suspect: 64 or 68)")
    nothing = dominance(run_of((0.9, 0.1, [75.0]), status="failed"), points)
    assert nothing["verdict"].tolist() == ["no cost", "neither"]
    assert sentences(nothing)[1] == (
        "STR at 90.23 % (64.50 %): no finished trial to compare it with (suspect: 64 or 68)"
    )


def test_two_runs_with_pooled_seeds_by_hand() -> None:
    ours, theirs = run_of((0.9, 0.3, [75.0, 75.2])), run_of((0.9, 0.4, [73.0, 73.4]), (0.8, 4.0, [79.0]))
    table = dominance(ours, theirs)
    assert table["verdict"].tolist() == ["beats", "neither"]
    pooled = math.sqrt((0.02 + 0.08) / 2)  # variances of 75.0, 75.2 and of 73.0, 73.4, one degree of freedom each
    assert table["difference"][0] == pytest.approx(1.9)
    assert table["high"][0] - table["difference"][0] == pytest.approx(T_2 * pooled, rel=1e-6)  # · √(1/2 + 1/2)
    assert table["against"].tolist() == ["trial 0 (ST-3 at 90 %)", "trial 2 (ST-3 at 80 %)"]
    assert sentences(dominance(run_of((0.9, 0.3, [75.0])), point(70.0, 0.09)))[0].endswith(
        "+5.00 points at 0.3 in place of 0.09 GFLOPs; neither beats the other"
    )


def test_tasks_are_not_mixed() -> None:
    with pytest.raises(ValueError, match="one model, but got resnet50, vgg11"):
        dominance(run_of((0.9, 0.3, [75.0])), point(74.31, 0.343).assign(model="vgg11"))


def write(folder: Path, rows: Rows, **more: Any) -> Path:
    folder.mkdir()
    (folder / "resolved.yaml").write_text("{}\n")
    write_table(table_path(folder, "trials"), "trials", rows_of(rows, **more))
    return folder


def test_pareto_prints_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = write(tmp_path / "ours", [(0.9, 0.302, [75.5, 75.6, 75.7])])
    theirs = write(tmp_path / "theirs", [(0.9, 0.4, [73.0, 73.1])])
    mine = tmp_path / "mine.csv"
    mine.write_text("model,dataset,method,top1,sparsity,mmacs,source\nresnet50,imagenet,Mine,77,90,200,lab\n")

    def printed(*words: str) -> str:
        app([*map(str, ("pareto", ours, *words))], standalone_mode=False)
        return capsys.readouterr().out

    lines = printed("--against", "published").splitlines()
    assert lines[3] == "test accuracy against published:"
    assert len(lines) == 4 + 57  # all points of ResNet-50, without or with a cost
    assert any(line.startswith("trial 0 (ST-3 at 90 %) beats STR at 90.23 % by +1.29 points") for line in lines)
    assert sum("no cost was published" in line for line in lines) == 5
    assert "trial 0 (ST-3 at 90 %) beats theirs/trial 0 (ST-3 at 90 %) by +2.55 points" in printed(
        "--against", str(theirs)
    )
    assert "is beaten by Mine at 90 % by +1.40 points" in printed("--against", str(mine))
    both = json.loads(printed("--against", str(theirs), "--json"))
    assert both["against"][0]["verdict"] == "beats"
    assert [row["trial"] for row in both["front"]] == [0]
    run = st3sweep.load_run(ours)
    assert run.compare(theirs)["verdict"].tolist() == run.compare(st3sweep.load_run(theirs))["verdict"].tolist()
    assert len(run.compare(more=mine)) == len(run.compare()) + 1


def test_what_cannot_be_compared_is_a_user_error(tmp_path: Path) -> None:
    trials, cifar = run_of((0.9, 0.3, [75.0])), {"model": "resnet20", "dataset": "cifar10"}
    other = write(tmp_path / "other", [(0.9, 0.3, [75.0])], **cifar)
    with pytest.raises(UserError, match="its model is resnet20, and not resnet50"):
        points_against(trials, str(other))
    with pytest.raises(UserError, match="no published points of resnet20 on cifar10"):
        points_against(trials.assign(**cifar), "published")
    with pytest.raises(UserError, match="the trials are of resnet20, resnet50"):
        points_against(pd.concat([trials, trials.assign(model="resnet20")]), "published")
    with pytest.raises(UserError, match="not found; is"):
        points_against(trials, str(tmp_path / "gone"))


def own_metric(values: list[list[float]], gflops: list[float]) -> pd.DataFrame:
    """Return trials with an own metric, of which less is better, and validation values equal to the first seed's."""
    trials = pd.DataFrame(rows_of([(0.9, cost, seeds) for cost, seeds in zip(gflops, values, strict=True)]))
    return trials.assign(val_error=trials["test_top1"], test_error=trials["test_top1"], val_top1=50.0, test_top1=50.0)


ERROR: Any = (("val_error", "min"), ("gflops", "min"))


def test_own_metric_where_less_is_better_by_hand() -> None:
    own = own_metric([[0.10, 0.11, 0.12], [0.05, 0.06, 0.07]], [1.0, 2.0])
    other = own_metric([[0.20, 0.21, 0.22]], [1.5])
    table = dominance(own, other, objectives=ERROR)
    half = 2.776445 * 0.01 * math.sqrt(2 / 3)  # Student's t with four degrees of freedom
    (row,) = table.itertuples()
    assert (row.own_error, row.against_error) == pytest.approx((0.11, 0.21))
    assert (row.difference, row.low, row.high) == pytest.approx((-0.10, -0.10 - half, -0.10 + half), abs=1e-6)
    assert (row.verdict, row.own_gflops) == ("beats", 1.0)
    (sentence,) = sentences(table)
    assert " by -0.1 error (95 % interval -0.1227 to -0.07733; seeds: 3 and 3) at 33 % fewer GFLOPs" in sentence
    (back,) = sentences(dominance(other, own.iloc[:3], objectives=ERROR))
    assert "is beaten by" in back
    assert " by +0.1 error (95 % interval +0.07733 to +0.1227;" in back


def test_own_metric_of_one_seed_cannot_be_told_and_needs_a_column() -> None:
    own = own_metric([[0.10]], [1.0])
    (sentence,) = sentences(dominance(own, own_metric([[0.2]], [1.0]), objectives=ERROR))
    assert sentence.endswith("-0.1 error at equal cost (1 GFLOPs); cannot be told: one seed each")
    with pytest.raises(ValueError, match="the others have no column test_error"):
        dominance(own, point(74.3, 0.3), objectives=ERROR)
    with pytest.raises(ValueError, match="must be a val_ metric and gflops"):
        dominance(own, own, objectives=(("gflops", "min"), ("val_error", "min")))
