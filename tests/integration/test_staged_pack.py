"""Test a sweep whose workers copy its pack to local disk: once, with unchanged numbers, and resumable."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from programs import check_nothing_lost, ended, program

from st3sweep import data
from st3sweep.trial.data import DataConfig

SPACE = """\
schema: st3sweep/v1
name: staged
trial:
  model: {{arch: cifar_resnet, depth: 8, width: 4}}
  data: {{dataset: cifar10, root: {root}, pack: {pack}, validation: 20}}
  train: {{epochs: 2, batch_size: 20}}
  sparsity: {{method: st3}}
search:
  sparsity.target: {{choice: [0.5, 0.8, 0.9]}}
searcher: {{sampler: grid}}
resources: {{slots: 2, hang_limit: 60s}}
"""


def write_noise(folder: Path) -> None:
    """Write 100 training images and 20 test images in torchvision's layout of CIFAR-10."""
    folder.mkdir(parents=True)
    draws = np.random.default_rng(0)
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        batch = {"data": draws.integers(0, 256, (20, 3072), dtype=np.uint8), "labels": [*range(10)] * 2}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))


@pytest.mark.slow
def test_a_sweep_copies_its_pack_once_and_can_be_resumed_if_it_could_not(tmp_path: Path) -> None:
    root, pack, run = tmp_path / "root", tmp_path / "pack", tmp_path / "runs" / "staged"
    write_noise(root / "cifar-10-batches-py")
    data.make_pack(DataConfig.parse({"dataset": "cifar10", "root": str(root)}), pack)
    (tmp_path / "space.yaml").write_text(SPACE.format(root=root, pack=pack))
    words = "run", str(tmp_path / "space.yaml"), "--storage", str(run.parent)
    with program(*words, ST3SWEEP_STAGE=str(tmp_path / "not-mounted" / "packs")) as running:
        code, said = ended(running)
    assert code == 130
    assert f"not-mounted/packs: No such file or directory; continue with: st3sweep resume {run}" in said
    with program("resume", str(run), ST3SWEEP_STAGE=str(tmp_path / "packs")) as running:
        code, said = ended(running)
    assert code == 0
    assert said.count(f"copied {pack} to {tmp_path / 'packs' / 'pack-'}") == 1
    assert len(list((tmp_path / "packs").glob("pack-*"))) == 1
    check_nothing_lost(run, tmp_path / "alone", {0: "finished", 1: "finished", 2: "finished"})
