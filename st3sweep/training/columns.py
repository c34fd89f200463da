"""The columns that evaluations fill, and which of two epochs is the better one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from st3sweep.training.evaluate import Evaluation
from st3sweep.trial.metric import Metric


def validation_columns(found: Evaluation, metric: Metric | None) -> dict[str, float | None]:
    """Return the columns of an evaluation on the validation images."""
    own = {} if metric is None else {metric.column: found.metric}
    return {"val_loss": found.loss, "val_top1": found.top1, "val_top5": found.top5, **own}


def test_columns(found: Evaluation | None, metric: Metric | None) -> dict[str, float | None]:
    """Return the columns of an evaluation on the test images; None in each where there are none."""
    own = {} if metric is None else {metric.test_column: None if found is None else found.metric}
    if found is None:
        return {"test_top1": None, "test_top5": None, **own}
    return {"test_top1": found.top1, "test_top5": found.top5, **own}


def is_better(record: Mapping[str, Any], other: Mapping[str, Any], metric: Metric | None) -> bool:
    """Whether an epoch is better than another: by the model's own ``metric``, else by top-1 accuracy, on validation."""
    column, sign = ("val_top1", 1.0) if metric is None else (metric.column, 1.0 if metric.goal == "max" else -1.0)
    mine, others = sign * record[column], sign * other[column]
    return bool(mine > others or (math.isnan(others) and not math.isnan(mine)))
