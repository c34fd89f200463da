"""timm's convolutional classifiers by name: an optional extra, ``pip install 'st3sweep[timm]'``."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator
from torch import nn

from st3sweep.networks.convolutional import known_name, why_not_convolutional, without_storage
from st3sweep.trial.model import ModelConfig, register_model

INSTALL = "pip install 'st3sweep[timm]'"
MORE_PIXELS = 256  # up to which a size is searched that a model can take


def known_timm(name: str) -> str:
    """Return ``name``. Raises ValueError where it is no convolutional classifier of timm, or timm is not installed."""
    if not is_installed():
        raise ValueError(f"needs the package timm, which is not installed: {INSTALL}")
    known_name(name, timm_names(), "timm")
    if why := _why_not(name):
        raise ValueError(why)
    return name


def is_installed() -> bool:
    return importlib.util.find_spec("timm") is not None


def timm_names() -> Sequence[str]:
    """Return the names of all of timm's classifiers, convolutional or not; empty where timm is not installed."""
    if not is_installed():
        return ()
    import timm  # takes seconds, which other models need not spend

    names: list[str] = timm.list_models()
    return names


@register_model
class TimmConfig(ModelConfig):
    """A convolutional classifier of timm by its name there, for images of any number of channels."""

    arch: Literal["timm"]
    name: Annotated[str, AfterValidator(known_timm)]

    @property
    def label(self) -> str:
        return f"timm_{self.name}"

    def needed_images(self, pixels: int) -> str | None:
        if _takes(self.name, pixels):
            return None
        # Not of a smallest size: where branches meet, some need a multiple of 32.
        larger = next((more for more in range(pixels + 1, pixels + MORE_PIXELS) if _takes(self.name, more)), None)
        return "cannot take images of this size" if larger is None else f"needs other images, e.g. of {larger} pixels"

    def classifier_of(self, model: nn.Module) -> nn.Module | None:
        classifier = model.get_classifier()  # type: ignore[operator]  # a convolution in some
        return classifier if isinstance(classifier, nn.Module) else None

    def build(self, num_classes: int, channels: int) -> nn.Module:
        return timm_network(self.name, num_classes, channels)


def timm_network(name: str, num_classes: int, channels: int) -> nn.Module:
    """Build ``name`` of timm; (B, ``channels``, H, W) -> (B, num_classes). Dropout rates are its defaults."""
    import timm

    model: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes, in_chans=channels)
    return model


@cache
def _why_not(name: str) -> str | None:
    model = _without_storage(name)
    settings: dict[str, Any] = model.default_cfg  # type: ignore[assignment]
    channels, height, width = settings["input_size"]
    if why := why_not_convolutional(model, (channels, height, width)):
        return why
    if settings.get("fixed_input_size"):  # linear layers over positions, as in MLP-Mixer
        return f"must be convolutional: this takes images of {height} pixels only"
    return None


@cache
def _takes(name: str, pixels: int) -> bool:
    """Return whether ``name`` can convolve, pool and join what it gets of an image of ``pixels`` a side."""
    try:
        with torch.no_grad():
            _without_storage(name)(torch.empty(1, 3, pixels, pixels, device="meta"))
    except RuntimeError:
        return False
    return True


@lru_cache(maxsize=4)
def _without_storage(name: str) -> nn.Module:
    """Build the model for 1000 classes and 3 channels, without its weights."""
    return without_storage(lambda: timm_network(name, 1000, 3)).eval()
