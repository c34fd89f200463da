"""Crop photographs from a pack: nothing is decoded, and pixels outside the crop are not read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from st3sweep.data import decode
from st3sweep.data.images import Photographs, as_tensor
from st3sweep.data.pack.reading import PackedSplit


class PackedImages(Photographs):
    """The photographs ``ids`` (N,) of one split of a pack."""

    def __init__(self, split: PackedSplit, ids: NDArray[np.int64], image_size: int, min_scale: float):
        super().__init__(split.labels[ids], ids, image_size, min_scale)
        assert split.index is not None, "only squares have no index"
        self.pixels = as_tensor(split.pixels)  # flat, mapped: all processes of the machine share it
        self.index = split.index[ids]  # (N, 3): offset, height, width

    def random_crop(self, index: int, draws: Sequence[float]) -> NDArray[np.uint8]:
        """See ``Photographs``; the crop is drawn on the packed (resized) image."""
        image = self._image(index)
        height, width, _ = image.shape
        left, top, w, h = decode.crop_box(width, height, draws, self.min_scale)
        return _resized(image[top : top + h, left : left + w], self.image_size, self.image_size)

    def centre_crop(self, index: int) -> NDArray[np.uint8]:
        """See ``Photographs``; nothing is resized if the pack's shorter side is the one of evaluation."""
        image, size = self._image(index), self.image_size
        height, width, _ = image.shape
        wide, high = decode.with_short_side(width, height, decode.short_side(size))
        left, top = decode.centred(wide, high, size)
        resized = _resized(image, high, wide)
        return resized[:, top : top + size, left : left + size]

    def _image(self, index: int) -> Tensor:
        """Return image ``index`` as (H, W, 3) uint8, not copied."""
        offset, height, width = self.index[index].tolist()
        return self.pixels[offset : offset + 3 * height * width].view(height, width, 3)


def _resized(image: Tensor, height: int, width: int) -> NDArray[np.uint8]:
    """Resize (H, W, 3) to (3, height, width). torch's filter is PIL's bilinear to one grey level, in half the time."""
    planes = image.permute(2, 0, 1)
    if planes.shape[1:] == (height, width):
        return planes.numpy()
    return interpolate(planes[None], (height, width), mode="bilinear", antialias=True)[0].numpy()
