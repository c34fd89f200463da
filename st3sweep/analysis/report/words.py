"""Sum up runs in sentences that an engineer could send to a colleague."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from st3sweep.analysis.fronts import OBJECTIVES, Objectives, finished, front, is_replicate
from st3sweep.analysis.plots import METRICS
from st3sweep.analysis.selection import selection_bias
from st3sweep.util.text import format_flops

_NAME = 60  # characters of a name
WITHIN = 1.0  # points of accuracy that the recommended trial may be below the best one


def summary(trials: pd.DataFrame, objectives: Objectives, more: list[str]) -> list[str]:
    """Return the summary, a paragraph a string; ``trials`` have the columns of ``data._with_seeds`` too.

    ``more`` are sentences about published points and settings, "" where there is nothing to say.
    """
    if trials.empty:
        return ["No trial has begun yet."]
    members = front(trials, objectives)
    if members.empty:
        return [_what_ran(trials), "No trial has finished, so there is no front yet.", *_failures(trials)]
    found = [_dense(trials), _range(members, objectives), _recommended(members, objectives), *more]
    what_ran = " ".join([_what_ran(trials), *_failures(trials)])
    return [what_ran, *filter(None, found), _selection(trials, objectives)]


def recommended(members: pd.DataFrame, objectives: Objectives = OBJECTIVES) -> Any:
    """Return the label of the cheapest row of a front whose accuracy is within ``WITHIN`` points of the best.

    For another measure than accuracy, that of the best row.
    """
    if objectives != OBJECTIVES:
        return members.index[-1]
    best = members["val_top1"].max()
    return members.index[(members["val_top1"] >= best - WITHIN).to_numpy()][0]


def named(row: Any, several_runs: bool = False) -> str:
    """Return what a trial is, for use within a sentence: trial 17 (ST-3σ at 90 % sparsity)."""
    run = f"{row['run']}/" if several_runs else ""
    sparsity = "" if row["method"] == "dense" else f" at {100 * row['sparsity']:.4g} % sparsity"
    return f"trial {run}{row['trial']} ({_shortened(row['method'], _NAME)}{sparsity})"


def _what_ran(trials: pd.DataFrame) -> str:
    counts = trials["status"].value_counts()
    states = {"finished": "finished", "stopped": "stopped early", "failed": "failed", "running": "not ended"}
    parts = [f"{counts[state]:,} {words}" for state, words in states.items() if counts.get(state)]
    if len(parts) == 1 and len(trials) > 1:
        parts = [f"all {next(words for state, words in states.items() if counts.get(state))}"]
    methods = _names(trials["method"])
    named_methods = (
        f" of {_list(methods)}" if 0 < len(methods) <= 4 else f" of {len(methods)} methods" if methods else ""
    )
    models, datasets = (_list(_names(trials[column])) for column in ("model", "dataset"))
    runs = trials["run"].nunique()
    where = f" in {runs} runs" if runs > 1 else ""
    repeats = int(is_replicate(trials).sum())
    seeds = f" {_count(repeats, 'of them repeats', 'of them repeat')} another trial with a new seed." if repeats else ""
    started = f"{_count(len(trials), 'trial', 'trials')}{named_methods} of {models} on {datasets}{where}"
    return f"{started}: {_list(parts)}.{seeds}"


def _names(values: pd.Series) -> list[str]:
    return [_shortened(name, _NAME) for name in sorted(values.dropna().unique())]


def _failures(trials: pd.DataFrame) -> list[str]:
    failed = trials[trials["status"] == "failed"]
    if failed.empty:
        return []
    reason = failed["error"].fillna("no reason recorded").mode().iloc[0]
    return [f"The most frequent error is: {_shortened(reason)}"]


def _dense(trials: pd.DataFrame) -> str:
    rows = finished(trials)
    cost = rows["gflops_dense"].dropna().unique()
    if len(cost) != 1:
        return ""
    dense = rows[(rows["method"] == "dense") & rows["val_top1"].notna()]
    if dense.empty:
        unknown = "no dense trial was trained, so its accuracy is not known"
        return f"The dense model costs {format_flops(cost[0])} an image; {unknown}."
    over = f", the mean of {len(dense)} seeds" if len(dense) > 1 else ""
    return f"The dense model reaches {_accuracies(dense.mean(numeric_only=True))} at {format_flops(cost[0])}{over}."


def _range(members: pd.DataFrame, objectives: Objectives) -> str:
    low, high = members.iloc[0], members.iloc[-1]
    if len(members) == 1:
        return f"One trial dominates all others: {_described(high, objectives)}."
    return (
        f"The front has {len(members)} trials, from {_described(low, objectives)}, to {_described(high, objectives)}."
    )


def _recommended(members: pd.DataFrame, objectives: Objectives) -> str:
    row = members.loc[recommended(members, objectives)]
    if objectives != OBJECTIVES or row.name == members.index[-1]:
        return ""
    fewer = row["gflops_dense"] / row["gflops"] if row["gflops"] else math.inf
    times = f", {fewer:.3g} times fewer than the dense model" if math.isfinite(fewer) else ""
    return f"The cheapest within {WITHIN:g} point of the best is {_described(row, objectives, times)}."


def _selection(trials: pd.DataFrame, objectives: Objectives) -> str:
    said = "Trials are selected by validation accuracy; test accuracy is reported beside it and selects nothing."
    if objectives != OBJECTIVES:
        return f"Trials are selected by {_measure(objectives)[0]}."
    try:
        table = selection_bias(trials)
    except ValueError:
        return said
    bias = table["bias"].mean()
    if not bias >= 0.005:
        return said
    too_high = f"are expected {bias:.2f} points or more too high (noise: {table['noise'].iloc[0]})"
    return f"{said} Being the best of many noisy values, the front's validation accuracies {too_high}."


def _described(row: Any, objectives: Objectives, times: str = "") -> str:
    seeds = ""
    if pd.notna(row["seed_count"]) and row["seed_count"] > 1:
        seeds = f" (mean of its {row['seed_count']:.0f} seeds: {row['seed_mean']:.2f} ± {row['seed_half']:.2f})"
    return f"{named(row)} with {_reached(row, objectives)} at {format_flops(row['gflops'])}{times}{seeds}"


def _reached(row: Any, objectives: Objectives) -> str:
    if objectives == OBJECTIVES:
        return _accuracies(row)
    label, key = _measure(objectives)
    return f"{label} {row[key]:.4g}"


def _accuracies(row: Any) -> str:
    test = row["test_top1"]
    beside = f" ({test:.2f} % test)" if pd.notna(test) else ""
    return f"{row['val_top1']:.2f} % validation accuracy{beside}"


def _measure(objectives: Objectives) -> tuple[str, str]:
    key = next(column for column, _ in objectives if column != "gflops")
    return METRICS.get(key, key.replace("_", " ")), key


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _list(parts: list[str]) -> str:
    if len(parts) < 2:
        return "".join(parts) or "unknown"
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def _shortened(text: str, most: int = 160) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[:most]}…"
