"""Check the shipped cluster files offline: by Ray's schema and scheduler, and by what KubeRay and Slurm ask for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from st3sweep.util.version import __version__

ray_util = pytest.importorskip("ray.autoscaler._private.util")
PROJECT = Path(__file__).parents[2]
AWS = PROJECT / "cluster.yaml"
CLUSTERS = PROJECT / "docs" / "clusters"
ON_PREMISES, KUBERAY, SLURM = (CLUSTERS / name for name in ("on_premises.yaml", "kuberay.yaml", "slurm.sh"))
DOCKERFILE = PROJECT / "Dockerfile"


def config(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text())


def prepared(file: Path, **changes: Any) -> dict[str, Any]:
    """Return the file as Ray fills it in and accepts it."""
    filled = ray_util.prepare_config(config(file) | changes)
    ray_util.validate_config(filled)
    return filled


@pytest.mark.parametrize("file", [AWS, ON_PREMISES], ids=lambda file: file.name)
def test_a_misspelled_key_is_refused(file: Path) -> None:
    prepared(file)
    with pytest.raises(Exception, match="max_workerz"):
        prepared(file, max_workerz=3)


def test_the_head_of_aws_is_on_demand_and_trains_nothing() -> None:
    kinds = prepared(AWS)["available_node_types"]
    assert kinds.keys() == {"head", "gpu_spot", "gpu_on_demand"}
    assert "InstanceMarketOptions" not in kinds["head"]["node_config"]
    assert "InstanceMarketOptions" not in kinds["gpu_on_demand"]["node_config"]
    assert kinds["gpu_spot"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert kinds["head"]["max_workers"] == 0
    for kind in ("gpu_spot", "gpu_on_demand"):
        assert kinds[kind]["min_workers"] == 0 < kinds[kind]["max_workers"] <= prepared(AWS)["max_workers"]
        assert kinds["head"]["resources"]["CPU"] < kinds[kind]["resources"]["CPU"]


def launched(refused: dict[str, float]) -> dict[str, int]:
    """Return what Ray's scheduler starts for two trials of one GPU; ``refused``: node types that AWS refuses now."""
    from ray.autoscaler.v2 import scheduler
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
    from ray.autoscaler.v2.utils import ResourceRequestUtil
    from ray.core.generated.autoscaler_pb2 import ResourceRequestByCount

    filled = AutoscalingConfig(prepared(AWS), skip_content_hash=True)
    bundle = ResourceRequestUtil.make({"CPU": 16, "GPU": 1})
    request = scheduler.SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=filled.get_node_type_configs(),
        max_num_nodes=filled.get_max_num_nodes(),
        resource_requests=[ResourceRequestByCount(request=bundle, count=2)],
        recoverable_resource_availabilities=refused,
        cloud_resource_availabilities=refused,
    )
    reply = scheduler.ResourceDemandScheduler(None).schedule(request)
    return {one.instance_type: one.count for one in reply.to_launch if one.instance_type != "head"}


def test_spot_machines_come_first_and_others_where_they_are_refused() -> None:
    assert launched({}) == {"gpu_spot": 2}
    assert launched({"gpu_spot": 0.0}) == {"gpu_on_demand": 2}


def test_aws_accepts_the_machines() -> None:
    """Check the fields of each machine against the interface of EC2, as far as botocore knows it."""
    session = pytest.importorskip("botocore.session", reason="botocore is not installed").get_session()
    from botocore.validate import ParamValidator

    shape = session.get_service_model("ec2").operation_model("RunInstances").input_shape
    for kind in config(AWS)["available_node_types"].values():
        report = ParamValidator().validate({**kind["node_config"], "MinCount": 1, "MaxCount": 1}, shape)
        assert not report.has_errors(), report.generate_report()


@pytest.mark.parametrize("file", [AWS, ON_PREMISES], ids=lambda file: file.name)
def test_every_machine_installs_this_project_and_asks_for_the_token(file: Path) -> None:
    setup = " ".join(config(file)["setup_commands"])
    assert re.search(r"-c(onstraint)? constraints.txt (-e|--editable) \.", setup)
    assert "export RAY_AUTH_MODE=token PATH=$HOME/st3sweep/.venv/bin:$PATH" in setup
    assert config(file)["file_mounts"] == {"~/st3sweep": ".", "~/.ray/auth_token": "~/.ray/auth_token"}
    excluded = set(config(file)["rsync_exclude"])
    assert {"/.venv/", "/data/", "/runs/"} <= excluded
    anywhere = {name.strip("/") for name in excluded if not name.startswith("/")}
    assert anywhere == {"__pycache__"}, "st3sweep/data and st3sweep/runs would not be copied"
    [start] = [one for one in config(file)["head_start_ray_commands"] if "ray start" in one]
    assert "--dashboard-host=127.0.0.1" in start


def test_no_machine_exports_files_or_opens_a_port() -> None:
    text = AWS.read_text()
    assert "exports" not in text
    assert "IpPermissions" not in text
    assert all(kind["node_config"]["SecurityGroupIds"] for kind in config(AWS)["available_node_types"].values())


def test_workers_on_premises_end_when_the_head_is_gone() -> None:
    [start] = [one for one in config(ON_PREMISES)["worker_start_ray_commands"] if "ray start" in one]
    assert "--block" in start
    assert start.startswith("nohup setsid ")
    assert start.endswith("&"), "the launcher waits for its commands"


def test_kuberay_gets_a_cluster_from_zero_with_a_token() -> None:
    job = config(KUBERAY)
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["spec"].keys() == {
        *("entrypoint", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "rayClusterSpec")
    }
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster.keys() == {
        *("rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions", "headGroupSpec"),
        "workerGroupSpecs",
    }
    assert cluster["authOptions"] == {"mode": "token"}
    pinned = re.search(r"^ray==(\S+)", (PROJECT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert cluster["rayVersion"] == pinned[1]
    [group] = cluster["workerGroupSpecs"]
    assert group["minReplicas"] == group["replicas"] == 0 < group["maxReplicas"]
    for pod in (cluster["headGroupSpec"]["template"]["spec"], group["template"]["spec"]):
        assert pod["securityContext"]["runAsNonRoot"] is True
        [container] = pod["containers"]
        assert container["image"].endswith(f":{__version__[:3]}")
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    assert "automountServiceAccountToken" not in cluster["headGroupSpec"]["template"]["spec"], "the autoscaler needs it"


def test_shellcheck_finds_nothing_in_the_script_for_slurm() -> None:
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    subprocess.run([shellcheck, str(SLURM)], check=True)


def test_the_image_is_pinned_and_not_of_root() -> None:
    text = DOCKERFILE.read_text()
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["nvidia/cuda:13.0.1-base-ubuntu24.04"]
    assert re.search(r"^USER 1000:1000$", text, re.MULTILINE)
    assert "--constraint constraints.txt" in text
    needed = set((PROJECT / ".dockerignore").read_text().split()) - {"*", "**/__pycache__"}
    lines = re.findall(r"^COPY --chown=1000:1000 (.+) \S+$", text, re.MULTILINE)
    copied = {name for line in lines for name in line.split()}
    assert copied == {name.removeprefix("!") for name in needed}
    assert all((PROJECT / name).exists() for name in copied)
