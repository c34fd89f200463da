"""Decode, crop and resize image files to uint8 arrays with PIL.

``what`` names the image in error messages.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from st3sweep.data.records import BadImage, DataError

CROP_ATTEMPTS = 10
CROP_DRAWS = 4 * CROP_ATTEMPTS  # area, aspect, left and top of each attempt
Made = TypeVar("Made")
_LOG_ASPECT = (math.log(3 / 4), math.log(4 / 3))


@contextmanager
def _readable(what: str) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except (FileNotFoundError, PermissionError) as error:  # the image may be intact: never skipped
        raise DataError("data.root", f"cannot read {what}: {error.strerror}") from error
    except Exception as error:  # PIL's plugins raise exceptions of any type for broken bytes
        raise BadImage("data.root", f"cannot read {what} as an image: {error}") from error


def _as_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to 8-bit RGB; the table in docs/data.md says how. Animations: the first frame.

    16-bit grey keeps the high byte of each value, as torchvision does: Pillow's own conversion clips at 255. Alpha is
    dropped, not blended. Raises ValueError for a mode whose range of values is not known.
    """
    mode = image.mode
    if mode == "RGB":
        return image
    if mode.startswith("I;16") or (mode == "I" and image.format in ("PNG", "PPM")):  # PNG and PPM have 16 bits at most
        values = np.asarray(image)
        image = Image.fromarray((values >> 8).astype(np.uint8))
    elif mode in ("I", "F"):
        raise ValueError(f"its numbers (mode {mode}, {image.format}) have no known range; convert it to 8 or 16 bits")
    return image.convert("RGB")


def _array(image: Image.Image) -> NDArray[np.uint8]:
    """Convert PIL's (H, W, 3) to (3, H, W)."""
    return np.asarray(image).transpose(2, 0, 1)


def square(data: bytes, size: int, *, resize: bool, what: str) -> NDArray[np.uint8]:
    """Decode the whole image to (3, size, size); with ``resize`` False another size raises DataError."""
    with _readable(what), Image.open(io.BytesIO(data)) as image:
        if image.size == (size, size):
            return _array(_as_rgb(image))
        if not resize:
            width, height = image.size
            raise DataError("data.root", f"{what} is {width}x{height} pixels, not {size}x{size}")
        return _array(_as_rgb(image).resize((size, size), Image.Resampling.BILINEAR))


def random_crop(path: str, size: int, draws: Sequence[float], min_scale: float) -> NDArray[np.uint8]:
    """Decode the random crop of the file that ``crop_box`` draws, resized to (3, size, size)."""
    with _readable(path), Image.open(path) as image:
        full_width, full_height = image.size
        left, top, width, height = crop_box(full_width, full_height, draws, min_scale)
        # Decoding a JPEG at 1/2, 1/4 or 1/8 takes a fraction of the time; draft() stays at or above the size needed.
        image.draft("RGB", (math.ceil(full_width * size / width), math.ceil(full_height * size / height)))
        across, down = image.width / full_width, image.height / full_height
        right, bottom = min((left + width) * across, image.width), min((top + height) * down, image.height)
        box = (left * across, top * down, right, bottom)
        return _array(_as_rgb(image).resize((size, size), Image.Resampling.BILINEAR, box=box))


def centre_crop(path: str, size: int) -> NDArray[np.uint8]:
    """Decode the usual view for evaluation: short side resized to 256/224 of ``size``, centre crop (3, size, size)."""
    with _readable(path), Image.open(path) as image:
        width, height = with_short_side(*image.size, short_side(size))
        left, top = centred(width, height, size)
        resized = _as_rgb(image).resize((width, height), Image.Resampling.BILINEAR)
        return _array(resized.crop((left, top, left + size, top + size)))


def shrunk(path: str, data: bytes | None, short: int) -> NDArray[np.uint8]:
    """Decode the whole image (``data``, or else the file) to (H, W, 3), shorter side resized to ``short`` pixels."""
    with _readable(path), Image.open(path if data is None else io.BytesIO(data)) as image:
        size = with_short_side(*image.size, short)
        return np.asarray(_as_rgb(image).resize(size, Image.Resampling.BILINEAR))


def check(path: str) -> None:
    """Raise BadImage unless the file decodes to its end. A JPEG is read whole, but decoded at 1/8 of its size."""
    with _readable(path), Image.open(path) as image:
        image.draft("RGB", (1, 1))
        _as_rgb(image).load()


@cache
def suffixes() -> frozenset[str]:
    """Return the suffixes of all files that Pillow decodes, in lower case; those that need other programs left out."""
    Image.init()
    elsewhere = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
    readable = Image.OPEN.keys() - elsewhere
    return frozenset(suffix for suffix, kind in Image.registered_extensions().items() if kind in readable)


def short_side(size: int) -> int:
    """Return the shorter side in pixels before a centre crop of ``size``: the field's 256 for 224."""
    return round(size * 256 / 224)


def with_short_side(width: int, height: int, short: int) -> tuple[int, int]:
    """Return (width, height) of the same aspect, the shorter one being ``short``."""
    scale = short / min(width, height)
    return max(short, int(width * scale)), max(short, int(height * scale))


def centred(width: int, height: int, size: int) -> tuple[int, int]:
    """Return (left, top) of the central square of ``size``."""
    return round((width - size) / 2), round((height - size) / 2)


def crop_box(width: int, height: int, draws: Sequence[float], min_scale: float) -> tuple[int, int, int, int]:
    """Draw a random crop of a ``width`` x ``height`` image: (left, top, width, height) in pixels.

    Its area is uniform in [``min_scale``, 1] of the image's, its aspect log-uniform in [3/4, 4/3], its place uniform.
    ``draws`` are CROP_DRAWS numbers in [0, 1). If no attempt fits: the largest central crop of an allowed aspect.
    """
    lowest, highest = _LOG_ASPECT
    for attempt in range(CROP_ATTEMPTS):
        area_draw, aspect_draw, left_draw, top_draw = draws[4 * attempt : 4 * attempt + 4]
        area = width * height * (min_scale + (1 - min_scale) * area_draw)
        aspect = math.exp(lowest + (highest - lowest) * aspect_draw)
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(left_draw * (width - w + 1)), int(top_draw * (height - h + 1)), w, h
    aspect = min(max(width / height, math.exp(lowest)), math.exp(highest))
    w, h = max(1, min(width, round(height * aspect))), max(1, min(height, round(width / aspect)))
    return (width - w) // 2, (height - h) // 2, w, h


def noting(bad: dict[int, str] | None, index: int, make: Callable[[], Made]) -> Made | None:
    """Return ``make()``; for a bad image, if ``bad`` is given, note the reason in ``bad[index]`` and return None."""
    try:
        return make()
    except BadImage as error:
        if bad is None:
            raise
        bad[index] = error.message
        return None
