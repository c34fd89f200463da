"""Test real failures of programs, workers, machines and disks: every trial remains, once, with its numbers."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import optuna
import psutil
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from programs import (
    PATIENCE_SECONDS,
    check_nothing_lost,
    command_line,
    descendants,
    ended,
    epochs_of,
    events,
    program,
    wait_until,
    workers,
)
from ray.cluster_utils import Cluster

import st3sweep
from st3sweep.execution.cluster import without_unused_processes
from st3sweep.runs.tables import read_table

EPOCHS = 20
SPACE = """\
schema: st3sweep/v1
name: faults
trial:
  model: {{arch: cifar_resnet, depth: 8, width: 4}}
  data: {{dataset: digits, image_size: 8, train_limit: 256}}
  train: {{epochs: {epochs}, batch_size: 64}}
  sparsity: {{method: st3, target: 0.8}}
search:
  optim.lr: {{choice: [{rates}]}}
searcher: {{sampler: grid}}
resources: {{slots: 1, hang_limit: {limit}}}
"""


def space(folder: Path, rates: str, epochs: int = EPOCHS, limit: str = "60s") -> str:
    file = folder / "space.yaml"
    file.write_text(SPACE.format(rates=rates, epochs=epochs, limit=limit))
    return str(file)


def test_a_run_survives_every_kind_of_failure(tmp_path: Path) -> None:
    """Kill the program, truncate its files, kill and freeze its worker, interrupt it once and twice, all in one run."""
    run = tmp_path / "faults"
    # The second diverges: a trial that fails without outside cause.
    with program(
        "run", space(tmp_path, "0.1, 1e30, 0.05, 0.2, 0.3, 0.4", limit="30s"), "--storage", str(tmp_path)
    ) as p:
        wait_until(lambda: 3 <= epochs_of(run, 2) < 15, p)
        trainers = workers(p.pid)
        p.send_signal(signal.SIGKILL)
        p.wait()
        # Its workers end with the program, so that none of them writes into the resumed run.
        assert not psutil.wait_procs(trainers, timeout=60)[1]
    before = (run / "ledger.jsonl").read_bytes()
    assert [event["trial"] for event in events(run, "done")] == [0, 1]
    with open(run / "ledger.jsonl", "ab") as ledger:
        ledger.write(b'{"time": 1.0, "event": "epo')
    checkpoint = run / "trials" / "0002" / "last.ckpt"
    if checkpoint.exists():  # else the worker ended between two renames, and only the one before it is there
        checkpoint.write_bytes(checkpoint.read_bytes()[: checkpoint.stat().st_size // 2])

    with program("resume", str(run)) as p:
        wait_until(lambda: 3 <= epochs_of(run, 3) < 15, p)
        [worker] = workers(p.pid)
        worker.kill()
        wait_until(lambda: 3 <= epochs_of(run, 4) < 15, p)
        [worker] = workers(p.pid)
        worker.suspend()  # it hangs: the trial fails, and the next one gets another worker
        with program("resume", str(run)) as second:
            code, output = ended(second)
            assert (code, output.splitlines()[-1]) == (2, f"st3sweep: {run}: another program is running this sweep")
        wait_until(lambda: epochs_of(run, 5) >= 2, p)
        p.send_signal(signal.SIGINT)
        code, output = ended(p)
    assert code == 130, output
    assert "SIGINT; continue with: st3sweep resume" in output
    assert "Traceback" not in output
    assert [event["trial"] for event in events(run, "done")] == [0, 1, 2, 3, 4]

    begun = len(events(run, "began"))
    with program("resume", str(run)) as p:
        wait_until(lambda: len(events(run, "began")) > begun, p)
        for _ in range(2):
            p.send_signal(signal.SIGINT)
            time.sleep(0.3)
        code, output = ended(p)
    assert code == 130, output

    with program("resume", str(run)) as p:
        code, output = ended(p)
    assert code == 4, output  # trials failed, as expected
    assert "Pareto front" in output
    assert (run / "ledger.jsonl").read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    statuses = {0: "finished", 1: "failed", 2: "finished", 3: "finished", 4: "failed", 5: "finished"}
    check_nothing_lost(run, tmp_path / "alone", statuses)
    errors = {event["trial"]: event["error"] for event in events(run, "done")}
    assert "Diverged: the training loss is nan in epoch" in errors[1]
    assert errors[4] == "hangs: nothing was reported for 30 seconds"

    # Tables and study agree with the ledger.
    table = read_table(run, "trials").set_index("trial")
    assert table["status"].to_dict() == statuses
    assert table["val_top1"].isna().tolist() == [False, True, False, False, True, False]
    study = optuna.load_study(
        study_name="faults", storage=JournalStorage(JournalFileBackend(str(run / "study.journal")))
    )
    wanted = [TrialState.COMPLETE if statuses[number] == "finished" else TrialState.FAIL for number in range(6)]
    assert [trial.state for trial in study.get_trials()] == wanted
    assert study.get_trials()[2].values == table.loc[2, ["val_top1", "gflops"]].tolist()


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_a_run_survives_kills_at_random_moments(kills: int, tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    rng, run = random.Random(seed), tmp_path / "faults"
    arguments = ["run", space(tmp_path, "0.1, 0.05", epochs=15 * kills), "--storage", str(tmp_path)]
    for _ in range(kills):
        with program(*arguments) as p:
            seen = len(events(run, "epoch"))
            wait_until(lambda seen=seen: len(events(run, "epoch")) > seen, p)  # type: ignore[misc]
            time.sleep(rng.uniform(0.0, 1.0))  # within an epoch, between two, at the end of a trial
            trainers = workers(p.pid)
            p.kill()
            p.wait()
            assert not psutil.wait_procs(trainers, timeout=60)[1]
        arguments = ["resume", str(run)]
    with program(*arguments) as p:
        code, output = ended(p)
    assert code == 0, f"seed {seed}: {output}"
    check_nothing_lost(run, tmp_path / "alone", dict.fromkeys(range(2), "finished"))


@pytest.mark.slow
def test_a_sweep_that_loses_every_slot_names_the_output_of_the_last_worker(tmp_path: Path) -> None:
    """Kill each process that a slot starts in, until the sweep gives up."""
    run, killed, outputs = tmp_path / "faults", set(), set()
    with program("run", space(tmp_path, "0.1, 0.05", epochs=100_000), "--storage", str(tmp_path)) as p:
        wait_until(lambda: epochs_of(run, 0) >= 2, p)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while p.poll() is None:
            assert time.monotonic() < deadline
            with suppress(OSError):  # a worker that has just ended
                outputs |= {os.readlink(f"/proc/{worker.pid}/fd/2") for worker in workers(p.pid)}
            for process in descendants(p.pid):
                if command_line(process).startswith("ray::Slot"):
                    process.kill()
                    killed.add(process.pid)
            time.sleep(0.1)
        code, output = ended(p)
    assert code == 130, output
    assert len(killed) == 6
    why = events(run, "closed")[-1]["why"]
    assert re.match(r"every slot was lost, 6 times each: .+; trial [01] was the last to lose one; see /", why)
    log = Path(why.rpartition("; see ")[2])
    assert str(log) in outputs
    assert "RayTrainWorker" in log.read_text()
    assert f"{why}; continue with: st3sweep resume {run}" in output
    assert st3sweep.load_run(run).status()["why"] == why
    for event in events(run, "done"):  # a trial that had a worker, and then lost three slots
        said, _, path = event["error"].rpartition("; see ")
        assert (said, path in outputs) == ("its slot was lost 3 times", True)


def test_a_run_survives_the_loss_of_a_machine_and_of_the_cluster(tmp_path: Path) -> None:
    run = tmp_path / "faults"
    with without_unused_processes():
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        lost = nodes.add_node(num_cpus=1)  # all that a worker asks for
    try:
        where = ["--address", nodes.address]
        with program(
            "run", space(tmp_path, "0.1, 0.05, 0.2"), "--storage", str(tmp_path), *where,
            RAY_gcs_rpc_server_reconnect_timeout_s="5",
        ) as p:  # fmt: skip
            wait_until(lambda: 3 <= epochs_of(run, 1) < 15, p)
            with without_unused_processes():
                nodes.add_node(num_cpus=1)
            nodes.remove_node(lost, allow_graceful=False)
            wait_until(lambda: 3 <= epochs_of(run, 2) < 15, p)
            nodes.shutdown()  # the head with all that it knew
            code, output = ended(p)
        assert code != 0, output
    finally:
        nodes.shutdown()
    assert [event["trial"] for event in events(run, "done")] == [0, 1]
    with program("resume", str(run)) as p:  # on this machine alone
        code, output = ended(p)
    assert code == 0, output
    check_nothing_lost(run, tmp_path / "alone", dict.fromkeys(range(3), "finished"))


def test_a_full_disk_interrupts_a_run(tmp_path: Path) -> None:
    """Fill a private file system while a trial runs: first so that no checkpoint fits, then completely."""
    shell = shutil.which("unshare")
    own = (shell or "", "--user", "--map-root-user", "--mount")
    if not shell or subprocess.run([*own, "mount", "-t", "tmpfs", "t", str(tmp_path)], check=False).returncode:
        pytest.skip("needs a private mount namespace")
    disk = tmp_path / "disk"
    disk.mkdir()
    file = space(tmp_path, "0.1, 0.05")
    # The file system lives as long as this shell, and is reached through its root.
    kept = tmp_path / "kept"
    script = f"mount -t tmpfs -o size=40m t {disk} && echo ready && read line; cp -a {disk}/faults {kept}; read line"
    with subprocess.Popen(
        [*own, "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        inside = ("nsenter", "--preserve-credentials", "--user", "--mount", f"--target={holder.pid}")
        root = Path(f"/proc/{holder.pid}/root")
        run = root / disk.relative_to("/") / "faults"
        ballast = run.parent / "ballast"
        for arguments, left in (
            (("run", file, "--storage", str(disk)), 24_000),
            (("resume", str(disk / "faults")), 0),
        ):
            with program(*arguments, before=inside) as p:
                seen = len(events(run, "epoch"))
                wait_until(lambda seen=seen: len(events(run, "epoch")) > seen + 2, p)  # type: ignore[misc]
                _fill(ballast, left)
                code, output = ended(p)
            assert code == 130, output
            why = r"(No space left on device|cannot be written).*continue with: st3sweep resume"
            assert re.search(why, output, re.S)
            ballast.unlink()
        with program("resume", str(disk / "faults"), before=inside) as p:
            code, output = ended(p)
        assert code == 0, output
        holder.stdin.write("\n")
        holder.stdin.flush()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (kept / "front.png").exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        holder.stdin.write("\n")
        holder.stdin.flush()
    check_nothing_lost(kept, tmp_path / "alone", dict.fromkeys(range(2), "finished"))


def _fill(ballast: Path, left: int) -> None:
    """Write to the file until only ``left`` bytes are free."""
    with open(ballast, "wb", buffering=0) as file:
        try:
            while (free := shutil.disk_usage(ballast.parent).free) > left:
                file.write(bytes(min(1 << 20, free - left)))
        except OSError:
            pass
