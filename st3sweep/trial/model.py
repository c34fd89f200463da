"""``ModelConfig``: base of all model settings. Each model's class is beside the model in ``networks/``."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from st3sweep.trial.registry import Registered, register

if TYPE_CHECKING:  # a stored run is read without torch
    from torch import nn

__all__ = ["ModelConfig", "register_model"]


class ModelConfig(Registered):
    """Base of all model settings. A subclass narrows ``arch`` to its name and is decorated ``@register_model``."""

    key: ClassVar[str] = "arch"
    registered: ClassVar[dict[str, type[ModelConfig]]] = {}
    three_channels_only: ClassVar[bool] = False

    arch: str

    @property
    def name(self) -> str:
        """Return the name in tables and messages, e.g. resnet20."""
        return self.arch

    @property
    def smallest_image(self) -> int:
        """Return the smallest image side, in pixels, that the model accepts."""
        return 1

    def build(self, num_classes: int, channels: int) -> nn.Module:
        """Build the model, from torch's global generator: (B, ``channels``, H, W) → (B, ``num_classes``)."""
        raise NotImplementedError


register_model = register
