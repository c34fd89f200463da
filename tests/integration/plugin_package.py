"""Build and install the package of plugins in ``tests/plugins`` as its users would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from programs import PROJECT

PLUGINS = Path(__file__).parents[1] / "plugins"
SPACE = """\
schema: st3sweep/v1
name: toy
trial:
  model: {arch: shapes_net, width: 8}
  data: {dataset: shapes, validation: 32}
  train: {epochs: 30, batch_size: 16}
  sparsity: {method: toy}
search:
  sparsity.target: {choice: [0.5, 0.9]}
searcher: {sampler: grid}
resources: {workers: 1, cpus_per_worker: 1, slots: 1}
"""
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"


def command(
    *words: str, path: str = "", python: Path | str = sys.executable, folder: Path = PROJECT
) -> tuple[int, str, str]:
    """Exit code, output and errors of a command that needs no Ray, with the folders ``path`` on Python's path."""
    line = [str(python), "-m", "st3sweep", *words]
    done = subprocess.run(line, cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def unpacked_wheel(folder: Path) -> Path:
    """Build the package's wheel and unpack it, which is what an installer does, into a folder; return that."""
    source = sources(folder)
    subprocess.run([sys.executable, "-c", BUILD, str(folder)], cwd=source, check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder / "installed")
    return folder / "installed"


def sources(folder: Path) -> Path:
    """Return a copy of the package, in which building it may leave files."""
    return Path(shutil.copytree(PLUGINS / "package", folder / "package"))


def environment(folder: Path) -> Path:
    """Make a virtual environment that sees this checkout and what this environment has; return its interpreter.

    A path that a .pth file adds is not searched for further .pth files: an editable installation stays out.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    place = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = subprocess.run([python, "-c", place], check=True, capture_output=True, text=True).stdout.strip()
    seen = [str(PROJECT), *(entry for entry in sys.path if Path(entry).name == "site-packages")]
    (Path(packages) / "st3sweep.pth").write_text("\n".join(seen) + "\n")
    return python


def pip(python: Path, *words: str) -> str:
    """Run pip in the environment of ``python``, without the network; return its output."""
    line = [str(python), "-m", "pip", "--disable-pip-version-check", *words]
    surroundings = {**os.environ, "PYTHONPATH": "", "PIP_NO_INDEX": "1"}
    return subprocess.run(line, env=surroundings, check=True, capture_output=True, text=True).stdout
