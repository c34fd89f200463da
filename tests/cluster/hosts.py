"""Hosts on one machine: Linux network namespaces on a bridge, each with its own processes, /tmp, home and sshd."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

SSHD = "/usr/sbin/sshd"
HOME = "/mnt"  # of root on every host; where Python and the project are must stay visible
HIDDEN = ("/tmp", HOME, "/dev/shm", "/run")
SUBNET = "10.77.0"

# Runs as the first process of a host, in namespaces of its own: what it mounts, no other process sees.
_BOOT = """\
set -e
hostname {name}
mount --bind {folder}/tmp /tmp
mount --bind {folder}/home /mnt
mount --bind {folder}/passwd /etc/passwd
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mkdir -p /run/sshd
"""
_SSHD_CONFIG = """\
ListenAddress {address}
HostKey {keys}/host
AuthorizedKeysFile {keys}/user.pub
PasswordAuthentication no
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
PidFile none
MaxStartups 100
MaxSessions 100
"""


def missing() -> str | None:
    """Return why no hosts can be made here; None if they can."""
    if not sys.platform.startswith("linux"):
        return "needs Linux network namespaces"
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    for folder in HIDDEN:
        if Path(sys.prefix).resolve().is_relative_to(folder):
            return f"each host has a {folder} of its own, and would not see the environment {sys.prefix}"
    for program in ("ip", "ssh", "ssh-keygen", "rsync", "unshare", SSHD):
        if shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None:
            return f"needs the program {program}"
    probe = f"st3-probe-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", probe], capture_output=True).returncode:
        return "network namespaces cannot be made here"
    _ip("netns", "delete", probe)
    return None


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


class Host:
    """A host: its network namespace, its address and, once it is booted, its first process."""

    def __init__(self, name: str, number: int, base: Path):
        self.name, self.address, self.folder, self.base = name, f"{SUBNET}.{number}", base / "hosts" / name, base
        self.namespace = f"st3-{os.getpid()}-{name}"
        self.cable = f"st3{os.getpid()}v{number}"[-15:]  # the end at the bridge
        self.first: subprocess.Popen[bytes] | None = None

    def boot(self, bridge: str) -> None:
        """Connect the host to ``bridge`` and start its first process: sshd."""
        for name in ("tmp", "home"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "passwd").write_text(
            f"root:x:0:0:root:{HOME}:/bin/bash\nsshd:x:{_user('sshd')}:65534::/run/sshd:/usr/sbin/nologin\n"
        )
        _ip("netns", "add", self.namespace)
        _ip("link", "add", self.cable, "type", "veth", "peer", "name", "eth0", "netns", self.namespace)
        _ip("link", "set", self.cable, "master", bridge, "up")
        inside = ("-n", self.namespace)
        _ip(*inside, "address", "add", f"{self.address}/24", "dev", "eth0")
        _ip(*inside, "link", "set", "lo", "up")
        _ip(*inside, "link", "set", "eth0", "up")
        _ip(*inside, "route", "add", "default", "dev", "eth0")  # by which Ray finds its own address
        keys = self.base / "keys"
        (self.folder / "sshd_config").write_text(_SSHD_CONFIG.format(address=self.address, keys=keys))
        sshd = f"exec {SSHD} -D -e -f {self.folder}/sshd_config"
        # A namespace of processes: `ray stop` ends processes by their name. They all end with its first.
        private = ["unshare", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child"]
        script = _BOOT.format(name=self.name, folder=self.folder) + sshd
        with open(self.folder / "sshd.log", "wb") as log:
            self.first = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, *private, "bash", "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def command(self, *command: str, folder: str = HOME) -> list[str]:
        """Return a command line that runs ``command`` on this host, in ``folder``, not over ssh."""
        first = self.processes()[0]
        return ["nsenter", f"--target={first}", "--all", "env", f"--chdir={folder}", *command]

    def processes(self) -> list[int]:
        """Return the processes of this host, the first one first, by their numbers on this machine."""
        assert self.first is not None
        children = Path(f"/proc/{self.first.pid}/task/{self.first.pid}/children").read_text().split()
        first = int(children[0])
        own = os.readlink(f"/proc/{first}/ns/pid")
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if entry.name.isdigit() and os.readlink(entry / "ns" / "pid") == own:
                    found.append(int(entry.name))
        return [first, *sorted(set(found) - {first})]

    def titles(self) -> list[str]:
        """Return the command lines of the host's processes, without its first and zombies."""
        titles = []
        for process in self.processes()[1:]:
            with suppress(OSError):
                titles.append(Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip())
        return [title for title in titles if title]

    def cut_off(self) -> None:
        """Drop every packet from and to this host: no connection is closed, and its link stays up."""
        _ip("link", "set", self.cable, "nomaster")

    def reconnect(self, bridge: str) -> None:
        _ip("link", "set", self.cable, "master", bridge)

    def end(self) -> None:
        if self.first is not None:
            with suppress(OSError, IndexError):
                os.kill(self.processes()[0], 9)
            self.first.kill()
            self.first.wait()
        subprocess.run(["ip", "netns", "delete", self.namespace], capture_output=True)


def _user(name: str) -> int:
    import pwd

    return pwd.getpwnam(name).pw_uid


class Network:
    """Hosts on a bridge, and the private key that opens them."""

    def __init__(self, hosts: Sequence[Host], bridge: str, base: Path):
        self.hosts, self.bridge, self.base = hosts, bridge, base
        self.key = base / "keys" / "user"

    def __getitem__(self, name: str) -> Host:
        return next(host for host in self.hosts if host.name == name)


@contextmanager
def network(names: Sequence[str], base: Path) -> Iterator[Network]:
    """Boot hosts with these names, whose files lie in ``base``; end everything on them when the block ends."""
    (base / "keys").mkdir()
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(base / "keys" / key)], check=True)
    bridge = f"st3{os.getpid()}br"[-15:]
    with ExitStack() as to_end:
        _ip("link", "add", bridge, "type", "bridge")
        to_end.callback(_ip, "link", "delete", bridge)
        _ip("link", "set", bridge, "up")
        hosts = [Host(name, number, base) for number, name in enumerate(names, start=1)]
        for host in hosts:
            to_end.callback(host.end)
            host.boot(bridge)
        for host in hosts:
            _wait_for_sshd(host)
        yield Network(hosts, bridge, base)


def _wait_for_sshd(host: Host) -> None:
    log = host.folder / "sshd.log"
    for _ in range(200):
        if b"Server listening" in log.read_bytes():
            return
        assert host.first is not None
        assert host.first.poll() is None, log.read_text()
        time.sleep(0.05)
    raise AssertionError(f"no sshd on {host.name}:\n{log.read_text()}")
