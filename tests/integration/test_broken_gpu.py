"""Test on real Ray what becomes of a trial whose GPU breaks, and of ``trials_per_gpu: auto`` where none is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from programs import ended, events, program

from st3sweep.runs.tables import read_table

pytestmark = pytest.mark.slow
SPACE = """\
schema: st3sweep/v1
name: breaks
trial:
  model: {arch: cifar_resnet, depth: 8, width: 4}
  data: {dataset: digits, image_size: 8, train_limit: 256}
  train: {epochs: 4, batch_size: 64}
  sparsity: {method: st3, target: 0.8}
search:
  optim.lr: {choice: [0.1, 0.2]}
searcher: {sampler: grid}
resources: {slots: 1}
"""
# Imported by the driver and the workers. The first trial's device breaks once, in its third epoch.
BREAKING = """\
import os
from pathlib import Path
from st3sweep.execution import worker

fit, once = worker.fit, Path(__file__).with_name("broken")

def breaking(spec, world, report, *rest, **more):
    def then(record):
        asked = report(record)
        if record["epoch"] == 3 and not once.exists():
            once.write_text(str(os.getpid()))
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        note = Path(__file__).with_name(f"pid{record['epoch']}-{spec.optim.lr}")
        if not note.exists():  # else a resumed trial reports the epoch again
            note.write_text(str(os.getpid()))
        return asked
    return fit(spec, world, then, *rest, **more)

worker.fit = breaking
worker.is_usable = lambda _: not once.exists() or once.read_text() != str(os.getpid())
"""


def test_a_trial_whose_gpu_breaks_is_resumed_by_a_new_process(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    (tmp_path / "breaking.py").write_text(BREAKING)
    arguments = ["run", str(tmp_path / "space.yaml"), "--storage", str(tmp_path), "--plugin", "breaking"]
    with program(*arguments, PYTHONPATH=f"{tmp_path}:{Path(__file__).parents[2]}") as p:
        code, output = ended(p)
    assert code == 0, output
    run = tmp_path / "breaks"
    assert [event["status"] for event in events(run, "done")] == ["finished", "finished"]
    epochs = read_table(run, "epochs")
    assert epochs.groupby("trial")["epoch"].apply(list).tolist() == [[1, 2, 3, 4]] * 2
    pids = {name: (tmp_path / name).read_text() for name in ("broken", "pid2-0.1", "pid4-0.1", "pid4-0.2")}
    assert pids["broken"] == pids["pid2-0.1"] != pids["pid4-0.1"] == pids["pid4-0.2"]


def test_auto_is_one_trial_where_memory_cannot_be_measured(tmp_path: Path) -> None:
    """Ray is told of a GPU that is not there."""
    (tmp_path / "space.yaml").write_text(SPACE)
    code = (
        "import sys, ray\n"
        "from pathlib import Path\n"
        "from st3sweep.execution.gpu_share import decided\n"
        "from st3sweep.space.loading import load_space\n"
        "from st3sweep.space.resources import Resources\n"
        "from st3sweep.training.components import register_components\n"
        "register_components()\n"
        "space = load_space(Path(sys.argv[1]))\n"
        "ray.init(address='local', num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)\n"
        "asked = Resources(gpus_per_worker=1, trials_per_gpu='auto')\n"
        "print(decided(asked, space, [], print).trials_per_gpu)\n"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "space.yaml")]
    run = subprocess.run(arguments, capture_output=True, text=True, check=False)
    *_, said, number = run.stdout.splitlines() or [run.stderr]
    assert number == "1", run.stderr
    assert said.startswith("trials_per_gpu: 1: the memory of a trial could not be measured (")
    assert "torch sees no GPU there" in said


@pytest.mark.parametrize(("attempts", "beside_mps"), [(0, False), (1, True)])
def test_a_trial_that_took_its_worker_down_goes_on_beside_mps(
    monkeypatch: pytest.MonkeyPatch, attempts: int, beside_mps: bool
) -> None:
    """The worker learns it when its group starts, before it uses CUDA. The other trials' workers stay within MPS."""
    from st3sweep.execution import mps, trainer

    done: list[object] = []

    class Group:
        def execute(self, function: object) -> None:
            done.append(function)

    class Attempts:
        def remote(self) -> int:
            return attempts

    class Box:
        attempts = Attempts()

    monkeypatch.setattr(trainer.ray, "get", lambda value: value)
    monkeypatch.setattr(trainer._TorchBackend, "on_start", lambda *_: None)
    config = trainer.SlotConfig(Box())
    config.backend_cls().on_start(Group(), config)
    assert (mps.leave in done) == beside_mps
    monkeypatch.setenv(mps.PIPES, "/tmp/nvidia-mps")
    assert not mps.has_left()
    mps.leave()
    assert mps.has_left()
    done.clear()
    trainer.SlotConfig().backend_cls().on_start(Group(), trainer.SlotConfig())
    assert done == [trainer.name_network]
