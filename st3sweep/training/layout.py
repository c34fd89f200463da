"""Choose the memory layout in which a model trains fastest; results differ in the last digits only."""

from __future__ import annotations

import torch
from torch import nn


def fastest_layout(model: nn.Module, device: torch.device) -> torch.memory_format:
    """Return ``channels_last``, the fastest by measurement (``benchmarks/step.py``), except where it is unsafe.

    On a CPU, oneDNN's backward pass of a strided 1x1 convolution in that layout (kernel ``jit_1x1`` of torch 2.14)
    writes beyond its memory unless the input channels fill whole vectors: 8 floats with AVX2, 16 with AVX-512. Models
    with such a layer stay contiguous.
    """
    if device.type not in ("cpu", "cuda") or (device.type == "cpu" and any(map(_overruns, model.modules()))):
        return torch.contiguous_format
    return torch.channels_last


def _overruns(module: nn.Module) -> bool:
    if not isinstance(module, nn.Conv2d) or module.kernel_size != (1, 1):
        return False
    return module.stride != (1, 1) and (module.in_channels // module.groups) % 16 != 0
