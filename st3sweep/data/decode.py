"""Image files to uint8 arrays with PIL, in a few threads (PIL lets go of the interpreter lock while it decodes).

Every function that reads takes ``what``, the words that name the image in an error.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from st3sweep.data.records import DataError

CROP_ATTEMPTS = 10
CROP_DRAWS = 4 * CROP_ATTEMPTS  # area, aspect, left, top of each attempt
_LOG_ASPECT = (math.log(3 / 4), math.log(4 / 3))


@contextmanager
def _readable(what: str) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # PIL's plugins raise whatever the broken bytes lead them to
        raise DataError("data.root", f"cannot read {what} as an image: {error}") from error


def _as_rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")


def _array(image: Image.Image) -> NDArray[np.uint8]:
    """(H, W, 3) of PIL to (3, H, W)."""
    return np.asarray(image).transpose(2, 0, 1)


def square(data: bytes, size: int, *, resize: bool, what: str) -> NDArray[np.uint8]:
    """The whole image as (3, size, size); one of another size is resized, or refused where ``resize`` is False."""
    with _readable(what), Image.open(io.BytesIO(data)) as image:
        if image.size == (size, size):
            return _array(_as_rgb(image))
        if not resize:
            width, height = image.size
            raise DataError("data.root", f"{what} is {width}x{height} pixels, not {size}x{size}")
        return _array(_as_rgb(image).resize((size, size), Image.Resampling.BILINEAR))


def random_crop(path: str, size: int, draws: Sequence[float], min_scale: float) -> NDArray[np.uint8]:
    """The part of the image that ``crop_box`` draws, resized to (3, size, size)."""
    with _readable(path), Image.open(path) as image:
        full_width, full_height = image.size
        left, top, width, height = crop_box(full_width, full_height, draws, min_scale)
        # A JPEG can be decoded at 1/2, 1/4 or 1/8 for a fraction of the time: never below the size that is needed.
        image.draft("RGB", (math.ceil(full_width * size / width), math.ceil(full_height * size / height)))
        across, down = image.width / full_width, image.height / full_height
        right, bottom = min((left + width) * across, image.width), min((top + height) * down, image.height)
        box = (left * across, top * down, right, bottom)
        return _array(_as_rgb(image).resize((size, size), Image.Resampling.BILINEAR, box=box))


def centre_crop(path: str, size: int) -> NDArray[np.uint8]:
    """The usual view for evaluation: short side resized to 256/224 of ``size``, its centre (3, size, size)."""
    with _readable(path), Image.open(path) as image:
        short = round(size * 256 / 224)
        scale = short / min(image.size)
        width, height = max(short, int(image.width * scale)), max(short, int(image.height * scale))
        left, top = round((width - size) / 2), round((height - size) / 2)
        resized = _as_rgb(image).resize((width, height), Image.Resampling.BILINEAR)
        return _array(resized.crop((left, top, left + size, top + size)))


def crop_box(width: int, height: int, draws: Sequence[float], min_scale: float) -> tuple[int, int, int, int]:
    """A random part of a ``width`` x ``height`` image: (left, top, width, height) in pixels.

    Its area is uniform in [``min_scale``, 1] of the image's, its aspect log-uniform in [3/4, 4/3], its place uniform.
    ``draws`` are CROP_DRAWS numbers in [0, 1). Where no attempt fits, the largest central part of an allowed aspect.
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


def decode_all(decode: Callable[[int], NDArray[np.uint8]], count: int, size: int) -> NDArray[np.uint8]:
    """``decode(0)`` to ``decode(count - 1)``, each (3, size, size), as one array; the first error is raised."""
    images = np.empty((count, 3, size, size), dtype=np.uint8)
    workers = _workers()

    def decode_run(run: tuple[int, int]) -> None:
        for index in range(*run):
            images[index] = decode(index)

    runs = np.linspace(0, count, min(count, 8 * workers) + 1).astype(int).tolist()  # a few each: they differ in cost
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(decode_run, pairwise(runs)))
    return images


def _workers() -> int:
    """Threads to decode with: Ray sets OMP_NUM_THREADS to the CPUs that it lends to a worker."""
    lent = os.environ.get("OMP_NUM_THREADS", "")
    return min(16, int(lent) if lent.isdigit() and int(lent) else os.cpu_count() or 1)
