"""Say in plain words what a run's front beats: published points, or the front of another run.

One point beats another if it costs no more and its test accuracy is higher, with 95 % confidence over seeds. A model's
own metric may take the place of accuracy.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pandas as pd
from scipy.special import stdtrit

from st3sweep.analysis import noise
from st3sweep.analysis.fronts import OBJECTIVES, Objectives, front
from st3sweep.analysis.seeds import over_seeds
from st3sweep.util.text import flops_unit, format_flops

COLUMNS = [
    "own", "against", "own_top1", "against_top1", "difference", "low", "high", "basis", "seeds", "against_seeds",
    "images", "own_gflops", "against_gflops", "verdict", "remark",
]  # fmt: skip


class _Point(NamedTuple):
    name: str
    top1: float  # mean over its seeds of test accuracy in percent, or of the own metric, negative if less is better
    seeds: int
    error: float  # standard error of the mean; NaN for one seed
    gflops: float
    remark: str = ""


def dominance(
    trials: pd.DataFrame,
    others: pd.DataFrame,
    test_images: int | None = None,
    objectives: Objectives = OBJECTIVES,
) -> pd.DataFrame:
    """Compare the front of ``trials`` with each of ``others``: a row for each of these, in their order.

    Args:
        trials: the table of a run, or of several.
        others: rows of ``tables.published()``, or the table of another run, of which the front is taken.
        test_images: size of the test set; by default that of the dataset of ``trials``, where it has an official one.
        objectives: what the front is of: ``val_top1`` or an own ``val_<metric>`` with its goal, and gflops. Then
            ``test_<metric>`` is compared, the columns are named for it (``own_f1`` for own_top1), and there is no
            binomial interval; published points, which lack the metric, are refused.

    The own point of a row is the most accurate on the front (by validation) that costs no more; where the other point
    is the better one, the cheapest that costs no less. Columns:

    - own, against: what the points are; own_top1, against_top1: test accuracy, mean over seeds, in percent;
    - difference: own minus other, in points, with its 95 % interval low to high, by Student's t with the deviation
      between seeds pooled of both. A published point counts as one training of the same deviation;
    - basis: "seeds"; "binomial" where both have one seed, for an interval from the size of the test set alone. It
      leaves out the variation between seeds, so the noise is larger; "" where the size is unknown too;
    - seeds, against_seeds, images (of the test set), own_gflops, against_gflops;
    - verdict: "beats", "beaten", "cannot be told" (the interval spans 0, or has not the basis "seeds"), "neither" (the
      one that costs less is less accurate), "no cost" (of the other point is known);
    - remark: that of the published point.

    Raises ValueError if either table has several models or datasets, or the two differ in them, or lacks the metric.
    """
    _check_task(trials, others)
    (metric, goal), *rest = objectives
    test, is_own = "test_" + metric.removeprefix("val_"), metric != OBJECTIVES[0][0]
    if rest != [OBJECTIVES[1]] or not metric.startswith("val_"):
        raise ValueError(f"the objectives must be a val_ metric and gflops, but got {objectives}")
    for name, table in (("the trials", trials), ("the others", others)):
        if test not in table:
            raise ValueError(f"{name} have no column {test}")
    known = noise.test_images(trials) if test_images is None else test_images
    images = None if is_own else known
    own = _points_of_front(trials, objectives, named="run" in trials and trials["run"].nunique() > 1)
    if "status" in others:
        theirs = _points_of_front(others, objectives, named="run" in others)
    else:
        theirs = _published_points(others)
    table = pd.DataFrame([_compare(own, other, images) for other in theirs], columns=COLUMNS)
    if not is_own:
        return table
    if goal == "min":
        table = _mirrored(table)
    short = metric.removeprefix("val_")
    return table.rename(columns={"own_top1": f"own_{short}", "against_top1": f"against_{short}"})


def sentences(table: pd.DataFrame) -> list[str]:
    """Return a sentence for each row of ``dominance``."""
    names = [str(name) for name in table if str(name).startswith("own_") and name != "own_gflops"]
    named = [name.removeprefix("own_") for name in names]
    metric = named[0] if named else "top1"
    rows = table.rename(columns={f"own_{metric}": "own_top1", f"against_{metric}": "against_top1"})
    return [_sentence(row, metric) for row in rows.itertuples(index=False)]


def _mirrored(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table of negated values as that of the values: differences and their limits change sign."""
    return table.assign(
        own_top1=-table["own_top1"],
        against_top1=-table["against_top1"],
        difference=-table["difference"],
        low=-table["high"],
        high=-table["low"],
    )


def _compare(own: list[_Point], other: _Point, images: int | None) -> dict[str, Any]:
    unknown = {
        "against": other.name, "against_top1": other.top1, "against_gflops": other.gflops, "remark": other.remark,
    }  # fmt: skip
    if math.isnan(other.gflops):
        return {**unknown, "verdict": "no cost"}
    # Along the front accuracy rises with cost: the last that costs no more is the best, the first that costs no less
    # is the easiest to beat.
    cheaper = [_row(point, other, images) for point in own if point.gflops <= other.gflops][-1:]
    dearer = [_row(point, other, images) for point in own if point.gflops >= other.gflops][:1]
    for rows, sign in ((cheaper, 1), (dearer, -1)):
        for row in rows:
            if row["basis"] == "seeds" and min(sign * row["low"], sign * row["high"]) > 0:
                return {**row, "verdict": "beats" if sign > 0 else "beaten"}
    for rows, sign in ((cheaper, 1), (dearer, -1)):
        for row in rows:
            if sign * row["difference"] > 0 or row["low"] <= 0 <= row["high"]:
                return {**row, "verdict": "cannot be told"}
    return {**(cheaper + dearer)[0], "verdict": "neither"} if own else {**unknown, "verdict": "neither"}


def _row(own: _Point, other: _Point, images: int | None) -> dict[str, Any]:
    difference = own.top1 - other.top1
    half, basis = _half_width(own, other, images)
    return {
        "own": own.name, "against": other.name, "own_top1": own.top1, "against_top1": other.top1,
        "difference": difference, "low": difference - half, "high": difference + half, "basis": basis,
        "seeds": own.seeds, "against_seeds": other.seeds, "images": images, "own_gflops": own.gflops,
        "against_gflops": other.gflops, "remark": other.remark,
    }  # fmt: skip


def _half_width(own: _Point, other: _Point, images: int | None) -> tuple[float, str]:
    """Return half of the 95 % interval of the difference of two means, in points, and its basis."""
    freedom = own.seeds + other.seeds - 2
    if freedom > 0:
        squares = sum((one.seeds - 1) * one.seeds * one.error**2 for one in (own, other) if one.seeds > 1)
        error = math.sqrt(squares / freedom * (1 / own.seeds + 1 / other.seeds))
        return float(stdtrit(freedom, 0.975)) * error, "seeds"
    if images is None:
        return math.nan, ""
    return 1.959964 * math.hypot(*noise.binomial_deviation([own.top1, other.top1], images)), "binomial"


def _points_of_front(trials: pd.DataFrame, objectives: Objectives, *, named: bool) -> list[_Point]:
    """Return the front, cheapest first, each with the name of its run if ``named``; only trials with a test value."""
    (metric, goal), _ = objectives
    test, sign = "test_" + metric.removeprefix("val_"), 1 if goal == "max" else -1
    rows = front(over_seeds(trials.dropna(subset=[test]), test), objectives)
    return [
        _Point(
            f"{row['run'] + '/' if named else ''}trial {row['trial']} ({row['method']} at {_percent(row['sparsity'])})",
            sign * float(row["mean"]), int(row["seeds"]), float(row["standard_error"]), float(row["gflops"]),
        )
        for _, row in rows.iterrows()
    ]  # fmt: skip


def _published_points(points: pd.DataFrame) -> list[_Point]:
    return [
        _Point(_published_name(row), float(row["test_top1"]), 1, math.nan, float(row["gflops"]), row["remark"])
        for _, row in points.iterrows()
    ]


def _published_name(row: pd.Series) -> str:
    return "the dense model" if row["method"] == "dense" else f"{row['method']} at {_percent(row['sparsity'])}"


def _percent(sparsity: float) -> str:
    return f"{100 * sparsity:.4g} %"


def _check_task(trials: pd.DataFrame, others: pd.DataFrame) -> None:
    for column in ("model", "dataset"):
        found = sorted({*trials[column].dropna(), *others[column].dropna()})
        if len(found) > 1:
            raise ValueError(f"a comparison needs one {column}, but got {', '.join(found)}")


def _sentence(row: Any, metric: str) -> str:
    suspect = f" ({row.remark})" if row.remark else ""
    of_percent = metric == "top1"
    value = f"{row.against_top1:.2f} %" if of_percent else f"{metric} {row.against_top1:.4g}"
    if row.verdict == "no cost":
        return f"{row.against} ({value}): no cost was published, so it cannot be compared{suspect}"
    if not isinstance(row.own, str):
        return f"{row.against} ({value}): no finished trial to compare it with{suspect}"
    cost, digits, unit = (
        _cost(row.own_gflops, row.against_gflops),
        *((".2f", "points") if of_percent else (".4g", metric)),
    )
    interval = "" if math.isnan(row.low) else f"{row.low:+{digits}} to {row.high:+{digits}}"
    if row.verdict in ("beats", "beaten"):
        verb = "beats" if row.verdict == "beats" else "is beaten by"
        # Of accuracies the winner's lead, which is above 0; of an own metric, of which less may be better, the change.
        turned = of_percent and row.verdict == "beaten"
        lead, low, high = (-row.difference, -row.high, -row.low) if turned else (row.difference, row.low, row.high)
        seeds = f"seeds: {row.seeds:.0f} and {row.against_seeds:.0f}"
        spread = f"95 % interval {low:+{digits}} to {high:+{digits}}; {seeds}"
        return f"{row.own} {verb} {row.against} by {lead:+{digits}} {unit} ({spread}) at {cost}{suspect}"
    claim = f"{row.own} against {row.against}: {row.difference:+{digits}} {unit} at {cost}"
    return f"{claim}; {_why(row, interval, metric)}{suspect}"


def _why(row: Any, interval: str, metric: str) -> str:
    if row.verdict == "neither":
        return "neither beats the other"
    if row.basis == "seeds":
        return f"cannot be told, since the 95 % interval {interval} spans 0"
    if row.basis == "binomial":
        half = (row.high - row.low) / 2
        within = ", more than the difference" if row.low <= 0 <= row.high else ""
        least = f"the test images alone give ±{half:.2f} (binomial, {row.images:,.0f})"
        return f"cannot be told: one seed each; {least}{within}"
    images = ", and the number of test images is not known" if metric == "top1" else ""
    return f"cannot be told: one seed each{images}"


def _cost(own: float, other: float) -> str:
    if own == other:
        return f"equal cost ({format_flops(own)})"
    if other == 0 or own / other >= 2:
        unit, scale = flops_unit(max(own, other))
        return f"{scale * own:.3g} in place of {scale * other:.3g} {unit}"
    change = 100 * (own / other - 1)
    digits = f"{abs(change):.0f}" if abs(change) >= 10 else f"{abs(change):.2g}"
    return f"{digits} % {'fewer' if change < 0 else 'more'} GFLOPs"
