"""Test what a sweep decides before it starts: how many slots fit, and that no other program runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from st3sweep.runs.folder import lock
from st3sweep.space.resources import Resources, count_slots
from st3sweep.util.errors import UserError


@pytest.mark.parametrize(
    ("available", "resources", "grows", "slots"),
    [
        ({"CPU": 2.0}, {}, False, 2),
        ({"CPU": 2.0}, {}, True, 1),  # Tune's actors need a little of the second
        ({"CPU": 2.1}, {}, True, 2),
        ({"CPU": 8.0}, {"workers": 2, "cpus_per_worker": 2}, False, 2),
        ({"CPU": 64.0, "GPU": 2.0}, {"gpus_per_worker": 0.25}, False, 8),
        ({"CPU": 64.0, "GPU": 2.0}, {"gpus_per_worker": 1, "workers": 2}, False, 1),
        ({"CPU": 64.0, "GPU": 2.0}, {"gpus_per_worker": 0.4}, False, 4),  # two on each; a fifth would need both
        ({"CPU": 64.0, "GPU": 3.0}, {"gpus_per_worker": 0.1}, False, 30),
        ({"CPU": 8.0}, {"slots": 3}, False, 3),
        ({"CPU": 2.0}, {"slots": 3}, False, 2),
        ({"CPU": 2.0}, {"slots": 3, "gpus_per_worker": 1}, True, 3),  # machines come on demand
    ],
)
def test_slots(available: dict[str, float], resources: dict[str, Any], grows: bool, slots: int) -> None:
    assert count_slots(available, Resources(**resources), grows=grows) == slots


def test_slots_that_cannot_fit_are_an_error() -> None:
    with pytest.raises(UserError, match="a trial needs 2 CPUs and 2 GPUs at once, but there are 8 CPUs and 1 GPUs"):
        count_slots({"CPU": 8.0, "GPU": 1.0}, Resources(workers=2, gpus_per_worker=1))


def test_a_second_program_on_a_run_is_refused(tmp_path: Path) -> None:
    second = (
        "from pathlib import Path; import sys; from st3sweep.runs.folder import lock\n"
        "try:\n    lock(Path(sys.argv[1])).__enter__()\nexcept Exception as error: print(error)"
    )
    command = [sys.executable, "-c", second, str(tmp_path)]
    with lock(tmp_path):
        refused = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert refused.strip() == f"{tmp_path}: another program is running this sweep"
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""
