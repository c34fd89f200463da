"""Load Parquet files of images: labels, sizes, test files, and the errors for malformed ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from loaded_data import all_pixels, assert_agree, counts, error_of, spec
from small_datasets import cut, encoded, write_parquet

from st3sweep import data
from st3sweep.data import DataError


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
