"""Register the models, one module each, on import; none has code for sparsity."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from st3sweep.trial.model import ModelConfig
from st3sweep.util.submodules import import_submodules


def build_model(config: ModelConfig, num_classes: int, channels: int, bn_momentum: float = 0.1) -> nn.Module:
    """Build a model, initialised from torch's global generator; batch norms get ``bn_momentum`` (PyTorch's sense)."""
    model = config.build(num_classes, channels)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = bn_momentum
    return model


import_submodules(__name__, __path__)
