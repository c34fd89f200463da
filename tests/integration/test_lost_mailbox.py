"""Kill a slot, or its mailbox, before its workers have told where they are: what they reserve becomes free again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from programs import command_line, descendants, ended, events, program, wait_until, workers

# A worker takes all CPUs of the machine: the next slot cannot start its own while the first has them reserved.
SPACE = """\
schema: st3sweep/v1
name: mailbox
trial:
  model: {arch: cifar_resnet, depth: 8, width: 4}
  data: {dataset: digits, image_size: 8, train_limit: 256}
  train: {epochs: 3, batch_size: 64}
  sparsity: {method: st3, target: 0.8}
search:
  optim.lr: {choice: [0.1, 0.05]}
searcher: {sampler: grid}
resources: {slots: 1, cpus_per_worker: %d}
"""


@pytest.mark.slow
@pytest.mark.parametrize("part", ["ray::Mailbox", ("ray::Slot", "ray::ResourceTrainable")])
def test_what_the_workers_of_a_lost_slot_reserved_is_freed(tmp_path: Path, part: str | tuple[str, ...]) -> None:
    (tmp_path / "space.yaml").write_text(SPACE % os.cpu_count())
    with program("run", str(tmp_path / "space.yaml"), "--storage", str(tmp_path)) as p:
        wait_until(lambda: workers(p.pid), p)
        [lost] = [one for one in descendants(p.pid) if command_line(one).startswith(part)]
        lost.kill()
        code, output = ended(p)
    assert code == 0, output
    run = tmp_path / "mailbox"
    assert [(event["trial"], event["status"]) for event in events(run, "done")] == [(0, "finished"), (1, "finished")]
    assert len(events(run, "put_back")) <= 1, "it gets a trial only once its workers have started"
