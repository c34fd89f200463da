"""Load CIFAR from batches and Parquet files: splits, downloads, and the errors for malformed files."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from loaded_data import all_pixels, assert_agree, counts, error_of, spec
from small_datasets import cut, encoded, write_cifar100_batches, write_cifar_batches, write_parquet

from st3sweep import data
from st3sweep.data import DataError, DataInfo

REAL_CIFAR10 = Path(os.environ.get("ST3SWEEP_CIFAR10", Path(__file__).parents[3] / "shared" / "data"))


def test_cifar_batches_validate_on_the_last_images(tmp_path: Path) -> None:
    write_cifar_batches(tmp_path)  # 20 training images, 6 test images
    asked = spec(dataset="cifar10", root=tmp_path, validation=5)
    splits = data.load(asked)
    assert splits.train.sample_ids.tolist() == list(range(15))
    assert splits.validation.sample_ids.tolist() == [15, 16, 17, 18, 19]
    assert splits.validation.labels.tolist() == [5, 6, 7, 8, 9]
    assert splits.test.labels.tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_array_equal(all_pixels(splits.train)[13], cut(13).transpose(2, 0, 1))
    np.testing.assert_array_equal(all_pixels(splits.validation)[1], cut(16).transpose(2, 0, 1))
    np.testing.assert_array_equal(all_pixels(splits.test)[2], cut(22).transpose(2, 0, 1))
    assert splits.mean == (0.4914, 0.4822, 0.4465)
    assert splits.std == (0.2023, 0.1994, 0.2010)
    assert_agree(data.inspect(asked), splits)


def test_cifar_train_limit_takes_the_first_images(tmp_path: Path) -> None:
    write_cifar_batches(tmp_path)
    splits = data.load(spec(dataset="cifar10", root=tmp_path, validation=5, train_limit=7))
    assert splits.train.sample_ids.tolist() == list(range(7))
    assert splits.validation.sample_ids.tolist() == [15, 16, 17, 18, 19]


def test_cifar100_reads_the_fine_labels(tmp_path: Path) -> None:
    write_cifar100_batches(tmp_path)
    asked = spec(dataset="cifar100", root=tmp_path, validation=2)
    splits = data.load(asked)
    assert splits.train.labels.tolist() == list(range(99, 89, -1))
    assert (splits.num_classes, splits.mean[0]) == (100, 0.5071)
    assert_agree(data.inspect(asked), splits)


def test_cifar_parquet_equals_cifar_batches(tmp_path: Path) -> None:
    write_cifar_batches(tmp_path / "batches")
    for name, indices in (("train", range(20)), ("test", range(20, 26))):
        images = [encoded(cut(i)) for i in indices]
        labels = [i % 10 if name == "train" else (i - 20) for i in indices]
        write_parquet(tmp_path / "parquet" / f"cifar10-{name}.parquet", images, labels)
    first, second = (
        data.load(spec(dataset="cifar10", root=tmp_path / kind, validation=5)) for kind in ("batches", "parquet")
    )
    for split in ("train", "validation", "test"):
        np.testing.assert_array_equal(all_pixels(getattr(first, split)), all_pixels(getattr(second, split)))
        assert torch.equal(getattr(first, split).labels, getattr(second, split).labels)
    assert_agree(data.inspect(spec(dataset="cifar10", root=tmp_path / "parquet", validation=5)), second)


def test_cifar_parquet_in_several_files_prefers_those_named_after_the_dataset(tmp_path: Path) -> None:
    def write(name: str, indices: range, **columns: str) -> None:
        write_parquet(tmp_path / name, [encoded(cut(i)) for i in indices], list(indices), **columns)

    write("cifar10-train-0.parquet", range(4))
    write("cifar10-train-1.parquet", range(4, 9))
    write("cifar10-test.parquet", range(3))
    write("cifar100-train.parquet", range(20, 27), image="image", label="fine_label")
    write("cifar100-test.parquet", range(2), image="image", label="fine_label")
    ten = data.load(spec(dataset="cifar10", root=tmp_path, validation=3))
    hundred = data.load(spec(dataset="cifar100", root=tmp_path, validation=2))
    assert ten.train.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert ten.validation.labels.tolist() == [6, 7, 8]
    np.testing.assert_array_equal(all_pixels(ten.train)[5], cut(5).transpose(2, 0, 1))
    assert hundred.train.labels.tolist() == [20, 21, 22, 23, 24]


def test_cifar_decodes_only_what_is_used(tmp_path: Path) -> None:
    images = [encoded(cut(i)) for i in range(20)]
    images[10] = b"not an image"
    write_parquet(tmp_path / "train.parquet", images, [i % 10 for i in range(20)])
    write_parquet(tmp_path / "test.parquet", images[:3], [0, 1, 2])
    splits = data.load(spec(dataset="cifar10", root=tmp_path, validation=5, train_limit=10))
    assert counts(splits) == (10, 5, 3)
    with pytest.raises(DataError, match=r"cannot read row 10 of .*train\.parquet as an image"):
        data.load(spec(dataset="cifar10", root=tmp_path, validation=5, train_limit=11))


def test_the_error_for_absent_cifar_names_the_expected_files(tmp_path: Path) -> None:
    error = error_of(dataset="cifar10", root=tmp_path)
    assert error.field == "data.root"
    for word in ("cifar-10-batches-py", "*train*.parquet", "data.download=true", str(tmp_path)):
        assert word in error.message
    write_parquet(tmp_path / "train.parquet", [encoded(cut(0))], [1])
    assert "only train files" in error_of(dataset="cifar10", root=tmp_path).message


@pytest.mark.parametrize("there", [True, False])
def test_cifar_not_yet_downloaded_has_the_official_counts(tmp_path: Path, there: bool) -> None:
    root = tmp_path if there else tmp_path / "later"
    info = data.inspect(spec(dataset="cifar100", root=root, download=True))
    assert info == DataInfo(100, 3, 32, 45000, 5000, 10000)
    assert list(tmp_path.iterdir()) == []


def stand_in_for_torchvision(monkeypatch: pytest.MonkeyPatch, download: Callable[..., None]) -> None:
    """Replace torchvision: no network, and no slow import."""
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    datasets = SimpleNamespace(CIFAR10=download, CIFAR100=None)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", datasets)


def test_cifar_is_downloaded_once_and_only_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def download(root: Path, download: bool) -> None:
        calls.append((root, download))
        write_cifar_batches(root)

    stand_in_for_torchvision(monkeypatch, download)
    asked = spec(dataset="cifar10", root=tmp_path / "new", download=True, validation=5)
    assert counts(data.load(asked)) == counts(data.load(asked)) == (15, 5, 6)
    assert calls == [(tmp_path / "new", True)]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["cifar-10-batches-py"]


def test_a_failed_download_is_a_data_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(root: Path, download: bool) -> None:
        raise OSError("no route to host")

    stand_in_for_torchvision(monkeypatch, download)
    with pytest.raises(DataError, match=r"^data\.download: could not download cifar10 .* no route to host"):
        data.load(spec(dataset="cifar10", root=tmp_path, download=True))


def test_a_broken_cifar_batch_is_named(tmp_path: Path) -> None:
    write_cifar_batches(tmp_path)
    broken = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    broken.write_bytes(broken.read_bytes()[:5000])
    assert "data_batch_3" in error_of(dataset="cifar10", root=tmp_path, validation=5).message


def test_a_cifar_batch_cannot_run_code(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    write_cifar_batches(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(pickle.dumps(Harm()))
    assert "is not allowed" in error_of(dataset="cifar10", root=tmp_path, validation=5).message
    assert not (tmp_path / "harm").exists()


def test_cifar_refuses_labels_and_sizes_of_another_dataset(tmp_path: Path) -> None:
    write_parquet(tmp_path / "test.parquet", [encoded(cut(0))], [1])
    write_parquet(tmp_path / "train.parquet", [encoded(cut(i)) for i in range(3)], [0, 1, 12])
    assert "label 12; cifar10 counts 0 to 9" in error_of(dataset="cifar10", root=tmp_path, validation=1).message
    write_parquet(tmp_path / "train.parquet", [encoded(cut(i, 40, 32)) for i in range(3)], [0, 1, 2])
    with pytest.raises(DataError, match="is 40x32 pixels, not 32x32"):
        data.load(spec(dataset="cifar10", root=tmp_path, validation=1))


@pytest.mark.skipif(
    not any(REAL_CIFAR10.glob("*train*.parquet")), reason="no CIFAR-10 Parquet files: set ST3SWEEP_CIFAR10"
)
def test_the_real_cifar10() -> None:
    asked = spec(dataset="cifar10", root=REAL_CIFAR10, train_limit=256, validation=64)
    assert data.inspect(spec(dataset="cifar10", root=REAL_CIFAR10)) == DataInfo(10, 3, 32, 45000, 5000, 10000)
    splits = data.load(asked)
    assert counts(splits) == (256, 64, 10000)
    assert splits.train.labels[:12].tolist() == [1, 1, 6, 0, 4, 7, 2, 8, 0, 1, 2, 7]
    assert splits.test.labels.bincount().tolist() == [1000] * 10
    assert splits.validation.sample_ids.tolist() == list(range(49936, 50000))
    pixels = all_pixels(splits.test)
    assert pixels.shape == (10000, 3, 32, 32)
    np.testing.assert_allclose(pixels.mean(axis=(0, 2, 3)) / 255, splits.mean, atol=0.01)
