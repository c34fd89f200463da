"""Batches: the same images over any number of ranks, and the prefetch thread."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from small_datasets import write_folder, write_parquet

from st3sweep import data
from st3sweep.data import DataError, batches
from st3sweep.data.augment import Keys, normalise, shift_and_flip
from st3sweep.data.batches import eval_batches, steps_per_epoch, train_batches
from st3sweep.data.counter_rng import permutation
from st3sweep.data.images import ArrayImages, FileImages, Images
from st3sweep.trial.data import DataConfig


def numbered(count: int) -> data.Splits:
    """Make 6x6 images whose label is their index, for training, validation and test."""
    pixels = np.random.RandomState(0).randint(0, 256, (count, 3, 6, 6)).astype(np.uint8)
    images = ArrayImages(pixels, np.arange(count), np.arange(count) + 1000)
    return data.Splits(images, images, images, count, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


@pytest.fixture
def cifar_spec() -> DataConfig:
    return DataConfig.parse({"dataset": "cifar10", "root": "unused"})


@pytest.fixture
def photographs(tmp_path: Path) -> tuple[data.Splits, DataConfig]:
    """Load 20 training and 4 validation images from files."""
    write_folder(tmp_path, per_class=12, size=(60, 50))
    fields = {"dataset": "image_folder", "root": str(tmp_path), "image_size": 32, "validation": 4}
    spec = DataConfig.parse(fields)
    return data.load(spec), spec


def epoch_of(splits: data.Splits, spec: DataConfig, **changes: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    settings = {"seed": 0, "epoch": 0, "batch_size": 8, "rank": 0, "size": 1, **changes}
    return list(train_batches(splits, spec, device="cpu", **settings))


def assert_same_over_ranks(splits: data.Splits, spec: DataConfig, size: int) -> None:
    alone = epoch_of(splits, spec, seed=3, epoch=5)
    ranks = [epoch_of(splits, spec, seed=3, epoch=5, rank=rank, size=size) for rank in range(size)]
    assert all(len(rank) == len(alone) > 1 for rank in ranks)
    for whole, shares in zip(alone, zip(*ranks, strict=True), strict=True):
        assert torch.equal(whole[0], torch.cat([x for x, _ in shares]))
        assert torch.equal(whole[1], torch.cat([y for _, y in shares]))
        assert {len(y) for _, y in shares} == {8 // size}


@pytest.mark.parametrize("size", [2, 4])
def test_ranks_together_equal_one_rank(cifar_spec: DataConfig, size: int) -> None:
    assert_same_over_ranks(numbered(53), cifar_spec, size)


def test_ranks_together_equal_one_rank_with_files(photographs: tuple[data.Splits, DataConfig]) -> None:
    assert_same_over_ranks(*photographs, 2)


def test_digits_ranks_together_equal_one_rank() -> None:
    spec = DataConfig.parse({"dataset": "digits", "train_limit": 50})
    assert_same_over_ranks(data.load(spec), spec, 2)


def test_an_image_is_augmented_the_same_in_batches_of_any_size(cifar_spec: DataConfig) -> None:
    splits = numbered(48)
    small, large = epoch_of(splits, cifar_spec, batch_size=4), epoch_of(splits, cifar_spec, batch_size=24)
    assert torch.equal(torch.cat([x for x, _ in small]), torch.cat([x for x, _ in large]))


def test_a_batch_is_the_permutation_augmented_and_normalised(cifar_spec: DataConfig) -> None:
    splits = numbered(21)
    order = permutation(7, 2, 21)
    found = epoch_of(splits, cifar_spec, seed=7, epoch=2)
    for step, (x, y) in enumerate(found):
        picked = order[8 * step : 8 * step + 8]
        views = shift_and_flip(splits.train.fetch(picked, 0, 0, True), picked + 1000, Keys.of(7, 2), 4, "zero", True)
        assert torch.equal(x, normalise(views, splits.mean, splits.std))
        assert torch.equal(y, picked)
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)


def test_each_image_comes_once_except_the_dropped_tail(cifar_spec: DataConfig) -> None:
    seen = [y for _, y in epoch_of(numbered(53), cifar_spec)]
    assert [len(y) for y in seen] == [8] * 6
    assert len(set(torch.cat(seen).tolist())) == 48


def test_order_differs_by_epoch_and_seed(cifar_spec: DataConfig) -> None:
    splits = numbered(64)

    def order(**changes: int) -> list[int]:
        return torch.cat([y for _, y in epoch_of(splits, cifar_spec, **changes)]).tolist()

    assert order() == order()
    assert sorted(order()) == sorted(order(epoch=1)) == list(range(64))
    assert len({tuple(order()), tuple(order(epoch=1)), tuple(order(seed=1))}) == 3


def test_settings_of_the_augmentation_take_effect(photographs: tuple[data.Splits, DataConfig]) -> None:
    splits, spec = photographs
    plain = DataConfig.parse({**spec.model_dump(), "augment": {"flip": False}})
    for (x, _), (unflipped, _) in zip(epoch_of(splits, spec), epoch_of(splits, plain), strict=True):
        mirrored = torch.tensor([torch.equal(a, b.flip(2)) for a, b in zip(x, unflipped, strict=True)])
        same = torch.tensor([torch.equal(a, b) for a, b in zip(x, unflipped, strict=True)])
        assert bool((mirrored | same).all())
        assert 0 < mirrored.sum() < 8
    still = DataConfig.parse({"dataset": "cifar10", "root": "x", "augment": {"padding": 0, "flip": False}})
    small = numbered(16)
    for x, y in epoch_of(small, still):
        assert torch.equal(x, normalise(small.train.fetch(y, 0, 0, False), small.mean, small.std))


def test_invalid_batch_sizes(cifar_spec: DataConfig) -> None:
    with pytest.raises(ValueError, match="batch_size 8 cannot be shared equally by 3 workers"):
        train_batches(numbered(20), cifar_spec, seed=0, epoch=0, batch_size=8, rank=0, size=3, device="cpu")
    with pytest.raises(DataError, match=r"^train\.batch_size: 21 is more than the 20 training images"):
        train_batches(numbered(20), cifar_spec, seed=0, epoch=0, batch_size=21, rank=0, size=1, device="cpu")
    assert [steps_per_epoch(20, size) for size in (1, 3, 20)] == [20, 6, 1]


@pytest.mark.parametrize(("count", "size"), [(53, 1), (53, 3), (49, 3), (2, 3)])
def test_evaluation_sees_each_image_once_over_all_ranks(count: int, size: int) -> None:
    splits = numbered(count)
    ranks = [
        list(eval_batches(splits.validation, splits, batch_size=16, rank=rank, size=size, device="cpu"))
        for rank in range(size)
    ]
    labels = [torch.cat([y for _, y in rank]) if rank else torch.empty(0, dtype=torch.int64) for rank in ranks]
    assert torch.cat(labels).sort().values.tolist() == list(range(count))
    assert all(label.tolist() == sorted(label.tolist()) for label in labels)
    assert max(map(len, labels)) - min(map(len, labels)) <= -(-count // 16)
    for x, y in ranks[0]:
        assert torch.equal(x, normalise(splits.validation.fetch(y, 0, 0, False), splits.mean, splits.std))


def test_evaluation_of_files_is_in_order_and_not_augmented(photographs: tuple[data.Splits, DataConfig]) -> None:
    splits, _ = photographs
    found = list(eval_batches(splits.train, splits, batch_size=8, rank=0, size=1, device="cpu"))
    assert torch.equal(torch.cat([y for _, y in found]), splits.train.labels)
    centres = splits.train.fetch(torch.arange(20), 99, 99, False)
    assert torch.equal(torch.cat([x for x, _ in found]), normalise(centres, splits.mean, splits.std))


# -- prefetching ------------------------------------------------------------------------------------------------


class SlowImages:
    """Images not in memory: records what is fetched, by which thread, and fails from index ``broken`` on."""

    def __init__(self, count: int, broken: int | None = None):
        self.labels = self.sample_ids = torch.arange(count)
        self.broken = broken
        self.fetched: list[int] = []
        self.threads: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Event()
        self.free_batches = 0  # batches that pass a closed gate

    def __len__(self) -> int:
        return len(self.labels)

    def fetch(self, indices: torch.Tensor, seed: int, epoch: int, train: bool) -> torch.Tensor:  # noqa: ARG002
        if int(indices.min()) >= 10 * self.free_batches:
            self.waiting.set()
            assert self.gate.wait(10)
        self.threads.add(threading.current_thread().name)
        if self.broken is not None and int(indices.max()) >= self.broken:
            raise DataError("data.root", "cannot read 17.jpg")
        self.fetched.extend(indices.tolist())
        return torch.zeros(len(indices), 3, 4, 4, dtype=torch.uint8)


def evaluated(images: Images) -> batches.Iterator:
    splits = data.Splits(images, images, None, 100, (0.5,) * 3, (0.5,) * 3)
    return eval_batches(images, splits, batch_size=10, rank=0, size=1, device="cpu")


def alive() -> set[threading.Thread]:
    return set(threading.enumerate())


def test_files_are_prefetched_in_a_thread_that_ends() -> None:
    before, images = alive(), SlowImages(100)
    iterator = evaluated(images)
    next(iterator)
    time.sleep(0.3)
    assert images.fetched == list(range(30))  # the batch in use and two more
    assert threading.current_thread().name not in images.threads
    assert len(list(iterator)) == 9
    assert images.fetched == list(range(100))
    assert alive() == before


def test_a_consumer_that_stops_early_leaves_no_thread() -> None:
    before, images = alive(), SlowImages(100)
    for x, _ in evaluated(images):
        assert len(x) == 10
        break
    assert alive() == before
    iterator = evaluated(images)
    next(iterator)
    assert alive() != before
    iterator.close()
    assert alive() == before


def test_pending_batches_are_not_fetched_after_an_early_stop() -> None:
    images = SlowImages(100)
    iterator = evaluated(images)
    images.gate.clear()
    release = threading.Timer(0.3, images.gate.set)
    images.free_batches = 1  # the second batch waits at the gate, the third behind it
    next(iterator)
    assert images.waiting.wait(10)
    release.start()
    iterator.close()
    release.join()
    assert images.fetched == list(range(20))


def test_an_error_in_the_thread_is_raised_in_place_of_its_batch() -> None:
    before, images = alive(), SlowImages(100, broken=25)
    iterator = evaluated(images)
    assert [next(iterator)[1].tolist() for _ in range(2)] == [list(range(10)), list(range(10, 20))]
    with pytest.raises(DataError, match=r"17\.jpg"):
        next(iterator)
    assert alive() == before


def test_a_broken_file_is_named_while_training(photographs: tuple[data.Splits, DataConfig]) -> None:
    splits, spec = photographs
    assert isinstance(splits.train, FileImages)
    before, path = alive(), Path(splits.train.paths[11])
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match=path.name) as caught:
        epoch_of(splits, spec, batch_size=5)
    assert str(path) in str(caught.value)
    del caught
    assert alive() == before


def test_images_in_memory_need_no_thread(cifar_spec: DataConfig) -> None:
    before = alive()
    iterator = train_batches(numbered(40), cifar_spec, seed=0, epoch=0, batch_size=8, rank=0, size=1, device="cpu")
    next(iterator)
    assert alive() == before


# -- on a GPU ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_same_batches_without_host_device_synchronisation(
    cifar_spec: DataConfig, photographs: tuple[data.Splits, DataConfig]
) -> None:
    for splits, spec in ((numbered(53), cifar_spec), photographs):
        expected = epoch_of(splits, spec)
        iterator = train_batches(splits, spec, seed=0, epoch=0, batch_size=8, rank=0, size=1, device="cuda")
        found = [next(iterator)]
        torch.cuda.set_sync_debug_mode("error")
        try:
            found.extend(iterator)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        for (x, y), (x_cpu, y_cpu) in zip(found, expected, strict=True):
            torch.testing.assert_close(x.cpu(), x_cpu, atol=1e-6, rtol=1e-6)
            assert torch.equal(y.cpu(), y_cpu)


def test_parquet_images_travel_from_disk_to_batches(tmp_path: Path) -> None:
    from small_datasets import cut, encoded

    write_parquet(tmp_path / "train.parquet", [encoded(cut(i)) for i in range(20)], [i % 3 for i in range(20)])
    spec = DataConfig.parse({"dataset": "image_parquet", "root": str(tmp_path), "validation": 4})
    splits = data.load(spec)
    found = epoch_of(splits, spec)
    assert [x.shape for x, _ in found] == [(8, 3, 32, 32)] * 2
    together = torch.cat([x for x, _ in eval_batches(splits.train, splits, batch_size=9, rank=0, size=1, device="cpu")])
    assert together.mean(dim=(0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-4)
    assert together.std(dim=(0, 2, 3), correction=0).tolist() == pytest.approx([1, 1, 1], abs=1e-4)
