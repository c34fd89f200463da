"""Record what a run's numbers depend on: code, packages, host, data, command. Written once, when the run starts."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from st3sweep.util.version import __version__

PACKAGES = (
    "torch",
    "torchvision",
    "ray",
    "optuna",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "scikit-learn",
    "pillow",
    "timm",
)


def provenance(root: str | None) -> dict[str, Any]:
    """Return the facts as plain values; ``root`` is the folder of the data, None if the data is bundled."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "st3sweep": __version__,
        "git": _git(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "host": {
            "name": socket.gethostname(),
            "system": platform.platform(),
            "processor": processor(),
            "cpus": os.cpu_count(),
        },
        "data": _fingerprint(Path(root)) if root else "bundled with scikit-learn",
    }


def _git() -> dict[str, str] | None:
    """Return commit and uncommitted changes of the checkout that this package runs from; None outside of one."""
    here = Path(__file__)

    def git(*words: str) -> str:
        command = ["git", *words]
        done = subprocess.run(command, cwd=here.parent, capture_output=True, check=True, timeout=30)
        return done.stdout.decode(errors="replace")  # a changed file may be in any encoding

    try:
        git("ls-files", "--error-unmatch", here.name)  # fails where it is installed below another project's checkout
        return {"commit": git("rev-parse", "HEAD").strip(), "diff": git("diff", "HEAD")}
    except (OSError, subprocess.SubprocessError):
        return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _fingerprint(root: Path, most: int = 1000) -> dict[str, Any]:
    """Return names and sizes of the files in ``root`` and one level below: enough to tell two copies apart."""
    files: list[str] = []
    for pattern in ("*", "*/*"):
        files += [f"{path.relative_to(root)} {path.stat().st_size}" for path in root.glob(pattern) if path.is_file()]
    return {"root": str(root), "files": sorted(files)[:most], "count": len(files)}
