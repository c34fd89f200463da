"""torchvision's convolutional classifiers by name, untrained, with a classifier of ``num_classes``."""

from __future__ import annotations

from torch import nn

# In training these two give the outputs of auxiliary classifiers beside the logits, and they warn unless told how to
# draw their weights: torchvision's own way.
_PLAIN = {"aux_logits": False, "init_weights": True}
_SETTINGS = {"googlenet": _PLAIN, "inception_v3": _PLAIN}


def torchvision_network(name: str, num_classes: int, channels: int) -> nn.Module:
    """The network ``name`` of ``torchvision.models``; (B, 3, H, W) -> (B, num_classes). Dropout rates are its own."""
    if channels != 3:
        raise ValueError(f"torchvision's {name} takes images of 3 channels (got {channels})")
    from torchvision.models import get_model  # seconds, which the other networks need not wait for

    return get_model(name, weights=None, num_classes=num_classes, **_SETTINGS.get(name, {}))
