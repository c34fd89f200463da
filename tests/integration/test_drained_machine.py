"""Drain a machine of a real cluster, as a spot machine before it is taken away: its trial continues elsewhere."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from programs import check_nothing_lost, ended, events, program, wait_until
from ray.cluster_utils import Cluster

from st3sweep.training.checkpoint import load_latest
from st3sweep.util.storage.local import Local

DEADLINE_SECONDS = 300
# Steps of one image: an epoch takes half a minute or more.
SPACE = """\
schema: st3sweep/v1
name: drained
trial:
  model: {arch: cifar_resnet, depth: 8, width: 16}
  data: {dataset: digits, image_size: 8}
  train: {epochs: 2, batch_size: 1}
  sparsity: {method: st3, target: 0.8}
search:
  optim.lr: {choice: [0.01]}
searcher: {sampler: grid}
resources: {slots: 1}
"""


def drain(address: str, node: str) -> None:
    command = ["-m", "ray.scripts.scripts", "drain-node", "--address", address, "--node-id", node]
    reason = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "a test"]
    deadline = ["--deadline-remaining-seconds", str(DEADLINE_SECONDS)]
    subprocess.run([sys.executable, *command, *reason, *deadline], check=True)


@pytest.mark.slow
def test_a_trial_leaves_a_machine_before_its_end(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    run, saved = tmp_path / "drained", tmp_path / "drained" / "trials" / "0000" / "last.ckpt"
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    first = nodes.add_node(num_cpus=2)
    try:
        file = str(tmp_path / "space.yaml")
        with program("run", file, "--storage", str(tmp_path), "--address", nodes.address) as p:
            wait_until(lambda: events(run, "trial") and saved.exists(), p)
            before = saved.stat().st_mtime
            nodes.add_node(num_cpus=2)
            drain(nodes.address, first.node_id)
            drained = time.monotonic()
            wait_until(lambda: saved.stat().st_mtime > before, p)
            took = time.monotonic() - drained
            state, _ = load_latest(Local(saved.parent), saved.name, torch.device("cpu"))
            code, output = ended(p)
            print(f"saved {took:.1f} s after the notice")
    finally:
        nodes.shutdown()
    assert code == 0, output
    assert state is not None
    assert state["step"] > 0, "saved at the end of an epoch only"
    assert took < 30, "not saved before the next checkpoint, which is due after a minute"
    check_nothing_lost(run, tmp_path / "alone", {0: "finished"})
