"""Lose a machine of a real cluster whose machines share no disk: its trial continues elsewhere, from the store."""

from __future__ import annotations

from pathlib import Path

import pytest
from object_store import ObjectStore
from programs import check_nothing_lost, ended, events, program, wait_until
from ray.cluster_utils import Cluster

import st3sweep.execution  # noqa: F401  Ray's environment, here for the cluster
from st3sweep.runs.store import local_folder
from st3sweep.training import checkpoint
from st3sweep.training.saver import BEST, LAST
from st3sweep.util.storage.local import Local
from st3sweep.util.storage.objects import Objects

SPACE = """\
schema: st3sweep/v1
name: stored
trial:
  model: {arch: cifar_resnet, depth: 8, width: 8}
  data: {dataset: digits, image_size: 8, train_limit: 512}
  train: {epochs: 60, batch_size: 16}
  sparsity: {method: st3, target: 0.8}
search:
  optim.lr: {choice: [0.1, 0.05]}
searcher: {sampler: grid}
resources: {slots: 1}
"""


@pytest.mark.slow
def test_a_trial_continues_from_the_store_on_another_machine(
    object_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = object_store.make_bucket("cluster") + "/runs/stored"
    file = tmp_path / "space.yaml"
    file.write_text(SPACE)
    of_machine = {name: tmp_path / name for name in ("driver", "first", "second", "elsewhere")}
    monkeypatch.setenv("ST3SWEEP_CACHE", str(of_machine["driver"]))
    run = local_folder(url)
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    first = nodes.add_node(num_cpus=2, env_vars={"ST3SWEEP_CACHE": str(of_machine["first"])})
    try:
        with program("run", str(file), "--storage", url.rpartition("/")[0], "--address", nodes.address) as p:
            wait_until(lambda: any(one.name == f"trials/0001/{LAST}" for one in Objects(url).list("trials")), p)
            assert len(events(run, "done")) == 1, "the second trial was lost too late"
            nodes.add_node(num_cpus=2, env_vars={"ST3SWEEP_CACHE": str(of_machine["second"])})
            nodes.remove_node(first, allow_graceful=False)
            code, output = ended(p)
    finally:
        nodes.shutdown()
    assert code == 0, output
    assert [event["trial"] for event in events(run, "began")] == [0, 1, 1]
    check_nothing_lost(run, tmp_path / "alone", {0: "finished", 1: "finished"})
    # It did not start again: the duration of its first epoch is the one that the first machine measured.
    with monkeypatch.context() as patch:
        patch.setenv("ST3SWEEP_CACHE", str(of_machine["second"]))
        last = checkpoint.load(Local(local_folder(url) / "trials" / "0001"), LAST)
    recorded = next(event["record"] for event in events(run, "epoch") if event["trial"] == 1)
    assert last["history"][0]["seconds"] == recorded["seconds"]
    assert not (run / "trials" / "0001" / BEST).exists()
    exported = tmp_path / "model.safetensors"
    arguments = ("export", url, "1", "--out", str(exported))
    with program(*arguments, ST3SWEEP_CACHE=str(of_machine["elsewhere"])) as p:
        code, output = ended(p)
    assert (code, exported.is_file()) == (0, True), output
