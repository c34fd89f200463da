"""torchvision's convolutional classifiers by name, with a classifier of ``num_classes``."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field
from torch import Tensor, nn

from st3sweep.networks.torchvision_names import NETWORKS, known_network, smallest_image
from st3sweep.trial.model import ModelConfig, register_model
from st3sweep.util.errors import UserError


@register_model
class TorchvisionConfig(ModelConfig):
    """A convolutional classifier of torchvision by its name there; three channels.

    ``weights`` may be a file, or the name of torchvision's own, e.g. IMAGENET1K_V1, which are downloaded once.
    """

    arch: Literal["torchvision"]
    network: Annotated[str, AfterValidator(known_network), Field(json_schema_extra={"enum": list(NETWORKS)})]
    three_channels_only: ClassVar[bool] = True

    @property
    def label(self) -> str:
        # ResNet-50 is the same model under both names; our VGG-11 differs from torchvision's.
        return self.network if self.network == "resnet50" else f"torchvision_{self.network}"

    @property
    def smallest_image(self) -> int:
        return smallest_image(self.network)

    @property
    def weights_by_name(self) -> bool:
        return self.weights is not None and re.fullmatch(r"[A-Z0-9_]+", self.weights) is not None

    def named_weights(self, name: str) -> dict[str, Tensor]:
        from torchvision.models import get_model_weights

        known = get_model_weights(self.network)
        names = [one.name for one in known]  # without the alias DEFAULT, whose meaning changes
        if name not in names:
            raise UserError(f"model.weights: {name}: torchvision has {', '.join(names)} of {self.network}")
        try:
            return dict(known[name].get_state_dict(progress=False, check_hash=True))
        except OSError as error:
            raise UserError(f"model.weights: {name}: cannot be downloaded ({error})") from None

    def build(self, num_classes: int, channels: int) -> nn.Module:
        return torchvision_network(self.network, num_classes, channels)


# In training these two also return outputs of auxiliary classifiers, and they warn unless init_weights is given; True
# is torchvision's default.
_PLAIN = {"aux_logits": False, "init_weights": True}
_SETTINGS = {"googlenet": _PLAIN, "inception_v3": _PLAIN}


def torchvision_network(name: str, num_classes: int, channels: int) -> nn.Module:
    """Build ``name`` of ``torchvision.models``; (B, 3, H, W) -> (B, num_classes). Dropout rates are its defaults."""
    if channels != 3:
        raise ValueError(f"torchvision's {name} takes images of 3 channels (got {channels})")
    from torchvision.models import get_model  # takes seconds, which other models need not spend

    return get_model(name, weights=None, num_classes=num_classes, **_SETTINGS.get(name, {}))
