"""``ModelConfig``: base of all model settings. Each model's class is beside the model in ``networks/``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import model_validator

from st3sweep.trial.code_hash import file_hash
from st3sweep.trial.fields import fail
from st3sweep.trial.from_function import FunctionForm, registering
from st3sweep.trial.metric import Metric
from st3sweep.trial.registry import Registered

if TYPE_CHECKING:  # a stored run is read without torch
    from torch import Tensor, nn

__all__ = ["ModelConfig", "register_model"]


class ModelConfig(Registered):
    """Base of all model settings. A subclass narrows ``arch`` to its name and is decorated ``@register_model``."""

    key: ClassVar[str] = "arch"
    registered: ClassVar[dict[str, type[ModelConfig]]] = {}
    three_channels_only: ClassVar[bool] = False
    attached: ClassVar[tuple[str, ...]] = ("loss", "metric")
    loss: ClassVar[Any] = None  # a static method, (outputs, labels) → 0-d Tensor; None: cross-entropy
    metric: ClassVar[Metric | None] = None  # beside top-1 accuracy

    arch: str
    weights: str | None = None  # trained ones to start from: a file (see ``networks.pretrained``), or a name
    classifier: Literal["trained", "new"] = "trained"  # whether the classifier is among them

    @property
    def weights_by_name(self) -> bool:
        """Return whether ``weights`` is a name that the model knows, not a file."""
        return False

    def named_weights(self, name: str) -> dict[str, Tensor]:
        """Return the state_dict that the model knows under ``name``."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _classifier_of_weights(self) -> Self:
        if self.weights is None and self.classifier == "new":
            raise fail("model.classifier", "has no effect without model.weights", "model.weights")
        return self

    def content(self) -> dict[str, Any]:
        """Return the settings as plain values, with the hash of the file of weights in place of its path."""
        fields = self.model_dump(mode="json", exclude_none=True)
        if self.weights is None:
            del fields["classifier"]
        elif not self.weights_by_name:
            fields["weights"] = file_hash(self.weights)
        return fields

    @property
    def label(self) -> str:
        """Return the name in tables and messages, e.g. resnet20."""
        return self.arch

    @property
    def smallest_image(self) -> int:
        """Return the smallest image side, in pixels, that the model accepts."""
        return 1

    def needed_images(self, pixels: int) -> str | None:
        """Return which images the model needs, if those of ``pixels`` a side are none that it can take; else None."""
        return f"needs images of at least {self.smallest_image} pixels" if pixels < self.smallest_image else None

    def classifier_of(self, model: nn.Module) -> nn.Module | None:
        """Return the layer of ``model`` that ``classifier: new`` leaves out; by default the last linear layer."""
        from torch import nn

        return next((module for module in reversed([*model.modules()]) if isinstance(module, nn.Linear)), None)

    def build(self, num_classes: int, channels: int) -> nn.Module:
        """Build the model, from torch's global generator: (B, ``channels``, H, W) → (B, ``num_classes``)."""
        raise NotImplementedError


def register_model(
    what: Any,
    build: Callable[..., nn.Module] | None = None,
    *,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    metric: Metric | None = None,
) -> Any:
    """Register a model under the name that a space gives as ``model.arch``.

    ``register_model("mine", build)``: ``build(num_classes, channels, width=32)`` returns an ``nn.Module``,
    (B, ``channels``, H, W) → (B, ``num_classes``); it need not take these two. Every other parameter is a field beside
    ``arch``, checked against its annotation: ``model: {arch: mine, width: 64}``. ``@register_model("mine")`` decorates
    such a function, ``@register_model`` a ``ModelConfig`` class, which may have ``loss`` and ``metric`` as attributes.

    ``loss(outputs, labels)`` replaces cross-entropy in training and in the columns of losses: a 0-d tensor, the mean
    over a batch of outputs (B, classes), at least float32, and labels (B,) int64. ``metric`` adds a column and is what
    the best epoch is chosen by. Raises ValueError for a name that another model has.
    """
    return registering(ModelConfig, MODEL_FORM, what, build, loss=loss, metric=metric)


def _attributes(call: Callable[..., nn.Module]) -> dict[str, Any]:
    def build(self: ModelConfig, num_classes: int, channels: int) -> nn.Module:
        return call(self, num_classes=num_classes, channels=channels)

    return {"build": build}


MODEL_FORM = FunctionForm(("num_classes", "channels"), _attributes)
