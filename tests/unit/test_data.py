"""Load and count every kind of dataset: splits, labels, and the errors for malformed data."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from small_datasets import cut, encoded, write_cifar100_batches, write_cifar_batches, write_folder, write_parquet

from st3sweep import data
from st3sweep.data import DataError, DataInfo
from st3sweep.data.images import ArrayImages, FileImages
from st3sweep.trial.data import DataConfig

REPOSITORY = Path(__file__).parents[2]
REAL_CIFAR10 = Path(os.environ.get("ST3SWEEP_CIFAR10", REPOSITORY.parent / "shared" / "data"))


def spec(**fields) -> DataConfig:
    return DataConfig.parse({k: str(v) if k == "root" else v for k, v in fields.items()})


def counts(splits: data.Splits) -> tuple[int, int, int]:
    return len(splits.train), len(splits.validation), len(splits.test) if splits.test else 0


def all_pixels(images: ArrayImages) -> np.ndarray:
    return images.on(torch.device("cpu")).numpy()


def assert_agree(info: DataInfo, splits: data.Splits) -> None:
    """Load the splits, and check that they have the counts of inspect."""
    assert (info.train, info.validation, info.test) == counts(splits)
    assert info.num_classes == splits.num_classes
    assert len(splits.mean) == len(splits.std) == info.channels
    shown = splits.train.fetch(torch.tensor([0]), 0, 0, True)
    assert shown.shape == (1, info.channels, info.image_size, info.image_size)
    assert shown.dtype == torch.uint8
    for images in filter(None, (splits.train, splits.validation, splits.test)):
        assert images.labels.dtype == images.sample_ids.dtype == torch.int64
        assert len(images.labels) == len(images.sample_ids) == len(images)
        assert 0 <= int(images.labels.min()) <= int(images.labels.max()) < info.num_classes


def error_of(**fields) -> DataError:
    """Return the error that inspect and load both raise."""
    with pytest.raises(DataError) as inspected:
        data.inspect(spec(**fields))
    with pytest.raises(DataError) as loaded:
        data.load(spec(**fields))
    assert str(inspected.value) == str(loaded.value)
    return inspected.value


# -- digits -----------------------------------------------------------------------------------------------------


def test_digits_are_split_1200_300_297_without_overlap() -> None:
    splits = data.load(spec(dataset="digits"))
    assert counts(splits) == (1200, 300, 297)
    ids = torch.cat([splits.train.sample_ids, splits.validation.sample_ids, splits.test.sample_ids])
    assert ids.sort().values.tolist() == list(range(1797))
    for images, least, most in ((splits.train, 116, 123), (splits.validation, 29, 31), (splits.test, 28, 31)):
        per_class = images.labels.bincount(minlength=10)
        assert least <= per_class.min() <= per_class.max() <= most
    assert_agree(data.inspect(spec(dataset="digits")), splits)


def test_digits_keep_their_pixels_and_labels() -> None:
    from sklearn.datasets import load_digits

    bundled = load_digits()
    splits = data.load(spec(dataset="digits", image_size=8, train_limit=50, validation=0.2))
    assert counts(splits) == (50, 300, 297)
    for images in (splits.train, splits.test):
        ids = images.sample_ids.numpy()
        np.testing.assert_array_equal(images.labels, bundled.target[ids])
        np.testing.assert_array_equal(all_pixels(images)[:, 0], np.round(bundled.images[ids] * 255 / 16))
    assert bundled.target[0] == 0  # the first is a zero
    scaled = all_pixels(splits.train) / 255
    assert splits.mean == pytest.approx((scaled.mean(),))
    assert splits.std == pytest.approx((scaled.std(),))


def test_digits_split_is_the_same_each_time_and_a_limit_takes_the_first() -> None:
    whole, again = data.load(spec(dataset="digits")), data.load(spec(dataset="digits"))
    limited = data.load(spec(dataset="digits", train_limit=100))
    assert torch.equal(whole.train.sample_ids, again.train.sample_ids)
    assert torch.equal(limited.train.sample_ids, whole.train.sample_ids[:100])
    assert torch.equal(limited.validation.sample_ids, whole.validation.sample_ids)
    assert limited.train.labels.bincount().tolist() == pytest.approx([10] * 10, abs=1)


# -- CIFAR ------------------------------------------------------------------------------------------------------


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


# -- Parquet ----------------------------------------------------------------------------------------------------


def test_image_parquet_sorted_by_label_is_shuffled(tmp_path: Path) -> None:
    labels = [0] * 20 + [1] * 20 + [2] * 20
    write_parquet(tmp_path / "train-0.parquet", [encoded(cut(i)) for i in range(30)], labels[:30])
    write_parquet(tmp_path / "train-1.parquet", [encoded(cut(i)) for i in range(30, 60)], labels[30:])
    asked = spec(dataset="image_parquet", root=tmp_path, validation=0.25)
    splits = data.load(asked)
    assert counts(splits) == (45, 15, 0)
    assert splits.test is None
    ids = torch.cat([splits.train.sample_ids, splits.validation.sample_ids])
    assert ids.sort().values.tolist() == list(range(60))
    for images in (splits.train, splits.validation):
        assert len(images.labels.unique()) == 3
        assert images.labels.tolist() == [labels[i] for i in images.sample_ids]
        for pixels, index in zip(all_pixels(images), images.sample_ids.tolist(), strict=True):
            np.testing.assert_array_equal(pixels, cut(index).transpose(2, 0, 1))
    scaled = all_pixels(splits.train) / 255
    assert splits.mean == pytest.approx(scaled.mean(axis=(0, 2, 3)).tolist())
    assert splits.std == pytest.approx(scaled.std(axis=(0, 2, 3)).tolist())
    assert_agree(data.inspect(asked), splits)


def test_image_parquet_resizes_and_reads_grey_and_jpeg(tmp_path: Path) -> None:
    grey = cut(5)[:, :, 0]
    images = [encoded(cut(0, 100, 60)), encoded(grey), encoded(cut(2), "JPEG"), encoded(cut(3))]
    write_parquet(tmp_path / "data" / "train.parquet", images, [0, 1, 0, 1], image="image")
    write_parquet(tmp_path / "data" / "validation.parquet", images[:2], [0, 1], image="image")
    asked = spec(dataset="image_parquet", root=tmp_path, image_size=32, validation=1)
    splits = data.load(asked)
    assert_agree(data.inspect(asked), splits)
    assert len(splits.test) == 2
    np.testing.assert_array_equal(all_pixels(splits.test)[1], np.stack([grey] * 3))
    parts = (splits.train, splits.validation)
    seen = {i: p for s in parts for i, p in zip(s.sample_ids.tolist(), all_pixels(s), strict=True)}
    np.testing.assert_allclose(seen[2].astype(int), cut(2).transpose(2, 0, 1), atol=80)
    assert abs(seen[2].astype(int) - cut(2).transpose(2, 0, 1)).mean() < 12


def test_a_test_file_in_a_folder_named_for_training_stays_a_test_file(tmp_path: Path) -> None:
    write_parquet(tmp_path / "training" / "a-train.parquet", [encoded(cut(i)) for i in range(6)], [0, 1] * 3)
    write_parquet(tmp_path / "training" / "a-test.parquet", [encoded(cut(9))], [1])
    splits = data.load(spec(dataset="image_parquet", root=tmp_path, validation=2))
    assert counts(splits) == (4, 2, 1)


@pytest.mark.parametrize(
    ("labels", "columns", "message"),
    [
        ([0, 1], {"image": "picture"}, "no column img or image that is a struct with bytes; it has picture"),
        ([0, 1], {"label": "class"}, "no column label of whole numbers; it has img (struct"),
        (["cat", "dog"], {}, "no column label of whole numbers"),
        ([0, None], {}, "1 rows without a label"),
        ([0, -1], {}, "label -1 in row 1"),
        ([3, 3], {}, "at least 2 classes"),
        ([0, 50_000_000], {}, "labels in {root} go up to 50,000,000, but only 2 occur; number the classes from 0"),
        ([], {}, "no rows in"),
    ],
)
def test_the_error_says_what_is_wrong_with_a_parquet_file(tmp_path: Path, labels, columns, message) -> None:
    import pyarrow as pa

    path = tmp_path / "train.parquet"
    typed = labels or pa.array([], pa.int64())
    write_parquet(path, [encoded(cut(i)) for i in range(len(labels))], typed, **columns)
    error = error_of(dataset="image_parquet", root=tmp_path, validation=1)
    assert error.field == "data.root"
    assert message.format(root=tmp_path) in error.message
    assert str(tmp_path) in error.message


def test_invalid_parquet_and_parquet_without_training_files(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_text("hello")
    assert "cannot read" in error_of(dataset="image_parquet", root=tmp_path).message
    (tmp_path / "train.parquet").rename(tmp_path / "other.parquet")
    assert "looked for *train*.parquet" in error_of(dataset="image_parquet", root=tmp_path).message


def test_an_unreadable_row_is_named(tmp_path: Path) -> None:
    images: list[bytes | None] = [encoded(cut(i)) for i in range(12)]
    images[9] = images[9][:200]
    write_parquet(tmp_path / "train.parquet", images, [0, 1] * 6)
    asked = spec(dataset="image_parquet", root=tmp_path, validation=2)
    with pytest.raises(DataError, match=r"cannot read row 9 of .*train\.parquet as an image"):
        data.load(asked)
    images[9] = None
    write_parquet(tmp_path / "train.parquet", images, [0, 1] * 6)
    with pytest.raises(DataError, match=r"row 9 of .*train\.parquet has no bytes"):
        data.load(asked)


# -- folders ----------------------------------------------------------------------------------------------------


def test_image_folder_finds_every_kind_of_file(tmp_path: Path) -> None:
    write_folder(tmp_path)  # 2 classes of 6 training and 2 test images each
    asked = spec(dataset="image_folder", root=tmp_path, image_size=32, validation=4)
    splits = data.load(asked)
    assert counts(splits) == (8, 4, 4)
    assert_agree(data.inspect(asked), splits)
    ids = torch.cat([splits.train.sample_ids, splits.validation.sample_ids])
    assert ids.sort().values.tolist() == list(range(12))
    for images in (splits.train, splits.validation, splits.test):
        assert isinstance(images, FileImages)
        for path, label in zip(images.paths, images.labels.tolist(), strict=True):
            assert Path(path).parent.name == ("flower", "temple")[label]
    assert {Path(path).suffix for path in splits.train.paths} == {".jpg", ".png", ".JPEG"}
    assert splits.mean == (0.485, 0.456, 0.406)
    limited = data.load(spec(dataset="image_folder", root=tmp_path, image_size=32, validation=4, train_limit=3))
    assert limited.train.paths == splits.train.paths[:3]


def test_image_folder_test_set_is_test_then_val_then_none(tmp_path: Path) -> None:
    write_folder(tmp_path, test=None)
    asked = spec(dataset="imagenet", root=tmp_path, validation=2)
    assert data.load(asked).test is None
    assert_agree(data.inspect(asked), data.load(asked))
    shutil.copytree(tmp_path / "train", tmp_path / "val")
    assert {Path(path).parents[1].name for path in data.load(asked).test.paths} == {"val"}
    shutil.copytree(tmp_path / "train", tmp_path / "test")
    assert {Path(path).parents[1].name for path in data.load(asked).test.paths} == {"test"}


def test_evaluation_view_is_the_resized_centre(tmp_path: Path) -> None:
    from PIL import Image

    write_folder(tmp_path, size=(100, 80))
    splits = data.load(spec(dataset="image_folder", root=tmp_path, image_size=56, validation=4))
    images = splits.validation
    found = images.fetch(torch.arange(4), 0, 0, False)
    for path, view in zip(images.paths, found, strict=True):
        # short side 56 * 256 / 224 = 64, so 80x64, and the 56x56 in its middle
        resized = Image.open(path).convert("RGB").resize((80, 64), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(view.permute(1, 2, 0), np.asarray(resized)[4:60, 12:68])
    grey = next(view for path, view in zip(images.paths, found, strict=True) if path.endswith(".JPEG"))
    assert torch.equal(grey[0], grey[1])


def test_training_crop_depends_on_seed_epoch_and_sample_only(tmp_path: Path) -> None:
    write_folder(tmp_path, size=(300, 200))
    whole = data.load(spec(dataset="image_folder", root=tmp_path, image_size=32, validation=4)).train
    limited = data.load(spec(dataset="image_folder", root=tmp_path, image_size=32, validation=4, train_limit=3)).train
    views = whole.fetch(torch.arange(8), 1, 2, True)
    backwards = whole.fetch(torch.arange(7, -1, -1), 1, 2, True)
    assert torch.equal(views, backwards.flip(0))
    assert torch.equal(limited.fetch(torch.arange(3), 1, 2, True), views[:3])
    for other in (whole.fetch(torch.arange(8), 2, 2, True), whole.fetch(torch.arange(8), 1, 3, True)):
        assert (other != views).flatten(1).any(dim=1).all()


def test_training_crop_shows_the_part_that_was_drawn(tmp_path: Path) -> None:
    """A large JPEG, decoded at a fraction of its size, whose colours encode the position of a pixel."""
    from PIL import Image

    from st3sweep.data.augment import uniform
    from st3sweep.data.counter_rng import CROP
    from st3sweep.data.decode import CROP_DRAWS, crop_box

    across, down = np.meshgrid(np.linspace(0, 255, 800), np.linspace(0, 255, 600))
    ramp = np.stack([across, down, np.zeros_like(across)], axis=2).round().astype(np.uint8)
    for name in ("train/a", "train/b"):
        (tmp_path / name).mkdir(parents=True)
        for number in range(10):
            Image.fromarray(ramp).save(tmp_path / name / f"{number}.jpg", quality=95)
    images = data.load(spec(dataset="image_folder", root=tmp_path, image_size=40, validation=2)).train
    found = images.fetch(torch.arange(18), 7, 3, True).float()
    for index, sample in enumerate(images.sample_ids):
        draws = [uniform(7, 3, sample[None], CROP + draw).item() for draw in range(CROP_DRAWS)]
        left, top, width, height = crop_box(800, 600, draws, 0.08)
        middles = torch.arange(40) + 0.5
        wanted_across = (left + middles * width / 40 - 0.5) / 799 * 255
        wanted_down = (top + middles * height / 40 - 0.5) / 599 * 255
        inner = slice(2, 38)
        torch.testing.assert_close(found[index, 0].mean(dim=0)[inner], wanted_across[inner], atol=2.5, rtol=0)
        torch.testing.assert_close(found[index, 1].mean(dim=1)[inner], wanted_down[inner], atol=2.5, rtol=0)


def test_a_truncated_jpeg_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path)
    broken = tmp_path / "train" / "flower" / "3.jpg"
    broken.write_bytes(broken.read_bytes()[:700])
    splits = data.load(spec(dataset="image_folder", root=tmp_path, image_size=32, validation=1))
    for train in (True, False):
        with pytest.raises(DataError) as caught:
            splits.train.fetch(torch.arange(len(splits.train)), 0, 0, train)
        assert caught.value.field == "data.root"
        assert str(broken) in caught.value.message
        assert "truncated" in caught.value.message


def test_the_error_says_what_is_wrong_with_a_folder(tmp_path: Path) -> None:
    asked = {"dataset": "image_folder", "root": tmp_path, "validation": 2}
    assert "looked for train/<class>/ with images" in error_of(**asked).message
    (tmp_path / "train" / "one").mkdir(parents=True)
    (tmp_path / "train" / ".hidden").mkdir()
    assert "1 class folders; at least 2" in error_of(**asked).message
    (tmp_path / "train" / "two").mkdir()
    assert f"no images in {tmp_path / 'train' / 'one'}" in error_of(**asked).message
    shutil.rmtree(tmp_path / "train")
    write_folder(tmp_path)
    (tmp_path / "val" / "three").mkdir()
    assert f"{tmp_path / 'val' / 'three'} is a class that" in error_of(**asked).message
    shutil.rmtree(tmp_path / "val")
    (tmp_path / "val").mkdir()
    assert f"no images in {tmp_path / 'val'}" in error_of(**asked).message


# -- all of them ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "image_parquet", "image_folder", "imagenet"])
def test_a_root_that_is_not_a_folder(tmp_path: Path, dataset: str) -> None:
    missing = tmp_path / "missing"
    assert str(error_of(dataset=dataset, root=missing)) == f"data.root: no such folder: {missing}"
    missing.write_text("a file")
    assert str(error_of(dataset=dataset, root=missing)) == f"data.root: not a folder: {missing}"


def test_validation_and_limit_must_fit() -> None:
    error = error_of(dataset="digits", validation=1500)
    assert error.field == "data.validation"
    assert "1500 images requested, but the training set has 1500" in error.message
    error = error_of(dataset="digits", validation=1400, train_limit=101)
    assert error.field == "data.train_limit"
    assert "101 images requested, but 100 are left" in error.message
    assert data.inspect(spec(dataset="digits", validation=1400, train_limit=100)).train == 100
    assert error_of(dataset="digits", validation=0.0001).field == "data.validation"


def test_the_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(DataError("data.root", "no such folder: /x")))
    assert (error.field, error.message, str(error)) == (
        "data.root",
        "no such folder: /x",
        "data.root: no such folder: /x",
    )


def test_inspect_does_not_import_torch(tmp_path: Path) -> None:
    write_cifar_batches(tmp_path / "batches")
    write_folder(tmp_path / "folder")
    write_parquet(tmp_path / "parquet" / "train.parquet", [encoded(cut(i)) for i in range(4)], [0, 1, 0, 1])
    program = """
import sys
from st3sweep import data
from st3sweep.trial.data import DataConfig
root = sys.argv[1]
for fields in (
    {"dataset": "digits"},
    {"dataset": "cifar10", "root": root + "/batches", "validation": 5},
    {"dataset": "cifar100", "root": root, "download": True},
    {"dataset": "image_parquet", "root": root + "/parquet", "validation": 1},
    {"dataset": "image_folder", "root": root + "/folder", "validation": 1},
):
    data.inspect(DataConfig.parse(fields))
print(sorted({name.split(".")[0] for name in sys.modules} & {"torch", "torchvision", "sklearn", "ray", "optuna"}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
