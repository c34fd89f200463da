"""Start the shipped cluster on the hosts as a user does: its file with their addresses, and Ray's launcher."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hosts import HOME, Host, Network

PROJECT = Path(__file__).parents[2]
SHIPPED = PROJECT / "docs" / "clusters" / "on_premises.yaml"
CPUS = 3  # of a host, as Ray counts: one worker of a trial fits beside the sweep's own actors, two do not
# Stands for the installation of the shipped file, which needs a package index: an environment that sees the packages of
# the tests' own, and the project in the host's home before them.
_INSTALL = """\
cd ~/st3sweep && {python} -m venv --without-pip .venv
echo ~/st3sweep > .venv/lib/python{version}/site-packages/0.pth
echo {packages} >> .venv/lib/python{version}/site-packages/0.pth
printf '#!/bin/bash\\nexec ~/st3sweep/.venv/bin/python -m ray.scripts.scripts "$@"\\n' > .venv/bin/ray
chmod +x .venv/bin/ray
"""


def configuration(network: Network) -> dict[str, Any]:
    """Return the shipped file for the hosts head, one and two: other addresses, key, installation, number of CPUs."""
    config = yaml.safe_load(SHIPPED.read_text())
    config["provider"] |= {
        "head_ip": network["head"].address,
        "worker_ips": [network["one"].address, network["two"].address],
    }
    config["auth"] = {"ssh_user": "root", "ssh_private_key": str(network.key)}
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    packages = Path(yaml.__file__).parents[1]
    install = _INSTALL.format(python=sys.executable, version=version, packages=packages)
    config["setup_commands"] = [install, *(one for one in config["setup_commands"] if "RAY_AUTH_MODE" in one)]
    for name in ("head_start_ray_commands", "worker_start_ray_commands"):
        config[name] = [one.replace("ray start", f"ray start --num-cpus={CPUS}") for one in config[name]]
    return config


def without_token(config: dict[str, Any], workers: Sequence[Host]) -> dict[str, Any]:
    """Return the configuration for these workers alone, with the edit of docs/clusters.md that turns tokens off."""
    found = {**config, "cluster_name": "open", "provider": dict(config["provider"])}
    found["provider"]["worker_ips"] = [host.address for host in workers]
    found["file_mounts"] = {to: file for to, file in config["file_mounts"].items() if "auth_token" not in to}
    off = [one.replace("RAY_AUTH_MODE=token", "RAY_AUTH_MODE=disabled") for one in config["setup_commands"]]
    assert off != config["setup_commands"]
    # An earlier cluster may have left its own setting, which the shipped command keeps.
    found["setup_commands"] = ["touch ~/.bashrc && sed -i /RAY_AUTH_MODE/d ~/.bashrc", *off]
    return found


def check_out(client: Host) -> Path:
    """Copy the project into the client's home, without what git ignores; return its folder."""
    listed = subprocess.run(
        ["git", "-C", str(PROJECT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    )
    target = client.folder / "home" / "st3sweep"
    for name in filter(None, listed.stdout.split("\0")):
        if (PROJECT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, target / name)
    return target


def on_client(client: Host, *command: str, **environment: str) -> subprocess.Popen[str]:
    """Start ``command`` in the client's copy of the project, as a user would."""
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PYTHON"))}
    surroundings |= {"HOME": HOME, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "TERM": "dumb"}
    return subprocess.Popen(
        client.command(*command, folder=f"{HOME}/st3sweep"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=surroundings | environment,
    )


def output_of(client: Host, *command: str, seconds: float = 300.0, code: int | None = 0, **environment: str) -> str:
    """Run ``command`` on the client and return what it prints; check its exit code unless that is None."""
    with on_client(client, *command, **environment) as running:
        try:
            output, _ = running.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            running.kill()
            raise
    assert code is None or running.returncode == code, f"{' '.join(command)}: {running.returncode}\n{output}"
    return output
