"""Decode photographs on a GPU: JPEGs by torchvision's nvJPEG, whole and in batches; cropped and resized there too."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from st3sweep.data import decode
from st3sweep.data.counter_rng import CROP, uniforms
from st3sweep.data.images import FileImages
from st3sweep.data.records import DataError
from st3sweep.data.threads import in_order

_AT_ONCE = 32  # whole photographs on the device
_JPEG = b"\xff\xd8\xff"  # first bytes of a file

Draws = Sequence[float] | None  # of a random crop; None for the view of evaluation


class NvjpegImages(FileImages):
    """Photographs in files, made on the device of the indices; on a CPU as ``FileImages`` makes them.

    The views are the same, from whole images and by torch's antialiased resizing. A file that is no JPEG, and those of
    a batch that nvJPEG does not decode, are decoded by Pillow.
    """

    def fetch(self, indices: Tensor, seed: int, epoch: int, train: bool) -> Tensor:
        """Return images as in ``Images``, on the device of ``indices``. Raises DataError."""
        if indices.device.type == "cpu":
            return super().fetch(indices, seed, epoch, train)
        return self.made_on(indices.device, indices.cpu(), seed, epoch, train)

    def made_on(self, device: torch.device, indices: Tensor, seed: int, epoch: int, train: bool) -> Tensor:
        """Return the images at ``indices``, of the CPU, on ``device``."""
        draws: list[Draws] = [None] * len(indices)
        if train:
            own = self.sample_ids[indices]
            draws = uniforms(seed, epoch, own, range(CROP, CROP + decode.CROP_DRAWS)).tolist()
        made = torch.empty(len(indices), 3, self.image_size, self.image_size, dtype=torch.uint8, device=device)
        for start in range(0, len(indices), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            self._fill(made[part], indices[part].tolist(), draws[part])
        return made

    def _fill(self, places: Tensor, chosen: list[int], draws: Sequence[Draws]) -> None:
        files = list(in_order(lambda path=self.paths[index]: _read(path) for index in chosen))  # type: ignore[misc]
        jpegs = [number for number, data in enumerate(files) if data.numpy()[:3].tobytes() == _JPEG]
        whole = dict(zip(jpegs, decoded([files[number] for number in jpegs], places.device) or [], strict=False))
        for number, (index, own) in enumerate(zip(chosen, draws, strict=True)):
            if number in whole:
                places[number] = _view(whole[number], self.image_size, own, self.min_scale)
            else:
                view = self.centre_crop(index) if own is None else self.random_crop(index, own)
                places[number] = torch.from_numpy(np.ascontiguousarray(view)).to(places.device)


def decoded(files: list[Tensor], device: torch.device) -> list[Tensor] | None:
    """Return the images (3, H, W) uint8 of JPEG files' bytes, on ``device``; None where one does not decode there."""
    from torchvision.io import ImageReadMode, decode_jpeg

    if not files:
        return []
    try:
        return list(decode_jpeg(files, mode=ImageReadMode.RGB, device=device))
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        return None


def check_device() -> None:
    """Raise DataError where JPEGs cannot be decoded on a GPU."""
    from PIL import Image

    if not torch.cuda.is_available():
        raise DataError("data.decoder", "nvjpeg needs a GPU, and torch finds none here: use pillow")
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG")
    if decoded([torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)], torch.device("cuda")) is None:
        raise DataError("data.decoder", "nvjpeg is not part of this torchvision, or does not run here: use pillow")


def _read(path: str) -> Tensor:
    try:
        return torch.from_numpy(np.fromfile(path, dtype=np.uint8))
    except OSError as error:
        raise DataError("data.root", f"cannot read {path}: {error.strerror}") from error


def _view(image: Tensor, size: int, draws: Draws, min_scale: float) -> Tensor:
    """Return a crop of ``image`` (3, H, W) as (3, size, size) uint8: see ``decode.random_crop`` and ``centre_crop``."""
    height, width = image.shape[1:]
    if draws is not None:
        left, top, across, down = decode.crop_box(width, height, draws, min_scale)
        return _resized(image[:, top : top + down, left : left + across], (size, size))
    width, height = decode.with_short_side(width, height, decode.short_side(size))
    left, top = decode.centred(width, height, size)
    return _resized(image, (height, width))[:, top : top + size, left : left + size]


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    resized = F.interpolate(image[None].float(), size, mode="bilinear", antialias=True, align_corners=False)[0]
    return resized.round_().clamp_(0, 255).to(torch.uint8)
