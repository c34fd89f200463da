"""What a trial computes with on its device: precision, TF32, deterministic algorithms."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from st3sweep.trial.settings import TrialSettings


def with_precision_of(device: torch.device, spec: TrialSettings) -> TrialSettings:
    """Return ``spec`` with the precision that ``auto`` is on ``device``: bf16 on GPUs that have it, fp32 elsewhere."""
    if spec.train.precision != "auto":
        return spec
    precision = "bf16" if _has_bfloat16(device) else "fp32"
    return spec.model_copy(update={"train": spec.train.model_copy(update={"precision": precision})})


def _has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware: NVIDIA GPUs from compute capability 8.0 on, AMD's MI ones."""
    if device.type != "cuda":
        return False
    return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)


@contextmanager
def numerics(spec: TrialSettings, device: torch.device) -> Iterator[str]:
    """Set torch up for ``spec`` on ``device``; yields the precision in words: bf16, tf32 or fp32.

    float32 products on a GPU are computed in TF32: float32's range with 10 bits of mantissa; cuDNN tries its algorithms
    at the first batch of a shape and takes the fastest. With ``deterministic``, torch takes deterministic algorithms
    only, and raises where there is none.
    """
    cudnn, on_gpu = torch.backends.cudnn, device.type == "cuda"
    flags = (cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, torch.get_float32_matmul_precision())
    deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        if on_gpu:
            cudnn.allow_tf32, cudnn.benchmark = True, True
            torch.set_float32_matmul_precision("high")
        if spec.train.deterministic:
            os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # read by cuBLAS when it is first used
            cudnn.benchmark, cudnn.deterministic = False, True
            torch.use_deterministic_algorithms(True)
        yield "tf32" if on_gpu and spec.train.precision == "fp32" else spec.train.precision
    finally:
        cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32 = flags[:3]
        torch.set_float32_matmul_precision(flags[3])
        if torch.are_deterministic_algorithms_enabled() != deterministic:  # setting it imports torch._inductor
            torch.use_deterministic_algorithms(deterministic)
