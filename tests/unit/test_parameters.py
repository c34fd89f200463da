"""Conversion of searched fields to Optuna's parameters and back, for any distribution."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from st3sweep.search.parameters import Parameter
from st3sweep.space.distributions import Distribution

QUANTILES = st.floats(0, 1, exclude_max=True)


@st.composite
def distributions(draw: st.DrawFn) -> Any:
    kind = draw(st.sampled_from(["linear", "log", "log1m", "int", "choice"]))
    if kind == "int":
        low = draw(st.integers(-50, 50))
        step = draw(st.integers(1, 7))
        fields: dict[str, Any] = {"int": [low, low + draw(st.integers(step, 60))], "step": step}
    elif kind == "choice":
        fields = {"choice": draw(st.lists(st.integers(0, 30), min_size=1, max_size=6, unique=True))}
    else:
        bounds = {"linear": (-10, 10), "log": (1e-6, 10), "log1m": (0, 0.999)}[kind]
        low = draw(st.floats(*bounds))
        high = low + draw(st.floats(0.01, 1)) * (bounds[1] - low)
        if not low < high:
            low, high = bounds
        fields = {"float": [low, high], "scale": kind}
    return TypeAdapter(Distribution).validate_python(fields)


@given(distributions(), QUANTILES)
def test_every_value_survives_the_study(searched: Any, quantile: float) -> None:
    one = Parameter("optim.lr", searched)
    value = searched.at(quantile)
    assert searched.ends()[0] <= value <= searched.ends()[-1] or value in searched.values()
    in_study = one.to_study(value)
    assert one.distribution._contains(one.distribution.to_internal_repr(in_study))
    assert one.to_point(in_study) == pytest.approx(value, rel=1e-9, abs=1e-12)


@given(distributions(), st.lists(QUANTILES, min_size=2, max_size=8))
def test_quantiles_are_in_the_order_of_the_range(searched: Any, quantiles: list[float]) -> None:
    values = [searched.at(quantile) for quantile in sorted(quantiles)]
    order = values if hasattr(searched, "float_") else [list(searched.values()).index(value) for value in values]
    assert all(before <= after for before, after in pairwise(order))


def test_quantiles_by_hand() -> None:
    def at(quantile: float, **fields: Any) -> Any:
        return TypeAdapter(Distribution).validate_python(fields).at(quantile)

    assert at(0.5, float=[2, 4]) == 3
    assert at(0.5, float=[0.01, 1], scale="log") == pytest.approx(0.1)
    assert at(0.5, float=[0, 0.99], scale="log1m") == pytest.approx(0.9)
    assert [at(q, int=[8, 20], step=6) for q in (0, 0.33, 0.34, 0.67, math.nextafter(1, 0))] == [8, 8, 14, 20, 20]
    assert [at(q, choice=["a", None]) for q in (0.49, 0.5)] == ["a", None]
