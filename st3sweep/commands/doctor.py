"""Check whether this machine is ready: versions, devices, storage, ports, latency, data. A line a check.

Nothing is changed, but the sparse engine is compiled into the cache.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from st3sweep.data.duplicates import between_splits
from st3sweep.data.pack.staging import StagingError, described
from st3sweep.space.sample_points import sample_points
from st3sweep.trial.data import OnDiskConfig
from st3sweep.util.errors import SpecError, UserError
from st3sweep.util.sockets import ray_folder
from st3sweep.util.text import counted

if TYPE_CHECKING:
    from st3sweep.commands.reading import Source

LEAST_DISK_GB, LEAST_SHARED_GB = 10.0, 1.0
DASHBOARD_PORT = 8265  # Ray's


@dataclass(frozen=True)
class Check:
    """Result of one check: a sweep cannot run with a ``fail``; a ``warn`` may cost it something."""

    name: str
    state: Literal["ok", "warn", "fail"]
    found: str


def checks(storage: Path, space: Source | None = None, plugins: Sequence[str] = ()) -> Iterator[Check]:
    """Run every check; ``storage`` is the folder of runs, ``space`` a search space whose data to check too."""
    yield _python()
    yield from _packages()
    yield _devices()
    yield _storage(storage)
    yield _shared_memory()
    yield _temporary_folder()
    yield _port()
    yield _optional("optuna_dashboard", "the study in a browser", "optuna-dashboard")
    yield latency_check()
    if space is not None:
        yield from _data(space, plugins)


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    return Check("python", "ok" if sys.version_info >= (3, 11) else "fail", f"{found} (3.11 or newer)")


def _packages() -> Iterator[Check]:
    """Check the version of each package that st3sweep requires."""
    try:
        asked_for = metadata.requires("st3sweep") or []
    except metadata.PackageNotFoundError:
        checkout = Path(__file__).parents[2] / "pyproject.toml"
        if not checkout.is_file():
            yield Check("st3sweep", "warn", "not installed, so its requirements are unknown: pip install -e .")
            return
        yield Check("st3sweep", "warn", f"not installed, but on the path: {checkout.parent}")
        asked_for = tomllib.loads(checkout.read_text(encoding="utf-8"))["project"]["dependencies"]
    for text in asked_for:
        if "extra ==" in text or not (match := re.match(r"([A-Za-z0-9_.-]+)(\[.*\])?>=([0-9.]+)", text)):
            continue
        name, least = match[1], match[3]
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Check(name, "fail", f"not installed ({least} or newer)")
            continue
        yield Check(name, "ok" if _numbers(found) >= _numbers(least) else "fail", f"{found} ({least} or newer)")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.split("+")[0])[:3])


def _devices() -> Check:
    import torch

    cpus = counted(os.cpu_count() or 1, "CPU")
    if not torch.cuda.is_available():
        driver = (
            " though nvidia-smi is installed: is torch built for another CUDA?" if shutil.which("nvidia-smi") else ""
        )
        return Check("devices", "warn" if driver else "ok", f"{cpus}, no GPU{driver}")
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return Check("devices", "ok", f"{cpus}, {counted(len(names), 'GPU')}: {', '.join(dict.fromkeys(names))}")


def _storage(folder: Path) -> Check:
    """Check that the folder can be written, and how much space is free."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=there):
            pass
    except OSError as error:
        return Check("storage", "fail", f"{there}: cannot be written ({error.strerror})")
    free = shutil.disk_usage(there).free / 1e9
    return Check("storage", "ok" if free >= LEAST_DISK_GB else "warn", f"{there}: {free:.0f} GB free")


def _shared_memory() -> Check:
    """Check /dev/shm, where Ray keeps objects; if it is small, Ray falls back to a slow disk."""
    path = Path("/dev/shm")
    if not path.is_dir():
        return Check("shared memory", "warn", "no /dev/shm: Ray will use the disk")
    free = shutil.disk_usage(path).free / 1e9
    return Check("shared memory", "ok" if free >= LEAST_SHARED_GB else "warn", f"{free:.1f} GB free in /dev/shm")


def _port() -> Check:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port closed a moment ago counts as free
        try:
            trial.bind(("127.0.0.1", DASHBOARD_PORT))
        except OSError:
            return Check(
                "dashboard",
                "warn",
                f"port {DASHBOARD_PORT} is in use: by a Ray cluster? Connect to it with --address auto",
            )
    return Check("dashboard", "ok", f"port {DASHBOARD_PORT} is free, if this machine is to be a cluster's head")


def _optional(package: str, what: str, install: str) -> Check:
    from importlib.util import find_spec

    there = find_spec(package) is not None
    return Check(install, "ok", f"installed: {what}" if there else f"not installed; it shows {what}")


def latency_check() -> Check:
    """Check whether latency can be measured here, and how well it is predicted."""
    from st3sweep.export.calibration import engine_missing, predictor

    if missing := engine_missing():
        return Check("latency", "warn", f"cannot be measured: {missing}")
    found = predictor()
    if found is None:
        return Check("latency", "ok", "not calibrated: doctor --calibrate, or the first space that asks for it")
    beside = "; others ran beside the calibration: repeat it on an idle machine" if found.disturbed else ""
    error = f"median error {100 * found.error:.0f} %, nine of ten below {100 * found.largest:.0f} %"
    state: Literal["ok", "warn"] = "warn" if found.disturbed else "ok"
    return Check("latency", state, f"predicted: {error}, on {found.held_out} random networks left out{beside}")


def _data(file: Source, plugins: Sequence[str]) -> Iterator[Check]:
    from st3sweep.commands.plan import check_data
    from st3sweep.commands.reading import read_space

    try:
        space = read_space(file, plugins=plugins)
        info = check_data(space)
    except SpecError as error:
        yield Check("data", "fail", "; ".join(map(str, error.problems)))
        return
    except UserError as error:
        yield Check("data", "fail", str(error))
        return
    name = space.document.file
    yield Check("data", "ok", f"{name}: {info.train:,} training images" + (f"; {info.note}" if info.note else ""))
    data = space.trial_for(sample_points(space)[0]).data
    if isinstance(data, OnDiskConfig) and data.pack:
        yield _pack(data.pack)
    files = data.split_files() if isinstance(data, OnDiskConfig) else {}
    if files:
        yield _duplicates(files)


def _pack(pack: str) -> Check:
    """Check that this machine has room for a copy of the pack, if it is to have one."""
    try:
        return Check("pack", "ok", f"{pack}: {described(pack)}")
    except StagingError as error:
        return Check("pack", "fail", str(error))


def _duplicates(files: dict[str, list[str]]) -> Check:
    """Check that no image lies in two of training, validation and test; by content, for a bounded time."""
    found = between_splits(files)
    sampled = "" if found.compared == found.candidates else f" ({found.compared:,} of {found.candidates:,} compared)"
    if not found.pairs:
        return Check("duplicates", "ok", f"no image lies in two of {', '.join(files)}{sampled}")
    (one, path), (other, same) = found.pairs[0]
    example = f"{path} ({one}) is {same} ({other})"
    return Check(
        "duplicates", "warn", f"{len(found.pairs):,} images lie in two of them, for example {example}{sampled}"
    )


def _temporary_folder() -> Check:
    """Check that the paths of Ray's sockets, which the system limits to 107 characters, are short enough."""
    try:
        chosen = ray_folder()
    except UserError as error:
        return Check("temporary files", "fail", str(error))
    return Check("temporary files", "ok", f"Ray's are in {chosen}")
