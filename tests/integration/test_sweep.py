"""Test a complete sweep on a cluster: the real program, JPEG files, two workers per trial."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from programs import ended, program
from ray.cluster_utils import Cluster

from st3sweep.execution.cluster import without_unused_processes
from st3sweep.runs.tables import read_table


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Save crops of scikit-learn's two photographs as JPEG files: 30 to train and 8 to test of each."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    for name, picture in zip(("temple", "flower"), load_sample_images().images, strict=True):
        for part, count in (("train", 30), ("val", 8)):
            folder = tmp_path / "photographs" / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                top, left = rng.integers(0, picture.shape[0] - 128), rng.integers(0, picture.shape[1] - 128)
                Image.fromarray(picture[top : top + 128, left : left + 128]).save(folder / f"{index:03d}.jpg")
    return tmp_path / "photographs"


@pytest.fixture
def cluster() -> Iterator[str]:
    """Start a Ray cluster of two nodes on this machine, two CPUs and one; yield its address."""
    with without_unused_processes():
        two_nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
        two_nodes.add_node(num_cpus=1)
    yield two_nodes.address
    two_nodes.shutdown()


def test_the_mobilenet_space_on_jpegs_with_two_workers_on_a_cluster(
    photographs: Path, cluster: str, tmp_path: Path
) -> None:
    settings = {
        "data.root": photographs, "data.validation": 12, "data.image_size": 64,
        "train.epochs": 2, "train.batch_size": 16, "budget.trials": 2,
        "resources.workers": 2, "resources.cpus_per_worker": 1, "resources.gpus_per_worker": 0,
    }  # fmt: skip
    overrides = [word for path, value in settings.items() for word in ("--set", f"{path}={value}")]
    where = ["--storage", str(tmp_path / "runs"), "--name", "jpegs", "--address", cluster]
    with program("run", "search_spaces/mobilenet.yaml", *overrides, *where) as running:
        code, output = ended(running)
    assert code == 0, output
    run = tmp_path / "runs" / "jpegs"
    trials = read_table(run, "trials")
    assert trials["status"].tolist() == ["finished", "finished"]
    assert trials["workers"].tolist() == [2, 2]
    assert trials["model"].unique().tolist() == ["mobilenet_v1"]
    assert np.allclose(trials["sparsity"], trials["sparsity_target"], atol=1e-5)
    assert trials["test_top1"].between(0, 100).all()
    layers = read_table(run, "layers").query("trial == 0")
    assert layers["macs_dense"].sum() / 1e9 == pytest.approx(trials["gflops_dense"][0])
    assert layers["macs"].sum() / 1e9 == pytest.approx(trials["gflops"][0])
    assert (run / "front.png").stat().st_size > 10_000
    assert "mobilenet_v1" in (run / "report.html").read_text(encoding="utf-8")
