"""Test importance, interactions and slices on measures made from known settings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from st3sweep.analysis.forests import chosen_settings, fit_forests, residual
from st3sweep.analysis.importance import importance, interactions
from st3sweep.analysis.slices import advice, slices

TOP1 = (("val_top1", "max"),)


def made(measure: Callable[[np.ndarray], Any], n: int = 80, **columns: Any) -> pd.DataFrame:
    """Return ``n`` finished trials of three settings a, b, c in [0, 1], with noise of deviation 0.3."""
    random = np.random.default_rng(0)
    settings = random.random((n, 3))
    params = [json.dumps(dict(zip("abc", map(float, row), strict=True))) for row in settings]
    values = measure(settings) + 0.3 * random.standard_normal(n)
    return pd.DataFrame({"status": "finished", "params": params, "val_top1": values, "gflops": 1.0}).assign(**columns)


def verdicts(table: pd.DataFrame) -> dict[str, str]:
    return dict(zip(table["setting"], table["verdict"], strict=True))


def test_a_setting_that_acts_matters_and_others_cannot_be_told() -> None:
    fits = fit_forests(made(lambda x: 3 * x[:, 1]), TOP1, forests=5)
    table = importance(fits)
    assert table["setting"].iloc[0] == "b", "the most important comes first"
    assert verdicts(table) == {"b": "matters", "a": "cannot be told", "c": "cannot be told"}
    # Exchanging b among the trials doubles its variance in the error: 2 × 9/12 of 9/12 + 0.3².
    assert table["importance"].iloc[0] == pytest.approx(1.8, abs=0.6)
    assert table["r2"].iloc[0] == pytest.approx(0.85, abs=0.12)
    assert (table["low"] <= table["importance"]).all()
    assert (table["importance"] <= table["high"]).all()
    curve = slices(fits)
    curve = curve[curve["setting"] == "b"]
    assert curve["value"].is_monotonic_increasing
    assert curve["mean"].iloc[-1] - curve["mean"].iloc[0] == pytest.approx(2.6, abs=0.5)
    said = advice(fits).set_index("setting")["advice"]
    assert said["b"] == "widen", "the best value is the greatest that was searched"
    assert said["a"] in ("fix", "more trials")


def test_noise_matters_to_nothing() -> None:
    table = importance(fit_forests(made(lambda x: 0 * x[:, 0]), TOP1, forests=5))
    assert set(table["verdict"]) == {"cannot be told"}
    assert table["r2"].max() < 0.1


def test_two_settings_that_act_together() -> None:
    fits = fit_forests(made(lambda x: 3 * (x[:, 0] > 0.5) * (x[:, 2] > 0.5)), TOP1, forests=5)
    table = interactions(fits)
    assert {table["first"].iloc[0], table["second"].iloc[0]} == {"a", "c"}
    assert table["verdict"].tolist() == ["matters", "cannot be told", "cannot be told"]
    # Of the effect's variance, 9 × 3/16, a third is of the two together: 3 × ±1/4.
    assert table["importance"].iloc[0] == pytest.approx((3 / 4) ** 2 / (9 * 3 / 16 + 0.09), abs=0.15)


@pytest.mark.parametrize(
    ("trials", "why"),
    [
        (made(lambda x: x[:, 0], n=19), "too few trials: 19 of the 20 needed for 3 settings"),
        (made(lambda x: x[:, 0], n=30, params="{}"), "no setting varies"),
        (made(lambda x: x[:, 0], n=30, val_top1=90.0), "val_top1 does not vary"),
    ],
)
def test_without_enough_to_learn_from_it_says_why(trials: pd.DataFrame, why: str) -> None:
    fits = fit_forests(trials, TOP1)
    assert [fit.why_none for fit in fits] == [why]
    table = importance(fits)
    assert table["importance"].isna().all()
    assert set(table["verdict"]) <= {why}
    assert slices(fits).empty
    assert set(advice(fits)["advice"]) <= {"more trials"}


def test_only_finished_trials_of_the_search_count() -> None:
    trials = made(lambda x: x[:, 0], n=40)
    trials["status"] = ["finished"] * 25 + ["stopped"] * 15
    trials["replicate_of"] = [np.nan] * 20 + [0] * 20
    (fit,) = fit_forests(trials, TOP1, forests=2)
    assert len(fit.values) == 20


def test_at_equal_cost_only_what_cost_does_not_explain_counts() -> None:
    """Accuracy is a function of cost, which b decides, and of a little of a."""
    cost = np.exp(3 * np.random.default_rng(0).random((80, 3))[:, 1])
    trials = made(lambda x: 9 * x[:, 1] + 2 * (x[:, 0] > 0.5), gflops=cost)
    fits = fit_forests(trials, forests=5)
    table = importance(fits)
    assert table["of"].drop_duplicates().tolist() == ["val_top1", "gflops", "val_top1 at equal gflops"]
    first = table.groupby("of", sort=False).first()["setting"]
    assert first.to_dict() == {"val_top1": "b", "gflops": "b", "val_top1 at equal gflops": "a"}
    assert advice(fits).set_index("setting")["advice"]["b"] == "keep"


def test_residual_is_what_is_above_the_usual() -> None:
    cost = np.geomspace(0.1, 10, 20)
    usual = 70 + 5 * np.log(cost)
    values = usual.copy()
    values[7] -= 50  # collapsed
    found = residual(values, cost)
    assert found[7] == pytest.approx(-50, abs=1)
    assert np.delete(found, 7) == pytest.approx(0, abs=0.5)
    assert np.isnan(residual(np.array([90.0, 91, 92, 93]), np.array([0.0, np.nan, 1, 2]))).all(), (
        "two known are too few"
    )
    bent = 80 - 3 * np.maximum(0, -np.log(np.geomspace(0.1, 10, 60)))
    assert np.abs(residual(bent, np.geomspace(0.1, 10, 60))).max() < 0.6


def test_settings_of_every_kind() -> None:
    params = [{"lr": 0.1, "soft": True, "same": 1}, {"lr": 0.2, "kind": "x", "soft": False, "same": 1}, None]
    table = chosen_settings(pd.DataFrame({"params": [None if one is None else json.dumps(one) for one in params]}))
    assert table["lr"].tolist()[:2] == [0.1, 0.2]
    assert table["soft"].tolist()[:2] == ["true", "false"]
    assert table["kind"].isna().tolist() == [True, False, True]
    constant = chosen_settings(pd.DataFrame({"params": ['{"same": 1, "lr": 1}', '{"same": 1, "lr": 2}']}))
    assert list(constant) == ["lr"]


def test_a_choice_and_a_setting_that_only_some_trials_have() -> None:
    random = np.random.default_rng(1)
    methods = random.choice(["st3", "gmp", "str"], 90)
    params = []
    for name in methods.tolist():
        own = {"beta": float(random.random())} if name == "str" else {}
        params.append(json.dumps({"method": name, "lr": float(random.random()), **own}))
    values = 2.0 * (methods == "st3") + 0.2 * random.standard_normal(90)
    trials = pd.DataFrame({"status": "finished", "params": params, "val_top1": values, "gflops": 1.0})
    fits = fit_forests(trials, TOP1, forests=5)
    assert verdicts(importance(fits))["method"] == "matters"
    along = slices(fits)
    levels = along[along["setting"] == "method"].set_index("level")["mean"]
    assert set(levels.index) == {"gmp", "st3", "str"}
    assert levels["st3"] - levels["gmp"] == pytest.approx(2, abs=0.5)
    assert advice(fits).set_index("setting")["best"]["method"] == "st3"


def test_fewer_than_two_forests_have_no_spread() -> None:
    with pytest.raises(ValueError, match="forests must be 2 or more, to have a spread, but got 1"):
        fit_forests(made(lambda x: x[:, 0]), forests=1)


@pytest.mark.long
def test_the_example_of_the_docs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of docs/results.md, on the committed ablation: cost follows the target sparsity, and nothing the seed."""
    root = Path(__file__).parents[2]
    page = (root / "docs" / "results.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page.partition("## What matters in a search")[2], re.M | re.S)[:1]
    monkeypatch.chdir(root)
    names: dict[str, Any] = {}
    exec(code, names)
    table = importance(names["fits"]).set_index(["of", "setting"])["verdict"]
    assert table["gflops", "sparsity.target"] == "matters"
    assert table["val_top1", "seed"] == "cannot be told"
    assert set(advice(names["fits"])["advice"]) <= {"narrow", "widen", "fix", "keep", "more trials"}
