"""Workers of a local Ray cluster are forks of one process; where they cannot be, they start in Ray's way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil

from st3sweep.execution import quiet_agent

PROGRAM = """
import json, os, signal, sys, time
import st3sweep.execution
import psutil
import ray
from st3sweep.execution.cluster import cluster
from st3sweep.space.resources import Resources


class Actor:
    def facts(self):
        import ray
        return {
            "pid": os.getpid(),
            "parent": os.getppid(),
            "group": os.getpgrp(),
            "had_torch": "st3sweep.training.loop" in sys.modules,
            "worker": ray.get_runtime_context().get_worker_id(),
            "variable": os.environ["OF_ONE"],
        }


def started(number):
    options = {"num_cpus": 0, "runtime_env": {"env_vars": {"OF_ONE": str(number)}}}
    actor = ray.remote(Actor).options(**options).remote()
    return ray.get(actor.facts.remote()), actor


with cluster(None, Resources(slots=1)):
    started_by_ray = {process.pid: process.cmdline() for process in psutil.Process().children(recursive=True)}
    first, kept = started(0)
    second, _kept = started(1)
    folder = os.path.dirname(os.environ["ST3SWEEP_FORK_SERVER"])
    os.kill(first["pid"], signal.SIGKILL)
    third, _also_kept = started(2)
    os.kill(first["parent"], signal.SIGKILL)
    fourth, _ = started(3)
    still = ray.get(_also_kept.facts.remote())["pid"]
print(json.dumps({"folder": folder, "still": still, "ray": started_by_ray, "found": [first, second, third, fourth]}))
"""


def test_workers_are_forks_and_need_not_be(tmp_path: Path) -> None:
    """A killed worker ends no other; without its server, a worker starts in Ray's way, and the forks stay.

    Of the processes that Ray would start for its dashboard there is none, and all of Ray's end with the program.
    """
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout.splitlines()[-1])
    first, second, third, fourth = report["found"]
    assert first["parent"] == second["parent"] == third["parent"] != fourth["parent"]
    assert [one["had_torch"] for one in report["found"]] == [True, True, True, False]
    assert [one["variable"] for one in report["found"]] == ["0", "1", "2", "3"], "each has its own environment"
    assert len({one["worker"] for one in report["found"]}) == len({one["pid"] for one in report["found"]}) == 4
    assert all(one["group"] == one["pid"] for one in report["found"][:3]), "the raylet ends groups"
    assert report["still"] == third["pid"]
    titles = [" ".join(words) for words in report["ray"].values()]
    unused = ("DashboardAgent", "dashboard.py", "monitor.py")
    assert not [title for title in titles if any(name in title for name in unused)], "they take seconds to start"
    agents = [words for words in report["ray"].values() if words[2:3] and words[2].endswith("/quiet_agent.py")]
    assert len(agents) == 1, "without an agent no node starts"
    ends = [*_pids(report), *map(int, report["ray"])]
    psutil.wait_procs([psutil.Process(pid) for pid in ends if psutil.pid_exists(pid)], timeout=20)
    assert not [pid for pid in ends if psutil.pid_exists(pid)]
    assert not Path(report["folder"]).exists()


def _pids(report: dict) -> list[int]:
    return [one[kind] for one in report["found"] for kind in ("pid", "parent")]


def test_forks_draw_ids_of_their_own(tmp_path: Path) -> None:
    """Forks of a process that has drawn one of Ray's random ids draw the same ones, and read each other's objects."""
    (tmp_path / "program.py").write_text(
        "import os\n"
        "from st3sweep.execution import fork_server\n"
        "fork_server._import_ray(dict(os.environ))\n"
        "print(fork_server._forks_draw_own_ids())\n"
        "fork_server._drawn()\n"
        "print(fork_server._forks_draw_own_ids())\n"
    )
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_another_version_of_ray_gets_its_own_agent(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text("import sys; print(sys.argv[1:])")
    stand_in = Path(quiet_agent.__file__)
    words = [sys.executable, "-S", str(stand_in), str(tmp_path / "agent.py"), "--node-id=1", "--folder=/tmp"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == "['--node-id=1', '--folder=/tmp']\n"
