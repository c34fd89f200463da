"""Iterate over the batches of one rank: the epoch's permutation, cut into global batches, each shared by the ranks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from st3sweep.data import augment
from st3sweep.data.counter_rng import permutation
from st3sweep.data.images import ArrayImages, Images
from st3sweep.data.nvjpeg import NvjpegImages
from st3sweep.data.records import DataError, Splits
from st3sweep.trial.data import DataConfig, ResizedCropAndFlip

_AHEAD = 2  # batches prefetched while one is in use

Item = TypeVar("Item")
Made = TypeVar("Made")


class _Raw(NamedTuple):
    """Images as fetched: ``pixels`` (B, C, H, W) uint8, ``labels`` and ``ids`` (B,) int64."""

    pixels: Tensor
    labels: Tensor
    ids: Tensor


def steps_per_epoch(train_images: int, batch_size: int) -> int:
    """Return the number of whole batches in an epoch; the remaining images are dropped. Raises DataError if it is 0."""
    if batch_size > train_images:
        raise DataError("train.batch_size", f"{batch_size} is more than the {train_images} training images")
    return train_images // batch_size


# What the host hands over for a batch: (places,) of images that are on the device, else (pixels, labels, ids).
Inputs = tuple[Tensor, ...]


class TrainBatches:
    """The augmented training batches of ``rank`` of ``size``, made on ``device`` of what the host hands over.

    Which images are in a global batch, and how they are augmented, depends on (seed, epoch) only; rank r gets the r-th
    part of it. Raises ValueError if ``batch_size`` (over all ranks) is not a multiple of ``size``.
    """

    def __init__(
        self, splits: Splits, spec: DataConfig, *, batch_size: int, rank: int, size: int, device: torch.device | str
    ):
        if batch_size % size:
            raise ValueError(f"batch_size {batch_size} cannot be shared equally by {size} workers")
        self.images, self.spec = splits.train, spec
        self.batch_size, self.rank, self.share, self.device = batch_size, rank, batch_size // size, torch.device(device)
        self.steps = steps_per_epoch(len(splits.train), batch_size)
        self.mean, self.std = (torch.tensor(values, device=device) for values in (splits.mean, splits.std))
        self.on_device = isinstance(splits.train, ArrayImages) and splits.train.fits(self.device)
        # Labels and ids of images in memory, there at the first epoch: a later copy could not be part of a CUDA graph.
        self._labels, self._ids = splits.train.labels, splits.train.sample_ids

    def inputs(self, seed: int, epoch: int, first_step: int = 0) -> Generator[Inputs, None, None]:
        """Yield what the batches of ``epoch`` are made of, from ``first_step`` on; tensors that the caller may keep."""
        order = permutation(seed, epoch, len(self.images))
        starts = [step * self.batch_size + self.rank * self.share for step in range(first_step, self.steps)]
        runs = [(start, start + self.share) for start in starts]
        if not self.on_device:
            return _fetched(self.images, order, runs, seed, epoch, True, self.device)
        self._labels, self._ids = self._labels.to(self.device), self._ids.to(self.device)
        order = order.to(self.device)
        return ((order[start:stop],) for start, stop in runs)

    def batch(self, inputs: Inputs, keys: augment.Keys) -> tuple[Tensor, Tensor]:
        """Return x (B, C, H, W) float32, normalised, and y (B,) int64 with B = ``batch_size`` / ``size``.

        ``keys`` are those of the epoch. No host-device synchronisation.
        """
        if len(inputs) == 1:
            (places,) = inputs
            inputs = (self.images.fetch(places, 0, 0, True), self._labels[places], self._ids[places])
        pixels, labels, ids = inputs
        return augment.normalise(_augmented(pixels, ids, self.spec, keys), self.mean, self.std), labels


def train_batches(
    splits: Splits,
    spec: DataConfig,
    *,
    seed: int,
    epoch: int,
    batch_size: int,
    rank: int,
    size: int,
    device: torch.device | str,
    first_step: int = 0,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches (x, y) of ``TrainBatches``, of ``epoch`` from ``first_step`` on."""
    source = TrainBatches(splits, spec, batch_size=batch_size, rank=rank, size=size, device=device)
    return _made(source, source.inputs(seed, epoch, first_step), augment.Keys.of(seed, epoch))


def _made(
    source: TrainBatches, inputs: Generator[Inputs, None, None], keys: augment.Keys
) -> Generator[tuple[Tensor, Tensor], None, None]:
    with closing(inputs):  # a consumer that stops early ends the prefetch thread now, not at garbage collection
        for of_batch in inputs:
            yield source.batch(of_batch, keys)


def eval_batches(
    images: Images, splits: Splits, *, batch_size: int, rank: int, size: int, device: torch.device | str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield every image once over all ranks, in order, not augmented: x and y as in ``train_batches``.

    A batch of ``batch_size`` is shared as equally as possible; a rank whose share of the last one is empty skips it.
    """
    shares = []
    for start in range(0, len(images), batch_size):
        count = min(batch_size, len(images) - start)
        shares.append((start + count * rank // size, start + count * (rank + 1) // size))
    filled = [(start, stop) for start, stop in shares if stop > start]
    raws = _fetched(images, torch.arange(len(images)), filled, 0, 0, False, torch.device(device))
    return _finished(raws, splits, torch.device(device))


def _augmented(pixels: Tensor, ids: Tensor, spec: DataConfig, keys: augment.Keys) -> Tensor:
    chosen = spec.augment
    if isinstance(chosen, ResizedCropAndFlip):  # the crop was made while decoding
        return augment.flip(pixels, ids, keys) if chosen.flip else pixels
    return augment.shift_and_flip(pixels, ids, keys, chosen.padding, chosen.fill, chosen.flip)


def _finished(
    raws: Generator[_Raw, None, None], splits: Splits, device: torch.device
) -> Generator[tuple[Tensor, Tensor], None, None]:
    mean, std = torch.tensor(splits.mean, device=device), torch.tensor(splits.std, device=device)
    with closing(raws):
        for raw in raws:
            yield augment.normalise(raw.pixels, mean, std), raw.labels


def _fetched(
    images: Images,
    order: Tensor,
    runs: list[tuple[int, int]],
    seed: int,
    epoch: int,
    train: bool,
    device: torch.device,
) -> Generator[_Raw, None, None]:
    """Yield the images at ``order[start:stop]`` of each (start, stop) of ``runs``, on ``device``.

    Images in memory are indexed on the device: after the first epoch no pixels are copied there. All others are
    prefetched in a thread.
    """
    if isinstance(images, ArrayImages) and images.fits(device):
        order, labels, ids = order.to(device), images.labels.to(device), images.sample_ids.to(device)
        for start, stop in runs:
            picked = order[start:stop]
            yield _Raw(images.fetch(picked, seed, epoch, train), labels[picked], ids[picked])
        return

    on_gpu = device.type == "cuda"
    decoding = torch.cuda.Stream(device) if on_gpu and isinstance(images, NvjpegImages) else None

    def fetch(run: tuple[int, int]) -> _Raw:
        picked = order[slice(*run)]
        if decoding is None:
            pixels = images.fetch(picked, seed, epoch, train)
        else:
            with torch.cuda.stream(decoding):
                pixels = images.fetch(picked.to(device), seed, epoch, train)
            decoding.synchronize()
        raw = _Raw(pixels, images.labels[picked], images.sample_ids[picked])
        # A copy from pinned memory overlaps with the GPU's work.
        return _Raw(*(tensor if tensor.is_cuda else tensor.pin_memory() for tensor in raw)) if on_gpu else raw

    with closing(_prefetched(fetch, runs)) as raws:
        for raw in raws:
            if decoding is not None:  # its memory is free once this stream, too, is done with it
                raw.pixels.record_stream(torch.cuda.current_stream(device))
            yield _Raw(*(tensor.to(device, non_blocking=True) for tensor in raw))


def _prefetched(make: Callable[[Item], Made], items: Iterable[Item]) -> Generator[Made, None, None]:
    """Yield ``make(item)`` of each item, in order, computed by one thread up to ``_AHEAD`` items ahead.

    An error in ``make`` is raised in place of its result. Closing the iterator ends the thread.
    """
    waiting: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as thread:
        try:
            for item in items:
                waiting.append(thread.submit(make, item))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # the consumer stopped or an item failed: cancel what has not started
            for future in waiting:
                future.cancel()
