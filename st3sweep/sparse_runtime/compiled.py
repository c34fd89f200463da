"""Compile ``engine.c`` once a machine with the system's C compiler, and load it."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from st3sweep.sparse_runtime.plan import Op

COMPILERS = ("cc", "gcc", "clang")
# The first that the compiler accepts. Contracted: a product and a sum may become one instruction.
FLAGS: tuple[list[str], ...] = (["-march=native"], ["-mcpu=native"], [])
ALWAYS = ["-O3", "-std=gnu11", "-ffp-contract=fast", "-shared", "-fPIC"]


class CompilerError(RuntimeError):
    """There is no C compiler, or it does not compile the engine; one line."""


def engine(source: Path) -> ctypes.CDLL:
    """Return the engine compiled from ``source``, from the user's cache folder if it is there. Raises CompilerError.

    ``ST3SWEEP_SPARSE_ENGINE`` names a library compiled before, for machines without a compiler.
    """
    made = os.environ.get("ST3SWEEP_SPARSE_ENGINE")
    return _loaded(Path(made) if made else _compiled(source))


def _compiled(source: Path) -> Path:
    code = source.read_bytes()
    compiler = _compiler()
    flags = ALWAYS + os.environ.get("ST3SWEEP_SPARSE_CFLAGS", "").split()
    digest = hashlib.sha256(code)
    for part in (_output([compiler, "--version"]), " ".join(flags), platform.machine(), _cpu()):
        digest.update(b"\0" + part.encode())
    path = _cache() / f"engine-{digest.hexdigest()[:24]}.so"
    if not path.exists():
        _compile(compiler, flags, code, path)
    return path


def _loaded(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise CompilerError(f"{path}: cannot be loaded ({error})") from None
    library.engine_op_size.restype = ctypes.c_int64
    library.engine_time.restype = ctypes.c_double
    library.engine_time.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    library.engine_run.argtypes = [pointer, number, pointer, pointer, number, pointer, number, number]
    library.engine_run.restype = None
    if library.engine_op_size() != ctypes.sizeof(Op):
        raise CompilerError(f"{path}: not the engine of this version of plan.py")
    return library


def _compiler() -> str:
    named = os.environ.get("CC")
    for name in [named] if named else COMPILERS:
        if found := shutil.which(name):
            return found
    looked = f"CC={named}" if named else ", ".join(COMPILERS)
    raise CompilerError(f"no C compiler found (looked for {looked}); install gcc or clang, or set CC")


def _compile(compiler: str, flags: list[str], code: bytes, path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    said = ""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        source, made = Path(folder) / "engine.c", Path(folder) / "engine.so"
        source.write_bytes(code)
        for machine in FLAGS:
            command = [compiler, *flags, *machine, str(source), "-o", str(made)]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
            if done.returncode == 0:
                os.replace(made, path)  # whole or not at all: others may compile it too
                return
            said = said or next((line for line in done.stderr.splitlines() if "error" in line), "no message")
    raise CompilerError(f"{compiler} cannot compile the engine: {said}")


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False).stdout


def _cpu() -> str:
    """Return what the processor can do: a home folder may be shared by machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.lower().startswith(("flags", "features"))), "")


def _cache() -> Path:
    """Return the folder of compiled engines: only its owner may write there, because it is loaded as code."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "st3sweep" / "sparse_runtime"
