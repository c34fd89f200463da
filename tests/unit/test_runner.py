"""Test what a sweep decides before it starts: how many slots fit, and that no other program runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from st3sweep.runs.folder import lock
from st3sweep.space.resources import GIB, Resources, count_slots
from st3sweep.util.errors import UserError


@pytest.mark.parametrize(
    ("available", "resources", "grows", "slots"),
    [
        ({"CPU": 2.0}, {}, False, 2),
        ({"CPU": 2.0}, {}, True, 2),  # Tune's actors need none
        ({"CPU": 1.9}, {}, True, 1),
        ({"CPU": 8.0}, {"workers": 2, "cpus_per_worker": 2}, False, 2),
        ({"CPU": 64.0, "GPU": 2.0}, {"gpus_per_worker": 0.25}, False, 8),
        ({"CPU": 64.0, "GPU": 2.0}, {"gpus_per_worker": 1, "workers": 2}, False, 1),
        ({"CPU": 64.0, "GPU": 2.0}, {"gpus_per_worker": 0.4}, False, 4),  # two on each; a fifth would need both
        ({"CPU": 64.0, "GPU": 3.0}, {"gpus_per_worker": 0.1}, False, 30),
        ({"CPU": 64.0, "memory": 100.0 * GIB}, {"memory_per_worker": 24.5}, False, 4),
        ({"CPU": 64.0, "memory": 100.0 * GIB}, {"memory_per_worker": 24.5, "workers": 3}, False, 1),
        ({"CPU": 64.0}, {"memory_per_worker": 24.5}, False, 64),  # the memory is not known
        ({"CPU": 8.0}, {"slots": 3}, False, 3),
        ({"CPU": 2.0}, {"slots": 3}, False, 2),
        ({"CPU": 2.0}, {"slots": 3, "gpus_per_worker": 1}, True, 3),  # machines come on demand
    ],
)
def test_slots(available: dict[str, float], resources: dict[str, Any], grows: bool, slots: int) -> None:
    assert count_slots(available, Resources(**resources), grows=grows) == slots


def test_slots_that_cannot_fit_are_an_error() -> None:
    with pytest.raises(UserError, match="a trial needs 2 CPUs and 2 GPUs at once, but there are 8 CPUs and 1 GPU"):
        count_slots({"CPU": 8.0, "GPU": 1.0}, Resources(workers=2, gpus_per_worker=1))


def test_a_trial_that_no_memory_holds_is_refused_before_it_starts() -> None:
    with pytest.raises(UserError, match="a trial needs 1 CPU and 0 GPUs and 80 GiB at once, but there are 8 CPUs"):
        count_slots({"CPU": 8.0, "memory": 64.0 * GIB}, Resources(memory_per_worker=80))


def test_a_worker_asks_for_its_memory_in_bytes_and_for_a_kind_of_gpu() -> None:
    asked = Resources(gpus_per_worker=1, accelerator="A10G", memory_per_worker=1.5, cpus_per_worker=4).of_worker()
    assert asked == {"CPU": 4, "GPU": 1, "memory": 3 * 2**29, "accelerator_type:A10G": 0.001}
    assert Resources().of_worker() == {"CPU": 1}


def test_only_machines_with_the_kind_of_gpu_count() -> None:
    from st3sweep.execution.cluster import _available

    nodes = [
        {"Alive": True, "Resources": {"CPU": 4.0, "GPU": 1.0, "accelerator_type:A10G": 1.0}},
        {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0, "accelerator_type:T4": 1.0}},
        {"Alive": True, "Resources": {"CPU": 16.0}},
        {"Alive": False, "Resources": {"CPU": 32.0, "GPU": 4.0, "accelerator_type:A10G": 1.0}},
    ]
    assert _available(nodes, Resources(gpus_per_worker=1, accelerator="A10G"))["GPU"] == 1
    assert _available(nodes, Resources(gpus_per_worker=1))["GPU"] == 3
    assert _available(nodes, Resources())["CPU"] == 28
    only = Resources(gpus_per_worker=1, accelerator="H100")
    with pytest.raises(UserError, match="0 GPUs on machines with GPUs of the kind H100"):
        count_slots(_available(nodes, only), only, grows=True)


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
