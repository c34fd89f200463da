"""Reset global settings, generators and caches between the trials of one process."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import sys
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class ProcessState:
    """Snapshot of a process's global settings, which ``restore`` brings back."""

    environment: dict[str, str]
    folder: str
    warning_filters: list[Any]
    threads: int
    dtype: torch.dtype
    device: torch.device
    matmul_precision: str
    deterministic: bool
    deterministic_warns: bool
    anomaly: bool
    flush_denormal: bool
    cudnn: tuple[bool, bool, bool, bool]

    @staticmethod
    def capture() -> ProcessState:
        cudnn = torch.backends.cudnn
        deterministic, deterministic_warns = _determinism()
        return ProcessState(
            environment=dict(os.environ),
            folder=os.getcwd(),
            warning_filters=list(warnings.filters),
            threads=torch.get_num_threads(),
            dtype=torch.get_default_dtype(),
            device=torch.get_default_device(),
            matmul_precision=torch.get_float32_matmul_precision(),
            deterministic=deterministic,
            deterministic_warns=deterministic_warns,
            anomaly=torch.is_anomaly_enabled(),
            flush_denormal=_denormals_are_flushed(),
            cudnn=(cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32),
        )

    def restore(self) -> None:
        """Restore the settings, seed the global generators, drop compiled code and collect garbage."""
        if dict(os.environ) != self.environment:
            os.environ.clear()
            os.environ.update(self.environment)
        with contextlib.suppress(OSError):
            os.chdir(self.folder)
        warnings.filters[:] = self.warning_filters  # type: ignore[index]
        torch.set_num_threads(self.threads)
        torch.set_default_dtype(self.dtype)
        if torch.get_default_device() != self.device:  # None is the CPU without a cost per call
            torch.set_default_device(None if self.device.type == "cpu" else self.device)
        torch.set_float32_matmul_precision(self.matmul_precision)
        if _determinism() != (self.deterministic, self.deterministic_warns):  # setting it imports torch._inductor
            torch.use_deterministic_algorithms(self.deterministic, warn_only=self.deterministic_warns)
        torch.autograd.set_detect_anomaly(self.anomaly)
        torch.set_grad_enabled(True)
        torch.set_flush_denormal(self.flush_denormal)
        cudnn = torch.backends.cudnn
        cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32 = self.cudnn
        random.seed(0)
        np.random.seed(0)  # numpy's global generator, which libraries may use
        torch.manual_seed(0)
        if "torch._dynamo" in sys.modules:  # compiled code on disk stays: its key is the code
            torch.compiler.reset()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _determinism() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _denormals_are_flushed() -> bool:
    return float(torch.tensor([1e-39]) * torch.tensor([1.0])) == 0.0
