"""Check cluster.yaml against Ray's own schema, without a cloud."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ray_util = pytest.importorskip("ray.autoscaler._private.util")
CLUSTER = Path(__file__).parents[2] / "cluster.yaml"


def config() -> dict[str, Any]:
    return yaml.safe_load(CLUSTER.read_text())


def test_ray_accepts_it_and_fills_it_in() -> None:
    prepared = ray_util.prepare_config(config())
    ray_util.validate_config(prepared)
    kinds = prepared["available_node_types"]
    assert prepared["head_node_type"] == "head"
    # On demand, and without trials: the sweep ends if the head does.
    assert "InstanceMarketOptions" not in kinds["head"]["node_config"]
    assert kinds["head"]["max_workers"] == 0
    assert kinds["gpu_worker"]["min_workers"] == 0 < kinds["gpu_worker"]["max_workers"] <= prepared["max_workers"]


def test_a_misspelled_key_is_refused() -> None:
    wrong = config() | {"max_workerz": 3}
    with pytest.raises(Exception, match="max_workerz"):
        ray_util.validate_config(ray_util.prepare_config(wrong))


def test_every_machine_installs_this_project() -> None:
    setup = " ".join(config()["setup_commands"])
    assert config()["file_mounts"] == {"/home/ubuntu/st3sweep": "."}
    assert "-c constraints.txt -e ." in setup
