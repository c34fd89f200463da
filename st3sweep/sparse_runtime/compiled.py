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
from typing import Any

from st3sweep.sparse_runtime.ops import Op

COMPILERS = ("cc", "gcc", "clang")
# The first that the compiler accepts. Contracted: a product and a sum may become one instruction.
FLAGS: tuple[list[str], ...] = (["-march=native"], ["-mcpu=native"], [])
ALWAYS = ["-O3", "-std=gnu11", "-ffp-contract=fast", "-shared", "-fPIC", "-pthread"]
SOURCES = ("engine.c", "crew.h", "layers.h", "kernels.h")


class CompilerError(RuntimeError):
    """There is no C compiler, or it does not compile the engine; one line."""


_POINTER, _NUMBER = ctypes.c_void_p, ctypes.c_int64
_FUNCTIONS: dict[str, list[Any]] = {  # what each returns, and takes
    "engine_op_size": [_NUMBER],
    "engine_lanes": [_NUMBER],
    "engine_finite": [_NUMBER, _POINTER, _NUMBER],
    "engine_crew": [_POINTER, _NUMBER],
    "engine_crew_stop": [None, _POINTER],
    "engine_time": [ctypes.c_double, _POINTER, _POINTER, _POINTER, _NUMBER, _NUMBER],
    "engine_run": [
        None, _POINTER, _POINTER, _NUMBER, _POINTER, _NUMBER, _POINTER, _NUMBER, _POINTER, _NUMBER, _NUMBER,
    ],
}  # fmt: skip


def engine(folder: Path) -> ctypes.CDLL:
    """Return the engine compiled from SOURCES in ``folder``, or from the user's cache folder. Raises CompilerError.

    ``ST3SWEEP_SPARSE_ENGINE`` names a library compiled before, for machines without a compiler.
    """
    made = os.environ.get("ST3SWEEP_SPARSE_ENGINE")
    return _loaded(Path(made) if made else _compiled(folder))


def _compiled(folder: Path) -> Path:
    code = {name: (folder / name).read_bytes() for name in SOURCES}
    compiler = _compiler()
    flags = ALWAYS + os.environ.get("ST3SWEEP_SPARSE_CFLAGS", "").split()
    digest = hashlib.sha256(b"\0".join(code.values()))
    for part in (_output([compiler, "--version"]), " ".join(flags), platform.machine(), _cpu()):
        digest.update(b"\0" + part.encode())
    path = cache_folder() / f"engine-{digest.hexdigest()[:24]}.so"
    if not path.exists():
        try:
            _compile(compiler, flags, code, path)
        except OSError as error:  # of a user whose home folder is / in a container, say
            raise CompilerError(f"the engine cannot be compiled ({error})") from None
    return path


def _loaded(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise CompilerError(f"{path}: cannot be loaded ({error})") from None
    for name, (result, *arguments) in _FUNCTIONS.items():
        function = getattr(library, name, None)
        if function is None:
            raise CompilerError(f"{path}: not the engine of this version (it has no {name})")
        function.restype, function.argtypes = result, arguments
    if library.engine_op_size() != ctypes.sizeof(Op):
        raise CompilerError(f"{path}: not the engine of this version")
    return library


def _compiler() -> str:
    named = os.environ.get("CC")
    for name in [named] if named else COMPILERS:
        if found := shutil.which(name):
            return found
    looked = f"CC={named}" if named else ", ".join(COMPILERS)
    raise CompilerError(f"no C compiler found (looked for {looked}); install gcc or clang, or set CC")


def _compile(compiler: str, flags: list[str], code: dict[str, bytes], path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    said = ""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        for name, text in code.items():
            (Path(folder) / name).write_bytes(text)
        source, made = Path(folder) / SOURCES[0], Path(folder) / "engine.so"
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


def cache_folder() -> Path:
    """Return the folder of compiled engines: only its owner may write there, because it is loaded as code.

    It is in that of ``st3sweep.util.cache``, which an exported folder cannot import. Raises CompilerError where the
    user has no home folder.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")  # a relative one is ignored, as XDG says: code is loaded from there
    if not os.path.isabs(base):
        base = os.path.expanduser("~/.cache")
    if not os.path.isabs(base):
        raise CompilerError("the user has no home folder; set the environment variable XDG_CACHE_HOME to a folder")
    return Path(base) / "st3sweep" / "sparse_runtime"
