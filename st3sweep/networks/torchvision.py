"""torchvision's convolutional classifiers by name, untrained, with a classifier of ``num_classes``."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field
from torch import nn

from st3sweep.networks.torchvision_names import NETWORKS, known_network, smallest_image
from st3sweep.trial.model import ModelConfig, register_model


@register_model
class TorchvisionConfig(ModelConfig):
    """A convolutional classifier of torchvision by its name there, untrained; three channels."""

    arch: Literal["torchvision"]
    network: Annotated[str, AfterValidator(known_network), Field(json_schema_extra={"enum": list(NETWORKS)})]
    three_channels_only: ClassVar[bool] = True

    @property
    def name(self) -> str:
        # ResNet-50 is the same network by either way to name it; the VGG-11 here is another one than torchvision's.
        return self.network if self.network == "resnet50" else f"torchvision_{self.network}"

    @property
    def smallest_image(self) -> int:
        return smallest_image(self.network)

    def build(self, num_classes: int, channels: int) -> nn.Module:
        return torchvision_network(self.network, num_classes, channels)


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
