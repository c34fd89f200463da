"""Datasets of users: register a function that loads one, and make splits of what it returns.

Three parts, train, validation and test, each a pair (images, labels) or an object with ``__len__`` and
``__getitem__(i)`` → (image, label); validation and test may be None.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from st3sweep.data.images import ArrayImages, Images, int64
from st3sweep.data.normalisation import mean_and_std
from st3sweep.data.records import DataError, Splits
from st3sweep.data.split import parts as split
from st3sweep.data.split import shuffled
from st3sweep.trial.data import DataConfig, NoShift, ResizedCropAndFlip
from st3sweep.trial.from_function import FunctionForm, registering

_FIELD = "data.dataset"


def register_dataset(what: Any, load: Callable[..., Any] | None = None) -> Any:
    """Register a dataset under the name that a space gives as ``data.dataset``.

    ``register_dataset("mine", load)``: ``load(root="data")`` returns (train, validation, test), each (images, labels)
    or an object with ``__len__`` and ``__getitem__(i)`` → (image, label); see ``own_splits``. Its parameters are fields
    beside ``dataset``, ``validation``, ``train_limit`` and ``augment``. A process calls it once, as long as its fields
    stay the same. ``@register_dataset("mine")`` decorates such a function, ``@register_dataset`` a ``DataConfig``
    class. Raises ValueError for a name that another dataset has.
    """
    return registering(DataConfig, DATASET_FORM, what, load)


def _attributes(call: Callable[..., Any]) -> dict[str, Any]:
    loaded: dict[str, Splits] = {}  # those of the last settings

    def load(self: DataConfig) -> Splits:
        key = self.model_dump_json(exclude={"augment"})
        if key not in loaded:
            try:
                data = call(self)
            except Exception as error:  # a user's function may raise anything
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                raise DataError(_FIELD, f"{self.dataset} cannot be loaded ({reason})") from error
            splits = own_splits(data, self)
            loaded.clear()
            loaded[key] = splits
        return loaded[key]

    return {
        "load": load,
        "inspect": lambda self: self.load().info(),
        "image_size": property(lambda self: self.load().image_shape()[1]),
        "channels": property(lambda self: self.load().image_shape()[0]),
    }


DATASET_FORM = FunctionForm((), _attributes, {"augment": (NoShift | ResizedCropAndFlip, NoShift())})


def own_splits(data: Any, config: DataConfig) -> Splits:
    """Return the splits of ``data`` = (train, validation, test), as the module describes them.

    Images are (N, C, H, W) with H = W, augmented as ``config.augment`` says. uint8 images are normalised by their own
    mean and deviation; floating-point images are used as they are. Without a validation part, ``config.validation``
    of the training images are for validation; ``config.train_limit`` limits those to train on. Raises DataError.
    """
    if not isinstance(data, tuple | list) or len(data) != 3:
        raise DataError(_FIELD, f"expected (train, validation, test), the last two possibly None (got {_shown(data)})")
    train, validation, test = (
        None if part is None else _images(part, name) for part, name in zip(data, _NAMES, strict=True)
    )
    if train is None:
        raise DataError(_FIELD, "there is no training part")
    if validation is not None and config.validation != type(config).model_fields["validation"].default:
        raise DataError("data.validation", "has no effect: the dataset has validation images of its own")
    if validation is None:
        chosen = split(config, shuffled(len(train)))
        train, validation = _subset(train, chosen.train), _subset(train, chosen.validation)
    elif config.train_limit is not None:
        if config.train_limit > len(train):
            raise DataError("data.train_limit", f"{config.train_limit} images requested of {len(train)}")
        train = _subset(train, np.arange(config.train_limit))
    present = [part for part in (train, validation, test) if part is not None]
    _check_shapes(present)
    classes = max(int(part.labels.max()) for part in present) + 1
    mean, std = _normalisation(train)
    return Splits(train, validation, test, max(classes, 2), mean, std)


def content_hash(data: Any) -> str:
    """Return a digest of arrays in memory; of datasets that are indexed, of their type and length only."""
    digest = hashlib.sha256()
    for part in data:
        if _is_pair(part):
            for array in map(_array, part):
                digest.update(f"{array.dtype} {array.shape}".encode())
                digest.update(np.ascontiguousarray(array).data)
        elif hasattr(part, "__len__"):
            digest.update(f"{type(part).__module__}.{type(part).__qualname__} {len(part)}".encode())
    return digest.hexdigest()[:12]


class IndexedImages:
    """Images of a dataset with ``__len__`` and ``__getitem__``, taken from it one by one at every fetch."""

    def __init__(self, dataset: Any, labels: Tensor, rows: Tensor):
        self.dataset, self.labels, self.sample_ids = dataset, labels, rows

    def __len__(self) -> int:
        return len(self.labels)

    def fetch(self, indices: Tensor, seed: int, epoch: int, train: bool) -> Tensor:  # noqa: ARG002
        """See ``Images``. What the dataset's own transforms draw is not a function of seed and epoch."""
        return torch.stack([_image(self.dataset[row][0]) for row in self.sample_ids[indices].tolist()])


_NAMES = ("train", "validation", "test")


def _images(part: Any, name: str) -> Images:
    if _is_pair(part):
        pixels, labels = map(_array, part)
        if pixels.ndim != 4:
            raise DataError(_FIELD, f"{name} images must be (N, C, H, W) (got {tuple(pixels.shape)})")
        if pixels.dtype != np.uint8:
            if not np.issubdtype(pixels.dtype, np.floating):
                raise DataError(_FIELD, f"{name} images must be uint8 or floating point (got {pixels.dtype})")
            pixels = pixels.astype(np.float32, copy=False)
        return ArrayImages(pixels, _labels(labels, len(pixels), name), np.arange(len(pixels)))
    if not (hasattr(part, "__len__") and hasattr(part, "__getitem__")):
        raise DataError(_FIELD, f"{name}: expected (images, labels) or an indexed dataset (got {_shown(part)})")
    targets = getattr(part, "targets", None)
    labels = _array(targets if targets is not None else [part[index][1] for index in range(len(part))])
    return IndexedImages(part, int64(_labels(labels, len(part), name)), torch.arange(len(part)))


def _labels(labels: NDArray[Any], images: int, name: str) -> NDArray[np.int64]:
    if labels.shape != (images,):
        raise DataError(_FIELD, f"{name} labels must be ({images},), one an image (got {tuple(labels.shape)})")
    if not images:
        raise DataError(_FIELD, f"{name} has no images")
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise DataError(_FIELD, f"{name} labels must be whole numbers from 0 (got {labels.dtype}, {labels.min()})")
    return labels.astype(np.int64)


def _subset(images: Any, rows: NDArray[np.int64]) -> Images:
    chosen = torch.from_numpy(rows)
    if isinstance(images, IndexedImages):
        return IndexedImages(images.dataset, images.labels[chosen], images.sample_ids[chosen])
    return ArrayImages(images.pixels.numpy()[rows], images.labels.numpy()[rows], rows)


def _check_shapes(present: Sequence[Images]) -> None:
    shapes = {tuple(part.fetch(torch.zeros(1, dtype=torch.long), 0, 0, False).shape[1:]) for part in present}
    if len(shapes) > 1:
        raise DataError(_FIELD, f"images of different shapes: {', '.join(map(str, sorted(shapes)))}")
    [(_, height, width)] = shapes
    if height != width:
        raise DataError(_FIELD, f"images must be square (got {height}x{width})")


def _normalisation(train: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation: measured of uint8 arrays, else those that leave images as they are."""
    first = train.fetch(torch.zeros(1, dtype=torch.long), 0, 0, False)
    channels = first.shape[1]
    if first.dtype == torch.uint8 and isinstance(train, ArrayImages):
        return mean_and_std(train.pixels.numpy())
    if first.dtype == torch.uint8:
        return (0.5,) * channels, (0.25,) * channels
    return (0.0,) * channels, (1.0,) * channels


def _image(value: Any) -> Tensor:
    """Return one image (C, H, W) of a tensor, an array (C, H, W), or a picture of Pillow."""
    if isinstance(value, Tensor):
        return value if value.dtype == torch.uint8 else value.float()
    array = np.asarray(value)
    if hasattr(value, "getbands"):  # Pillow: (H, W) or (H, W, C)
        array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    return torch.from_numpy(np.array(array if array.dtype == np.uint8 else array.astype(np.float32)))


def _is_pair(part: Any) -> bool:
    return isinstance(part, tuple | list) and len(part) == 2 and all(hasattr(one, "__len__") for one in part)


def _array(value: Any) -> NDArray[Any]:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)


def _shown(value: Any) -> str:
    return f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, tuple | list) else "")
