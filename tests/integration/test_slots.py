"""Test a warm slot: its tenth trial trains as if it were the first."""

from __future__ import annotations

import time
from pathlib import Path

from programs import PATIENCE_SECONDS, check_nothing_lost, command_line, descendants, ended, events, program, workers

# With dropout, so that the generator's state matters; half of the trials use another precision, some diverge.
SPACE = """\
schema: st3sweep/v1
name: slots
trial:
  model: {arch: wide_resnet, depth: 10, width: 1, dropout: 0.3}
  data: {dataset: digits, image_size: 8, train_limit: 128, validation: 64}
  train: {epochs: 3, batch_size: 32}
  sparsity: {method: st3, target: 0.8}
search:
  sparsity.criterion: {choice: [l1, sigma]}
  train.precision: {choice: [bf16, fp32]}
  optim.lr: {choice: [1e30, 0.1, 0.2]}
searcher: {sampler: grid}
resources: {slots: 1, trials_per_process: 10}
"""


def test_the_tenth_trial_of_a_process_trains_like_its_first(tmp_path: Path) -> None:
    """Each trial has the numbers of one trained without Ray, in a process that trains them in reverse order."""
    (tmp_path / "space.yaml").write_text(SPACE)
    run, pids, titles = tmp_path / "slots", set(), set()
    with program("run", str(tmp_path / "space.yaml"), "--storage", str(tmp_path)) as p:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while p.poll() is None:
            assert time.monotonic() < deadline
            pids |= {worker.pid for worker in workers(p.pid)}
            titles |= {title for title in map(command_line, descendants(p.pid)) if title.startswith("ray::")}
            time.sleep(0.2)
        code, output = ended(p)
    assert code == 4, output
    assert len(pids) == 2, "the eleventh trial has a new process"
    unused = ("TrainController", "PlacementGroupCleaner", "DatasetManager", "AutoscalingCoordinator")
    assert any("SynchronizationActor" in title for title in titles)
    assert not [title for title in titles if any(name in title for name in unused)], "Ray Train's, which take seconds"
    statuses = {number: "failed" if number % 3 == 0 else "finished" for number in range(12)}
    check_nothing_lost(run, tmp_path / "alone", statuses)
    ends = {event["trial"]: event["time"] for event in events(run, "done")}
    pauses = [ends[number + 1] - ends[number] for number in range(9)]
    assert sorted(pauses)[4] < 20, "the slot is not warm: its start takes longer"
