"""The cache of decoded data: made once for all processes, equal to data without a cache, never incomplete."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
import torch
from small_datasets import cut, encoded, write_cifar_batches, write_parquet

from st3sweep import data
from st3sweep.data import DataError, decoded_cache
from st3sweep.data.batches import eval_batches, train_batches
from st3sweep.data.formats import parquet
from st3sweep.trial.data import DataConfig

DAY = 24 * 3600
FORK = multiprocessing.get_context("fork")
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set an empty cache for this test."""
    monkeypatch.setenv("ST3SWEEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def spec(**fields: Any) -> DataConfig:
    return DataConfig.parse({k: str(v) if k == "root" else v for k, v in fields.items()})


def write_rows(root: Path, bad: int | None = None) -> None:
    """Write 20 training rows, three in every four JPEG, and 5 test rows."""
    images = [encoded(cut(i), "JPEG" if i % 4 else "PNG") for i in range(20)]
    if bad is not None:
        images[bad] = images[bad][:200]
    write_parquet(root / "train.parquet", images, [i % 3 for i in range(20)])
    write_parquet(root / "test.parquet", [encoded(cut(30 + i)) for i in range(5)], [0, 1, 2, 0, 1])


def rows(root: Path, **fields: Any) -> DataConfig:
    write_rows(root)
    return spec(**{"dataset": "image_parquet", "root": root, "validation": 5, **fields})


def content(splits: data.Splits) -> list[torch.Tensor]:
    """Return everything that a trial can see of the splits."""
    parts = [part for part in (splits.train, splits.validation, splits.test) if part is not None]
    arrays = [array for part in parts for array in (part.pixels, part.labels, part.sample_ids)]
    return [*arrays, torch.tensor([splits.mean, splits.std], dtype=torch.float64), torch.tensor(splits.num_classes)]


def batches(splits: data.Splits, asked: DataConfig) -> list[torch.Tensor]:
    train = train_batches(splits, asked, seed=3, epoch=1, batch_size=4, rank=0, size=1, device="cpu")
    test = eval_batches(splits.test, splits, batch_size=2, rank=0, size=1, device="cpu")
    return [tensor for x_and_y in (*train, *test) for tensor in x_and_y]


def assert_equal(first: list[torch.Tensor], second: list[torch.Tensor]) -> None:
    assert len(first) == len(second) > 0
    assert all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(first, second, strict=True))


def entries(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir()) if cache.exists() else []


def is_mapped(splits: data.Splits, cache: Path) -> bool:
    """Whether the pixels are in a file of the cache, by the addresses of its mappings."""
    address = splits.train.pixels.data_ptr()
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, stop = (int(part, 16) for part in line.split()[0].split("-"))
        if start <= address < stop:
            return str(cache) in line
    return False


def in_process(do: Callable[[], Any]) -> multiprocessing.process.BaseProcess:
    process = FORK.Process(target=do)
    process.start()
    return process


# -- the same data ----------------------------------------------------------------------------------------------


@linux
@pytest.mark.parametrize("limit", [None, 7])
@pytest.mark.parametrize("kind", ["batches", "cifar-parquet", "image_parquet"])
def test_shared_data_are_bit_identical_to_those_in_memory(tmp_path: Path, cache: Path, kind: str, limit: int) -> None:
    root = tmp_path / "root"
    (write_cifar_batches if kind == "batches" else write_rows)(root)
    dataset = kind if kind == "image_parquet" else "cifar10"
    asked = spec(dataset=dataset, root=root, validation=5, train_limit=limit)
    in_memory, first, second = asked.load(), data.load(asked), data.load(asked)
    assert [is_mapped(splits, cache) for splits in (in_memory, first, second)] == [False, True, True]
    assert_equal(content(first), content(in_memory))
    assert_equal(content(second), content(in_memory))
    assert_equal(batches(second, asked), batches(in_memory, asked))
    assert len(second.train) == (limit or 15)


def test_read_only_arrays_cause_no_warning(tmp_path: Path, cache: Path) -> None:
    asked = rows(tmp_path / "root")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            batches(data.load(asked), asked)


def test_every_process_warns_of_skipped_images(tmp_path: Path, cache: Path) -> None:
    asked = rows(tmp_path / "root", bad_images="skip", dataset="cifar10")
    write_rows(tmp_path / "root", bad=3)
    for _ in range(2):
        with pytest.warns(RuntimeWarning, match=r"^1 of 15 training images left out: cannot read row 3") as heard:
            splits = data.load(asked)
        assert len(heard) == 1
        assert splits.train.sample_ids.tolist() == [0, 1, 2, *range(4, 15)]
    with pytest.raises(DataError, match="cannot read row 3"):  # another entry: here bad images are errors
        data.load(spec(**{**asked.model_dump(), "bad_images": "error"}))
    assert len(entries(cache)) == 1


def test_digits_and_packs_use_no_cache(tmp_path: Path, cache: Path) -> None:
    asked = rows(tmp_path / "root")
    data.make_pack(asked, tmp_path / "pack")
    data.load(spec(**{**asked.model_dump(), "pack": str(tmp_path / "pack")}))
    data.load(spec(dataset="digits"))
    assert entries(cache) == []


# -- made once --------------------------------------------------------------------------------------------------


def count_decodes(monkeypatch: pytest.MonkeyPatch, log: Path) -> None:
    """Append a byte to ``log`` for each image decoded by this process and its forks."""
    log.touch()
    decode = parquet.square

    def counted(*args: Any, **fields: Any) -> np.ndarray:
        with log.open("ab", buffering=0) as file:
            file.write(b".")
        time.sleep(0.01)  # so that all processes start before the first has finished
        return decode(*args, **fields)

    monkeypatch.setattr(parquet, "square", counted)


@linux
def test_processes_that_start_together_decode_once_and_map_one_file(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, log = rows(tmp_path / "root"), tmp_path / "decoded"
    wanted = content(asked.load())
    count_decodes(monkeypatch, log)
    start, results = FORK.Barrier(4), FORK.SimpleQueue()

    def load() -> None:
        start.wait()
        splits = data.load(asked)
        same = all(torch.equal(a, b) for a, b in zip(content(splits), wanted, strict=True))
        maps = Path("/proc/self/maps").read_text().splitlines()
        results.put((same, {tuple(line.split()[3:5]) for line in maps if "train.pixels" in line}))

    processes = [in_process(load) for _ in range(4)]
    for process in processes:
        process.join()
    found = [results.get() for _ in processes]
    assert log.stat().st_size == 25
    assert [same for same, _ in found] == [True] * 4
    assert len(set.union(*(files for _, files in found))) == 1  # device and inode
    assert len(entries(cache)) == 1


@pytest.mark.long
@linux
def test_four_processes_hold_one_copy(tmp_path: Path, cache: Path) -> None:
    write_cifar_batches(tmp_path / "root", per_batch=1000, test=1000)
    asked = spec(dataset="cifar10", root=tmp_path / "root", validation=1000)
    size = 6000 * 3072
    data.load(asked)
    touched, results, done = FORK.Barrier(4), FORK.SimpleQueue(), FORK.Barrier(4)

    def load() -> None:
        before = memory("Anonymous:")
        splits = data.load(asked)
        for images in (splits.train, splits.validation, splits.test):
            images.pixels.view(-1)[::4096].max()  # touches every page
        touched.wait()
        results.put((memory("Anonymous:") - before, memory("Pss:", "pixels.npy")))
        done.wait()

    def memory(field: str, name: str = "") -> int:
        """Return the bytes of this process in mappings whose path has this ending."""
        found, counts = 0, False
        with open("/proc/self/smaps") as lines:
            for line in map(str.strip, lines):
                if not line.endswith("kB"):
                    counts = line.endswith(name)
                elif counts and line.startswith(field):
                    found += 1024 * int(line.split()[1])
        return found

    processes = [in_process(load) for _ in range(4)]
    found = [results.get() for _ in processes]
    for process in processes:
        process.join()
    assert sum(pss for _, pss in found) == pytest.approx(size, rel=0.01)
    assert max(own for own, _ in found) < size / 4


def test_settings_that_change_the_images_change_the_entry(tmp_path: Path, cache: Path) -> None:
    asked = rows(tmp_path / "root")
    data.load(asked)
    (name,) = entries(cache)
    same = {"augment": {"padding": 2}}, {}
    others = {"train_limit": 4}, {"validation": 4}, {"image_size": 16}, {"bad_images": "skip"}
    for number, change in enumerate([*same, *others], start=1):
        data.load(spec(**{**asked.model_dump(), **change}))
        assert len(entries(cache)) == max(1, number - len(same) + 1)
    os.utime(tmp_path / "root" / "test.parquet", ns=(1, 1))  # the same size and name
    data.load(asked)
    assert len(entries(cache)) == len(others) + 2
    assert name in entries(cache)


def test_a_changed_file_is_decoded_again(tmp_path: Path, cache: Path) -> None:
    asked = rows(tmp_path / "root")
    before = data.load(asked)
    images = [encoded(cut(100 + i)) for i in range(20)]
    write_parquet(tmp_path / "root" / "train.parquet", images, [i % 3 for i in range(20)])
    after = data.load(asked)
    assert_equal(content(after), content(asked.load()))
    assert not torch.equal(after.train.pixels, before.train.pixels)


# -- never incomplete -------------------------------------------------------------------------------------------


@pytest.mark.long
@linux
@pytest.mark.parametrize("writes", [0, 1, 5, 9])
def test_a_killed_builder_leaves_no_valid_entry(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    asked = rows(tmp_path / "root")

    def die() -> None:
        """Be killed in the middle of the file after ``writes`` complete ones."""
        save, left = np.save, iter(range(writes))

        def half(file: Any, array: np.ndarray) -> None:
            if next(left, None) is not None:
                save(file, array)
                return
            file.write(b"\x93NUMPY and then no more")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

        np.save = half
        decoded_cache.json.dumps = lambda facts, dumps=decoded_cache.json.dumps, **fields: (
            os.kill(os.getpid(), signal.SIGKILL) if "splits" in facts else dumps(facts, **fields)
        )
        data.load(asked)

    process = in_process(die)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert any((cache / name / ".lock").exists() for name in entries(cache))
    log = tmp_path / "decoded"
    count_decodes(monkeypatch, log)
    splits = data.load(asked)
    assert log.stat().st_size == 25
    assert is_mapped(splits, cache)
    assert_equal(content(data.load(asked)), content(asked.load()))
    assert not list(cache.glob("*/*.tmp"))


@linux
@pytest.mark.parametrize("file", ["train.pixels.npy", "test.labels.npy", "splits.json"])
@pytest.mark.parametrize("damage", ["missing", "cut", "empty"])
def test_an_incomplete_entry_is_made_again(tmp_path: Path, cache: Path, file: str, damage: str) -> None:
    asked = rows(tmp_path / "root")
    wanted = content(data.load(asked))
    (path,) = cache.glob(f"*/{file}")
    whole = path.read_bytes()
    path.unlink()  # the mapped file does not change
    if damage != "missing":
        path.write_bytes(whole[: len(whole) // 2 if damage == "cut" else 0])
    splits = data.load(asked)
    assert_equal(content(splits), wanted)
    assert is_mapped(splits, cache)
    assert path.read_bytes() == whole


def test_a_data_error_is_the_same_and_leaves_no_entry(tmp_path: Path, cache: Path) -> None:
    asked = rows(tmp_path / "root")
    write_rows(tmp_path / "root", bad=4)
    with pytest.raises(DataError) as alone:
        asked.load()
    for _ in range(2):
        with pytest.raises(DataError) as raised:
            data.load(asked)
        assert str(raised.value) == str(alone.value)
    assert entries(cache) == []


def test_a_process_that_waited_for_a_removed_entry_locks_the_next(tmp_path: Path) -> None:
    folder, waiting, held, done = tmp_path / "entry", Event(), Event(), Event()

    def wait() -> None:
        waiting.set()
        with decoded_cache._alone(folder):
            held.set()
            done.wait(10)

    with decoded_cache._alone(folder):
        thread = Thread(target=wait)
        thread.start()
        waiting.wait(10)
        time.sleep(0.1)  # for it to open the lock
        assert not held.is_set()
        decoded_cache._remove(folder)
    assert held.wait(10)
    with (folder / ".lock").open("w") as third, pytest.raises(BlockingIOError):
        fcntl.flock(third, fcntl.LOCK_EX | fcntl.LOCK_NB)
    done.set()
    thread.join()


# -- unwritable caches, and how long entries stay --------------------------------------------------------------------


def test_an_unwritable_cache_leaves_the_data_in_memory(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = rows(tmp_path / "root")
    (tmp_path / "cache").write_text("a file, no folder")
    with pytest.warns(RuntimeWarning, match="cannot use the data cache: .* Not a directory") as heard:
        splits = data.load(asked)
    assert len(heard) == 1
    assert "\n" not in str(heard[0].message)
    assert_equal(content(splits), content(asked.load()))


def test_a_full_disk_leaves_the_data_in_memory_and_no_entry(tmp_path: Path, cache: Path) -> None:
    asked = rows(tmp_path / "root")
    results = FORK.SimpleQueue()

    def load() -> None:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # of 46,080 bytes
            splits = data.load(asked)
        same = all(torch.equal(*pair) for pair in zip(content(splits), content(asked.load()), strict=True))
        results.put((same, [str(warning.message) for warning in heard]))

    process = in_process(load)
    process.join()
    assert process.exitcode == 0
    same, heard = results.get()
    assert same
    assert len(heard) == 1
    assert "each process keeps its own copy" in heard[0]
    assert entries(cache) == []


def test_a_relative_cache_is_refused_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = rows(tmp_path / "root")
    monkeypatch.setenv("ST3SWEEP_CACHE", "here")
    for look in (data.inspect, data.load):
        with pytest.raises(DataError, match=r"ST3SWEEP_CACHE must be an absolute path \(got 'here'\)"):
            look(asked)


@linux
def test_unused_entries_are_removed_and_nothing_else(tmp_path: Path, cache: Path) -> None:
    asked = rows(tmp_path / "root")
    old = data.load(asked)
    recent = data.load(spec(**{**asked.model_dump(), "image_size": 16}))
    used = data.load(spec(**{**asked.model_dump(), "image_size": 24}))
    folders = {np.load(folder / "train.pixels.npy", mmap_mode="r").shape[-1]: folder for folder in cache.iterdir()}
    foreign = cache / "another"
    foreign.mkdir()
    (foreign / ".lock").touch()
    ago = {32: 31, 16: 29, 24: 31}
    for folder, days in [(foreign, 400), *((folders[size], days) for size, days in ago.items())]:
        os.utime(folder, (time.time() - days * DAY,) * 2)
    data.load(spec(**{**asked.model_dump(), "image_size": 24}))  # opens it
    data.load(spec(**{**asked.model_dump(), "image_size": 8}))  # makes one
    assert not folders[32].exists()
    assert folders[16].exists()
    assert folders[24].exists()
    assert (foreign / ".lock").exists()
    assert_equal(content(old), content(asked.load()))  # still mapped
    assert recent.image_shape()[1:] == (16, 16)
    assert used.image_shape()[1:] == (24, 24)
