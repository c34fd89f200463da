"""Start the shipped on-premises cluster with `ray up` on three hosts, and cut one of them off during a sweep.

Another test starts it on two hosts without a token.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hosts import Host, Network, network
from launch import check_out, configuration, on_client, output_of, without_token

FILE = "cluster.test.yaml"
# Two workers with two CPUs each, which no host has: every trial spans two hosts.
SPACE = """\
schema: st3sweep/v1
name: spanning
trial:
  model: {arch: cifar_resnet, depth: 8, width: 4}
  data: {dataset: digits, image_size: 8, train_limit: 128, validation: 100}
  train: {epochs: 5, batch_size: 32}
  sparsity: {method: st3, target: 0.8}
search:
  optim.lr: {choice: [0.05, 0.1]}
searcher: {sampler: grid}
resources: {workers: 2, cpus_per_worker: 2, slots: 1}
"""
OPEN_FILE, OPEN = "cluster.open.yaml", {"RAY_AUTH_MODE": "disabled"}
COUNT = "import ray; ray.init('auto', log_to_driver=False); print('machines:', sum(n['Alive'] for n in ray.nodes()))"
TRIALS = 2
EPOCHS = 5
PATIENCE_SECONDS = 1200.0  # on two cores that others use as well
GONE_SECONDS = 180.0  # until a worker's Ray has ended after the head's


def wait_until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.2)
    return found


def note(text: str, since: float = time.monotonic()) -> None:
    """Print a line for the log, with the seconds since the tests were loaded."""
    print(f"{time.monotonic() - since:7.1f} s  {text}", flush=True)


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    """Return the events of one kind in the run's ledger, whole lines only."""
    ledger = run / "ledger.jsonl"
    lines = ledger.read_bytes().split(b"\n")[:-1] if ledger.exists() else []
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def numbers(run: Path) -> dict[tuple[int, int], dict[str, Any]]:
    """Return each epoch's record by trial and epoch, without its duration."""
    found = {}
    for event in events(run, "epoch"):
        record = {key: value for key, value in event["record"].items() if key != "seconds"}
        found[event["trial"], record["epoch"]] = record
    return found


def with_a_raylet(hosts: Network) -> list[Host]:
    return [host for host in hosts.hosts if any("raylet/raylet" in title for title in host.titles())]


def training_hosts(hosts: Network) -> list[Host]:
    return [host for host in hosts.hosts if any("RayTrainWorker" in title for title in host.titles())]


def alive(hosts: Network, file: str = FILE, **environment: str) -> int:
    """Return how many machines Ray counts in the cluster."""
    text = output_of(hosts["client"], "ray", "exec", file, f"python -c {shlex.quote(COUNT)}", **environment)
    return int(re.findall(r"machines: (\d+)", text)[-1])


@pytest.fixture(scope="module")
def hosts() -> Iterator[Network]:
    """Boot four hosts; the client has the project and a new token."""
    base = Path(tempfile.mkdtemp(prefix="st3-cluster-", dir="/var/tmp"))
    try:
        with network(["client", "head", "one", "two"], base) as booted:
            client = booted["client"]
            project = check_out(client)
            (project / FILE).write_text(yaml.safe_dump(configuration(booted), sort_keys=False))
            (project / "spanning.yaml").write_text(SPACE)
            (base / "shared").mkdir()
            output_of(client, "ray", "get-auth-token", "--generate")
            yield booted
    finally:
        shutil.rmtree(base, ignore_errors=True)


def undisturbed(hosts: Network) -> dict[tuple[int, int], dict[str, Any]]:
    """Run the sweep with both workers on one machine, and return its numbers."""
    storage = hosts.base / "shared" / "alone"
    command = ("python", "-m", "st3sweep", "run", "spanning.yaml", "--storage", str(storage))
    output_of(hosts["client"], *command, seconds=PATIENCE_SECONDS)
    return numbers(storage / "spanning")


def test_a_sweep_survives_a_host_that_is_cut_off(hosts: Network) -> None:
    client = hosts["client"]
    _up(client)
    try:
        wait_until(lambda: len(with_a_raylet(hosts)) == 3 and alive(hosts) == 3, "three machines in the cluster")
        note("three machines are in the cluster")
        _refuse_without_the_token(hosts)
        _sweep_with_a_cut(hosts)
    finally:
        for host in hosts.hosts:
            host.reconnect(hosts.bridge)
        output_of(client, "ray", "down", "--yes", FILE)
        note("ray down has returned")
    wait_until(lambda: not any(host.titles() for host in hosts.hosts), "an end of all processes", GONE_SECONDS)
    note("no process is left on any host")
    found, expected = numbers(hosts.base / "shared" / "runs" / "spanning"), undisturbed(hosts)
    assert len(expected) == TRIALS * EPOCHS
    assert found == expected, "numbers differ from those of the undisturbed run"
    note(f"all {len(found)} epochs have the numbers of an undisturbed run on one machine")


def test_without_a_token_any_client_is_admitted(hosts: Network) -> None:
    """``RAY_AUTH_MODE=disabled`` everywhere admits the client that a token keeps out, and a sweep runs."""
    client, run = hosts["client"], hosts.base / "shared" / "open" / "small"
    project = client.folder / "home" / "st3sweep"
    config = without_token(configuration(hosts), [hosts["one"]])
    (project / OPEN_FILE).write_text(yaml.safe_dump(config, sort_keys=False))
    small = SPACE.replace("workers: 2, cpus_per_worker: 2", "cpus_per_worker: 1").replace("[0.05, 0.1]", "[0.1]")
    (project / "small.yaml").write_text(small.replace("epochs: 5", "epochs: 1").replace("spanning", "small"))
    _up(client, OPEN_FILE, **OPEN)
    try:
        wait_until(lambda: alive(hosts, OPEN_FILE, **OPEN) == 2, "two machines in the cluster")
        note("two machines are in the cluster without a token")
        status = ("ray", "status", "--address", f"{hosts['head'].address}:6379")
        assert "Active:" in output_of(client, *status, **OPEN)
        command = f"cd ~/st3sweep && python -m st3sweep run small.yaml --address auto --storage {run.parent} --json"
        output_of(client, "ray", "exec", OPEN_FILE, command, seconds=PATIENCE_SECONDS, **OPEN)
        assert [event["status"] for event in events(run, "done")] == ["finished"]
        note("a sweep is complete without a token")
    finally:
        output_of(client, "ray", "down", "--yes", OPEN_FILE, **OPEN)  # what is left of Ray on "one" ends with the hosts
    note("ray down has returned")


def _up(client: Host, file: str = FILE, **environment: str) -> None:
    """Start the cluster, in at most three attempts: Ray gives the head 30 s to start, which a busy machine exceeds."""
    for attempt in (1, 2, 3):
        try:
            output_of(client, "ray", "up", "--yes", file, **environment)
        except AssertionError as error:
            if attempt == 3 or "timed out during startup" not in str(error):
                raise
            note("ray up has failed, since the head took longer than 30 s: again")
        else:
            note("ray up has returned")
            return


def _refuse_without_the_token(hosts: Network) -> None:
    client, status = hosts["client"], ("ray", "status", "--address", f"{hosts['head'].address}:6379")
    without, wrong = {"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}
    for environment in (without, wrong):
        refused = output_of(client, *status, code=1, **environment)
        assert "InvalidAuthToken" in refused, refused
    assert "Active:" in output_of(client, *status, RAY_AUTH_MODE="token")
    note("refused without a token and with a wrong one, admitted with the right one")


def _sweep_with_a_cut(hosts: Network) -> None:
    client, run = hosts["client"], hosts.base / "shared" / "runs" / "spanning"
    command = f"cd ~/st3sweep && python -m st3sweep run spanning.yaml --address auto --storage {run.parent} --json"
    with on_client(client, "ray", "exec", FILE, command) as sweep:
        try:
            wait_until(lambda: events(run, "epoch") or sweep.poll() is not None, "the first epoch")
            assert sweep.poll() is None, sweep.communicate()[0]
            note("the first epoch has ended")
            wait_until(lambda: len(events(run, "done")) == 1, "the end of the first trial")
            wait_until(lambda: len(events(run, "epoch")) >= EPOCHS + 2, "the middle of the second trial")
            training = training_hosts(hosts)
            assert len(training) == 2, "a trial does not span two hosts"
            lost = next(host for host in training if host.name != "head")
            before = len(events(run, "epoch"))
            lost.cut_off()
            note(f"trial 1 trains on {' and '.join(host.name for host in training)}; {lost.name} is cut off")
            wait_until(lambda: len(events(run, "epoch")) > before + 1 or sweep.poll() is not None, "the next epoch")
            note("the second trial has resumed")
            now = [host.name for host in training_hosts(hosts) if host is not lost]
            assert len(now) == 2, "the trial does not span the two remaining hosts"
            output, _ = sweep.communicate(timeout=PATIENCE_SECONDS)
        except BaseException:
            sweep.kill()
            raise
    assert sweep.returncode == 0, output
    note("the sweep is complete")
    statuses = {event["trial"]: event["status"] for event in events(run, "done")}
    assert statuses == dict.fromkeys(range(TRIALS), "finished")
    assert len(events(run, "trial")) == len(events(run, "done")) == TRIALS
